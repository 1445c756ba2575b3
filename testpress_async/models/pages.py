"""Reading a page: from the bytes of an answer to records, or to the server's own bytes per record.

A page is decoded in one go. Only if that fails is it taken apart and decoded record by record, so that one
bad record costs one record. What is wrong with the page as a whole raises:

    not JSON at all (HTML, empty, cut off)           NotJSON
    JSON, but not {…, "results": …} as documented    DecodeFailed
    one bad record                                   `Reading.rejected`, nothing is raised here

`results` is a list in v2.5 of the API (and for attendance), an object of lists in v3: the records asked for
and the tables sent along with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Generic, TypeVar, cast

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

_BOM: Final = b"\xef\xbb\xbf"
_LARGEST: Final = 2**63 - 1
_NO_TABLES: Final[Mapping[str, Sequence[Record]]] = MappingProxyType({})
_PLACE: Final = " - at `$"

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
    rows: dict[str, list[Raw]]
    """Every list on the page by name, unknown ones too; that of the records asked for is always there.

    The pieces are windows into the page's body and keep it alive; `bytes(row)` or `row.copy()` detaches one.
    """
    rejected: tuple[DecodeFailed, ...] = ()
    """Records that are not UTF-8, and known tables that are no list; they are not in `rows`."""

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
        self._decoder: Decoder[R] = Decoder(record_type)

    def read(self, body: bytes) -> R:
        """
        The record.

        Raises:
            NotJSON: The answer is not JSON.
            DecodeFailed: It is not such a record; `path` says where, `raw` holds the answer.
        """
        body = body.removeprefix(_BOM)
        try:
            return self._decoder.decode(body)
        except _FAULTS as fault:
            _refuse_unless_json(body)
            raise _rejection(fault, "$", body) from fault


class PageReader(Generic[R]):
    """
    Reads the pages of one endpoint; built once, used by any number of tasks and threads.

    Args:
        table: Name of the records asked for; in v3 the key of their list.
        record_type: What they are.
        side_loads: In v3 the other lists to decode, by name. None for an endpoint that sends a plain list.
    """

    def __init__(
        self, table: str, record_type: type[R], *, side_loads: Mapping[str, type[Record]] | None = None
    ) -> None:
        self.table = table
        self.record_type = record_type
        self._side_loads = side_loads
        self._row: Decoder[R] = Decoder(record_type)
        self._side_rows = {name: Decoder(row_type) for name, row_type in (side_loads or {}).items()}
        self._list_page = _list_page_decoder(record_type)
        self._tables_page = _tables_page_decoder(table, record_type, side_loads or {})

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
        try:
            return self._read_list(body) if self._side_loads is None else self._read_tables(body)
        except _FAULTS:
            return self._read_by_record(body)

    def split(self, body: bytes) -> RawReading:
        """
        The page, taken apart into bytes per record; whether a record makes sense is not looked at.

        Raises:
            NotJSON: The answer is not JSON.
            DecodeFailed: It is not a page of this table; `raw` holds the answer.
        """
        body = body.removeprefix(_BOM)
        head, rows, rejected = self._take_apart(body)
        if not _is_utf8(body):
            for table in rows:
                rows[table], bad = _utf8_only(rows[table], self._path_of(table))
                rejected += bad
        return RawReading(head, rows, tuple(rejected))

    def _read_list(self, body: bytes) -> Reading[R]:
        page = self._list_page.decode(body)
        return Reading(_head(page), page.results)

    def _read_tables(self, body: bytes) -> Reading[R]:
        page = self._tables_page.decode(body)
        items: list[R] = getattr(page.results, self.table)
        tables: dict[str, list[Record]] = {n: getattr(page.results, n) or [] for n in self._side_rows}
        return Reading(_head(page), _joined(items, tables), tables)

    def _read_by_record(self, body: bytes) -> Reading[R]:
        head, rows, faults = self._take_apart(body)
        items, rejected_at = _decode_rows(self._row, rows[self.table], self._path_of(self.table))
        tables: dict[str, list[Record]] = {}
        rejected = [fault for _, fault in rejected_at]
        for name, decoder in self._side_rows.items():
            tables[name], bad = _decode_rows(decoder, rows.get(name, []), self._path_of(name))
            rejected += [fault for _, fault in bad]
        return Reading(head, _joined(items, tables), tables, (*rejected, *faults), tuple(rejected_at))

    def _take_apart(self, body: bytes) -> tuple[Head, dict[str, list[Raw]], list[DecodeFailed]]:
        """Head, pieces by table, and one error for each known side table that is no list."""
        try:
            if self._side_loads is None:
                listed = _list_envelope.decode(body)
                return _head(listed), {self.table: listed.results}, []
            tabled = _tables_envelope.decode(body)
            if self.table in tabled.results:
                return _head(tabled), tabled.results, []
        except _FAULTS:
            pass  # the slow way finds out what is wrong and forgives what it can
        return self._take_apart_with_care(body)

    def _take_apart_with_care(self, body: bytes) -> tuple[Head, dict[str, list[Raw]], list[DecodeFailed]]:
        page = _decoded(_envelope, body, "$", body)
        if self._side_loads is None:
            return _head(page), {self.table: _decoded(_rows, page.results, "$.results", body)}, []
        tables = _decoded(_tables, page.results, "$.results", body)
        if self.table not in tables:
            raise DecodeFailed("$.results", f"Object missing required field `{self.table}`", raw=body)
        rows = {self.table: _decoded(_rows, tables.pop(self.table), self._path_of(self.table), body)}
        faults: list[DecodeFailed] = []
        for name, piece in tables.items():
            try:
                rows[name] = _rows.decode(piece)
            except _FAULTS as fault:
                if name in self._side_rows and bytes(piece) != b"null":
                    faults.append(_rejection(fault, self._path_of(name), piece))
        return _head(page), rows, faults

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


def _refuse_unless_json(body: bytes) -> None:
    """
    Raises:
        NotJSON: The body is empty, cut off, HTML, not UTF-8 or otherwise no JSON text.
    """
    if not _is_utf8(body):
        raise NotJSON("$", "expected JSON, got bytes that are not UTF-8", raw=body)
    try:
        _syntax.decode(body)
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
        found = _identity.decode(piece).id
    except _FAULTS:
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


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
    return str(fault).partition(_PLACE)[0]


def _is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8_only(pieces: list[Raw], at: str) -> tuple[list[Raw], list[DecodeFailed]]:
    good: list[Raw] = []
    bad: list[DecodeFailed] = []
    for index, piece in enumerate(pieces):
        raw = bytes(piece)
        if _is_utf8(raw):
            good.append(piece)
        else:
            fault = DecodeFailed(f"{at}[{index}]", "Expected UTF-8 text", record_id=_id_in(raw), raw=raw)
            bad.append(fault)
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
