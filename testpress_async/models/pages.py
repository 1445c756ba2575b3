"""Reading a page: from the bytes of an answer to records, or to the server's own bytes per record.

A page is decoded in one go. Only if that fails is it taken apart and decoded record by record, so that one
bad record costs one record. What is wrong with the page as a whole raises:

    not JSON at all (HTML, empty, cut off)           NotJSON
    JSON, but not {…, "results": …} as documented    DecodeFailed
    one bad record                                   `Reading.rejected`, nothing is raised here
    more than MAX_ROWS records or MAX_VALUES values  DecodeFailed, before they can fill the memory
    two `results`, or two lists of the records       DecodeFailed

Of any other key that comes twice the last one wins.

`results` is a list in v2.5 of the API (and for attendance), an object of lists in v3: the records asked for
and the tables sent along with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from functools import cached_property
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Raw, Struct, defstruct
from msgspec.json import Decoder

from testpress_async.errors import DecodeFailed, NotJSON

from .answers import ExamQuestion, UserAnswer
from .attempts import Attempt, AttemptDetail
from .contents import (
    ChapterContent,
    ContentAttempt,
    Course,
    UserExam,
    UserLiveStream,
    UserVideo,
    UserVideoConference,
)
from .exams import Exam
from .people import Attendance, User
from .record import HIDDEN, Discreet, JoinedRecord, Record, SideLoads, attach_side_loads

__all__ = [
    "ATTEMPTS",
    "ATTEMPT_DETAIL",
    "ATTENDANCE",
    "CONTENT_ATTEMPTS",
    "COURSES",
    "EXAMS",
    "USERS",
    "USER_ANSWERS",
    "Head",
    "PageReader",
    "RawReading",
    "Reading",
    "RecordReader",
]

R = TypeVar("R", bound=Record)
Row = TypeVar("Row", bound=Record)
T = TypeVar("T")

MAX_ROWS: Final = 50_000
"""Records a page may hold, those sent along included: two hundred times a usual page. A few bytes can ask for
a record of hundreds, so a bound on the body alone would not bound the memory."""
MAX_VALUES: Final = 500_000
"""Values a page may hold, whatever they are and wherever they stand."""
_SMALL_BYTES: Final = 512 * 1024
"""A body up to here cannot do harm and is not counted beforehand; usual pages have a quarter of it."""

_BOM: Final = b"\xef\xbb\xbf"
_TEXTS: Final = rb'(?s)"[^"\\]*(?:\\.[^"\\]*)*"'
_SURROGATE: Final = rb"\\u[dD][89a-fA-F]"
_ESCAPES: Final = (
    rb"(?s)\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair, as it should be
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_FEW_LISTS: Final = 64
_KEY_BYTES: Final = 64
_SPACE: Final = ord(" ")
_LARGEST: Final = 2**63 - 1
_NO_TABLES: Final[Mapping[str, Sequence[Record]]] = MappingProxyType({})
_PLACE: Final = " - at `$"
_WHOLE_PAIRS: Final = "Expected text, got half a surrogate pair"

# What msgspec raises over a body: its own errors are ValueErrors, so is the UnicodeDecodeError of a text that
# is not UTF-8; deep nesting is a RecursionError.
_FAULTS: Final = (ValueError, RecursionError)


class Head(Discreet, frozen=True):
    """What a page says of its listing. Values that cannot be true are None."""

    count: int | None = None
    """Records of the whole listing, in v3 most likely those of the primary table."""
    per_page: int | None = None
    """Records a full page has; what the server grants, whatever was asked for."""
    next: str | None = None
    """Address of the next page; None at the end."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        after = None if self.next is None else HIDDEN  # it repeats the filters: maybe a name or an address
        return [("count", self.count), ("per_page", self.per_page), ("next", after)]


class Reading(Discreet, Generic[R], frozen=True):
    """A page, decoded."""

    head: Head
    items: list[R]
    """The records asked for, in the server's order, without the rejected ones."""
    tables: Mapping[str, Sequence[Record]] = _NO_TABLES
    """The tables sent along, by name; empty for plain lists."""
    rejected: tuple[DecodeFailed, ...] = ()
    """One error per bad record, those of the side-loaded tables last."""
    rejected_at: tuple[tuple[int, DecodeFailed], ...] = ()
    """The bad ones among the records asked for, each with its index on the page."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        sizes = {name: len(rows) for name, rows in self.tables.items()}
        return [
            ("head", self.head),
            ("items", len(self.items)),
            ("tables", sizes),
            ("rejected", len(self.rejected)),
        ]


class RawReading(Discreet, frozen=True):
    """A page, taken apart into the server's own bytes, one piece per record and nothing decoded."""

    head: Head
    rows: dict[str, list[bytes]]
    """Every list on the page by name, unknown ones too; that of the records asked for is always there."""
    rejected: tuple[DecodeFailed, ...] = ()
    """Records with texts that are none, and known tables that are no list; they are not in `rows`."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        sizes = {name: len(rows) for name, rows in self.rows.items()}
        return [("head", self.head), ("rows", sizes), ("rejected", len(self.rejected))]


class _Wire(Struct):
    """What surrounds the records. Counts are judged by hand: an odd one must not cost a page."""

    count: object = None
    per_page: object = None
    next: str | None = None


class _Envelope(_Wire, kw_only=True):
    """A page of unknown inside."""

    results: Raw


class _ListEnvelope(_Wire, kw_only=True):
    """A page of v2.5, its records left as bytes."""

    results: list[Raw]


class _TablesEnvelope(_Wire, kw_only=True):
    """A page of v3, its records left as bytes."""

    results: dict[str, list[Raw]]


class _ListPage(_Wire, Generic[R], kw_only=True):
    """A page of v2.5; its decoder is made for each endpoint."""

    results: list[R]


class _TablesPage(_Wire, kw_only=True):
    """A page of v3; its decoder is made for each endpoint, `results` being a struct of lists."""

    results: Struct


class _Identity(Struct):
    id: object = None


class _Pieces(NamedTuple):
    """A page, taken apart. `halves`: some text holds half a surrogate pair, which is no character."""

    head: Head
    rows: dict[str, list[Raw]]
    faults: list[DecodeFailed]
    """One for each known side table that is no list."""
    halves: bool = False


_envelope: Final = Decoder(_Envelope)
_list_envelope: Final = Decoder(_ListEnvelope)
_tables_envelope: Final = Decoder(_TablesEnvelope)
_syntax: Final = Decoder(Raw)
_rows: Final = Decoder(list[Raw])
_tables: Final = Decoder(dict[str, Raw])
_identity: Final = Decoder(_Identity)


class RecordReader(Generic[R]):
    """Reads an answer that is one record."""

    def __init__(self, record_type: type[R]) -> None:
        self._record_type = record_type

    @cached_property
    def _decoder(self) -> Decoder[R]:
        return Decoder(self._record_type)

    def read(self, body: bytes) -> R:
        """
        The record.

        Raises:
            NotJSON: The answer is not JSON.
            DecodeFailed: It is not such a record; `path` says where, `raw` holds the answer.
        """
        body = body.removeprefix(_BOM)
        _refuse_too_many_values(body)
        try:
            return self._decoder.decode(body)
        except _FAULTS as fault:
            _refuse_unless_json(body)
            raise _rejection(fault, "$", body) from fault


class PageReader(Generic[R]):
    """
    Reads the pages of one endpoint; built once, used by any number of tasks and threads.

    Its decoders are made when they are first needed: all of them together are half of importing this.

    Args:
        table: Name of the records asked for; in v3 the key of their list.
        record_type: What they are.
        side_loads: In v3 the other lists to decode, by name. None for an endpoint that sends a plain list.
    """

    def __init__(
        self, table: str, record_type: type[R], *, side_loads: Mapping[str, type[Record]] | None = None
    ) -> None:
        self.table = table
        self._key = f'"{table}"'.encode()
        self.record_type = record_type
        self._side_loads = side_loads

    @cached_property
    def _row(self) -> Decoder[R]:
        return Decoder(self.record_type)

    @cached_property
    def _side_rows(self) -> dict[str, Decoder[Record]]:
        return {name: Decoder(row_type) for name, row_type in (self._side_loads or {}).items()}

    @cached_property
    def _list_page(self) -> Decoder[_ListPage[R]]:
        return _list_page_decoder(self.record_type)

    @cached_property
    def _tables_page(self) -> Decoder[_TablesPage]:
        return _tables_page_decoder(self.table, self.record_type, self._side_loads or {})

    def __repr__(self) -> str:
        return f"PageReader({self.table!r})"

    def read(self, body: bytes) -> Reading[R]:
        """
        The page, decoded. Bad records are left out and reported in `rejected`; a join to one is None.

        Raises:
            NotJSON: The answer is not JSON.
            DecodeFailed: It is not a page of this table; `raw` holds the answer.
        """
        body = body.removeprefix(_BOM)
        self._refuse_a_flood(body)
        try:
            reading = self._read_list(body) if self._side_loads is None else self._read_tables(body)
        except _FAULTS:
            return self._read_by_record(body)
        self._refuse_too_many_rows((reading.items, *reading.tables.values()), body)
        self._refuse_lists_sent_twice(body, careful=False)
        return reading

    def split(self, body: bytes) -> RawReading:
        """
        The page, taken apart into bytes per record; whether a record makes sense is not looked at.

        Raises:
            NotJSON: The answer is not JSON.
            DecodeFailed: It is not a page of this table; `raw` holds the answer.
        """
        body = body.removeprefix(_BOM)
        _refuse_too_many_values(body)
        head, pieces, rejected, halves = self._take_apart(body)
        rows = {table: list(map(bytes, found)) for table, found in pieces.items()}
        for table, found in rows.items():
            if halves or not _are_utf8(found):
                rows[table], bad = _with_texts_only(found, self._path_of(table))
                rejected += bad
        return RawReading(head, rows, tuple(rejected))

    def _read_list(self, body: bytes) -> Reading[R]:
        page = self._list_page.decode(body)
        return Reading(_head(page), page.results)

    def _read_tables(self, body: bytes) -> Reading[R]:
        page = self._tables_page.decode(body)
        items: list[R] = getattr(page.results, self.table)
        names = self._side_loads or ()
        tables: dict[str, list[Record]] = {name: getattr(page.results, name) or [] for name in names}
        return Reading(_head(page), _joined(items, tables), tables)

    def _read_by_record(self, body: bytes) -> Reading[R]:
        head, rows, faults, _ = self._take_apart(body)
        items, rejected_at = _decode_rows(self._row, rows[self.table], self._path_of(self.table))
        tables: dict[str, list[Record]] = {}
        rejected = [fault for _, fault in rejected_at]
        for name, decoder in self._side_rows.items():
            tables[name], bad = _decode_rows(decoder, rows.get(name, []), self._path_of(name))
            rejected += [fault for _, fault in bad]
        return Reading(head, _joined(items, tables), tables, (*rejected, *faults), tuple(rejected_at))

    def _take_apart(self, body: bytes) -> _Pieces:
        pieces = self._pieces_of(body)
        self._refuse_too_many_rows(pieces.rows.values(), body)
        self._refuse_lists_sent_twice(body, careful=True)
        return pieces

    def _pieces_of(self, body: bytes) -> _Pieces:
        try:
            if self._side_loads is None:
                listed = _list_envelope.decode(body)
                return _Pieces(_head(listed), {self.table: listed.results}, [])
            tabled = _tables_envelope.decode(body)
            if self.table in tabled.results:
                return _Pieces(_head(tabled), tabled.results, [])
        except _FAULTS:
            pass  # the slow way finds out what is wrong and forgives what it can
        return self._pieces_with_care(body)

    def _pieces_with_care(self, body: bytes) -> _Pieces:
        whole = _with_whole_pairs(body)
        if whole != body:
            head, rows, faults, _ = self._pieces_of(whole)
            return _Pieces(head, _as_sent(rows, whole, body), faults, halves=True)
        page = _decoded(_envelope, body, "$", body)
        if self._side_loads is None:
            return _Pieces(_head(page), {self.table: _decoded(_rows, page.results, "$.results", body)}, [])
        tables = _decoded(_tables, page.results, "$.results", body)
        if self.table not in tables:
            raise DecodeFailed("$.results", f"Object missing required field `{self.table}`", raw=body)
        rows = {self.table: _decoded(_rows, tables.pop(self.table), self._path_of(self.table), body)}
        faults: list[DecodeFailed] = []
        for name, piece in tables.items():
            try:
                rows[name] = _rows.decode(piece)
            except _FAULTS as fault:
                if name in (self._side_loads or ()) and bytes(piece) != b"null":
                    faults.append(_rejection(fault, self._path_of(name), piece))
        return _Pieces(_head(page), rows, faults)

    def _refuse_a_flood(self, body: bytes) -> None:
        """Before anything is made of it: a body of many tiny records, each of which takes much memory."""
        _refuse_too_many_values(body)
        if len(body) > _SMALL_BYTES and body.count(b",") >= MAX_ROWS:
            self._take_apart(body)

    def _refuse_too_many_rows(self, tables: Iterable[Sized], body: bytes) -> None:
        if sum(map(len, tables)) > MAX_ROWS:
            raise DecodeFailed("$.results", f"Expected at most {MAX_ROWS} records on a page", raw=body)

    def _refuse_lists_sent_twice(self, body: bytes, *, careful: bool) -> None:
        """A page with two lists of records: the parser takes the last one, and the rest would be lost.

        Each of two `results` that were decoded has a list of this table; *careful*: they were not.
        """
        if self._side_loads is None:
            suspicious = _lists_named_twice(b'"results"', body)
        else:
            suspicious = _occurs_twice(self._key, body) or (careful and _occurs_twice(b'"results"', body))
        if suspicious:
            page = _pairs(body)
            results = [value for name, value in page if name == "results"]
            _refuse_two("$.results", len(results), body)
            if self._side_loads is not None and isinstance(results[0], _Pairs):
                again = sum(name == self.table for name, _ in results[0])
                _refuse_two(self._path_of(self.table), again, body)

    def _path_of(self, table: str) -> str:
        return "$.results" if self._side_loads is None else f"$.results.{table}"


def _list_page_decoder(record_type: type[R]) -> Decoder[_ListPage[R]]:
    fields = [("results", list[record_type])]
    return cast("Decoder[_ListPage[R]]", Decoder(defstruct("Page", fields, bases=(_Wire,), kw_only=True)))


def _tables_page_decoder(
    table: str, record_type: type[Record], side_loads: Mapping[str, type[Record]]
) -> Decoder[_TablesPage]:
    side = [(name, list[row_type] | None, None) for name, row_type in side_loads.items()]
    results = defstruct("Results", [(table, list[record_type]), *side])
    page = defstruct("Page", [("results", results)], bases=(_Wire,), kw_only=True)
    return cast("Decoder[_TablesPage]", Decoder(page))


def _joined(items: list[R], tables: Mapping[str, Sequence[Record]]) -> list[R]:
    if items and isinstance(items[0], JoinedRecord) and any(tables.values()):
        attach_side_loads(cast("list[JoinedRecord]", items), SideLoads(tables))
    return items


def _decode_rows(
    decoder: Decoder[Row], pieces: list[Raw], at: str
) -> tuple[list[Row], list[tuple[int, DecodeFailed]]]:
    good: list[Row] = []
    bad: list[tuple[int, DecodeFailed]] = []
    for index, piece in enumerate(pieces):
        try:
            good.append(decoder.decode(piece))
        except _FAULTS as fault:
            bad.append((index, _rejection(fault, f"{at}[{index}]", piece)))
    return good, bad


def _decoded(decoder: Decoder[T], piece: bytes | Raw, at: str, body: bytes) -> T:
    """
    What lies at *at* of the page, without which there is no page.

    Raises:
        NotJSON, DecodeFailed: It is not there, or not what it should be.
    """
    try:
        return decoder.decode(piece)
    except _FAULTS as fault:
        _refuse_unless_json(body)
        raise DecodeFailed(at + _place(fault), _expectation(fault), raw=body) from fault


def _head(page: _Wire) -> Head:
    return Head(_number(page.count, least=0), _number(page.per_page, least=1), page.next or None)


def _number(value: object, *, least: int) -> int | None:
    """A count as the server gave it; None if it cannot be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if least <= value <= _LARGEST else None


class _Pairs(list[tuple[str, object]]):
    """A JSON object with every key it was sent with."""


_with_all_keys: Final = json.JSONDecoder(object_pairs_hook=_Pairs)


def _pairs(body: bytes) -> _Pairs:
    try:
        page: object = _with_all_keys.decode(body.decode("utf-8", "replace"))
    except _FAULTS:  # nesting or numbers that only matter to whoever asks for them
        return _Pairs()
    return page if isinstance(page, _Pairs) else _Pairs()


def _occurs_twice(text: bytes, body: bytes) -> bool:
    first = body.find(text)
    return body.rfind(text) > first


def _lists_named_twice(name: bytes, body: bytes) -> bool:
    """
    Whether there can be two lists of this name. A page has few lists besides, so it is enough to look at what
    stands before each bracket: four times as fast as looking for the name all over the page.
    """
    first = at = body.find(b"[")
    for _ in range(_FEW_LISTS):
        at = body.find(b"[", at + 1)
        if at < 0:
            return False
        if body[at - 1] <= _SPACE or body.rfind(name, max(first, at - _KEY_BYTES), at) >= 0:
            break
    return _occurs_twice(name, body)


def _refuse_two(path: str, lists: int, body: bytes) -> None:
    if lists > 1:
        raise DecodeFailed(path, f"Expected one list of records, got {lists} of that name", raw=body)


def _refuse_too_many_values(body: bytes) -> None:
    """
    Raises:
        DecodeFailed: There are more than MAX_VALUES.
    """
    if len(body) <= _SMALL_BYTES or body.count(b",") < MAX_VALUES:
        return
    values = at = 0
    for text in re.finditer(_TEXTS, body):  # commas within texts separate no values
        values += body.count(b",", at, text.start())
        at = text.end()
        if values >= MAX_VALUES:
            break
    if values + body.count(b",", at) >= MAX_VALUES:
        raise DecodeFailed("$", f"Expected at most {MAX_VALUES} values in an answer", raw=body)


def _with_whole_pairs(body: bytes) -> bytes:
    r"""*body* with U+FFFD for each half of a surrogate pair (`\ud800`); every byte keeps its place."""
    if not re.search(_SURROGATE, body):
        return body
    whole = bytearray(body)
    for escape in re.finditer(_ESCAPES, body):
        if escape["half"]:
            whole[escape.start() : escape.end()] = rb"\ufffd"
    return bytes(whole)


def _as_sent(rows: Mapping[str, list[Raw]], whole: bytes, body: bytes) -> dict[str, list[Raw]]:
    """The pieces of *body* that lie where *rows* lie in *whole*."""
    sent: dict[str, list[Raw]] = {}
    at = 0
    for table, pieces in rows.items():
        sent[table] = []
        for piece in map(bytes, pieces):
            at = whole.index(piece, at)
            sent[table].append(Raw(body[at : at + len(piece)]))
            at += len(piece)
    return sent


def _refuse_unless_json(body: bytes) -> None:
    """
    Raises:
        NotJSON: The body is empty, cut off, HTML, not UTF-8 or otherwise no JSON text.
    """
    if not _is_utf8(body):
        raise NotJSON("$", "expected JSON, got bytes that are not UTF-8", raw=body)
    try:
        _syntax.decode(_with_whole_pairs(body))
    except RecursionError:
        return
    except ValueError as fault:
        raise NotJSON("$", f"expected JSON, got {_look_of(body)} ({fault})", raw=body) from fault


def _look_of(body: bytes) -> str:
    start = body[:256].lstrip()
    if not start:
        return "an empty body"
    return "what looks like HTML" if start.startswith(b"<") else "something else"


def _rejection(fault: Exception, at: str, piece: bytes | Raw) -> DecodeFailed:
    raw = bytes(piece)
    return DecodeFailed(at + _place(fault), _expectation(fault), record_id=_id_in(raw), raw=raw)


def _id_in(piece: bytes) -> int | None:
    try:
        found = _identity.decode(_with_whole_pairs(piece)).id
    except _FAULTS:
        return None
    return _number(found, least=-_LARGEST - 1)


def _place(fault: Exception) -> str:
    """Where in the piece, such as `.sections[2].score`; "" for all of it. Keys of mappings read `[...]`."""
    if not isinstance(fault, msgspec.ValidationError):
        return ""
    return str(fault).partition(_PLACE)[2].removesuffix("`")


def _expectation(fault: Exception) -> str:
    """What was expected; msgspec names types, never values."""
    if isinstance(fault, UnicodeDecodeError):
        return "Expected UTF-8 text"
    if isinstance(fault, RecursionError):
        return "Expected less deep nesting"
    if isinstance(fault, msgspec.DecodeError) and not isinstance(fault, msgspec.ValidationError):
        return _WHOLE_PAIRS  # all else that is no JSON has been refused before
    return str(fault).partition(_PLACE)[0]


def _is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _are_utf8(rows: list[bytes]) -> bool:
    # A space between them, so that the end of one and the beginning of another do not make a character.
    return _is_utf8(b" ".join([row for row in rows if not row.isascii()]))


def _with_texts_only(rows: list[bytes], at: str) -> tuple[list[bytes], list[DecodeFailed]]:
    good: list[bytes] = []
    bad: list[DecodeFailed] = []
    for index, row in enumerate(rows):
        if not _is_utf8(row):
            expected = "Expected UTF-8 text"
        elif _with_whole_pairs(row) != row:
            expected = _WHOLE_PAIRS
        else:
            good.append(row)
            continue
        bad.append(DecodeFailed(f"{at}[{index}]", expected, record_id=_id_in(row), raw=row))
    return good, bad


ATTEMPTS: Final = PageReader("attempts", Attempt)
ATTEMPT_DETAIL: Final = RecordReader(AttemptDetail)
USER_ANSWERS: Final = PageReader("user_answers", UserAnswer, side_loads={"exam_questions": ExamQuestion})
CONTENT_ATTEMPTS: Final = PageReader(
    "content_attempts",
    ContentAttempt,
    side_loads={
        "user_videos": UserVideo,
        "user_exams": UserExam,
        "courses": Course,
        "chapter_contents": ChapterContent,
        "user_video_conferences": UserVideoConference,
        "user_live_streams": UserLiveStream,
        "users": User,
    },
)
ATTENDANCE: Final = PageReader("attendance", Attendance)
EXAMS: Final = PageReader("exams", Exam)
USERS: Final = PageReader("users", User)
COURSES: Final = PageReader("courses", Course)
