"""The API itself: path and parameters in, status and body out. No sockets, no clock.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from typing import TypeAlias
from urllib.parse import urlencode

import msgspec

from testpress_async.sandbox.book import Book
from testpress_async.sandbox.data import NEVER, ContentFacts, Institute
from testpress_async.sandbox.queries import BadFilter, Params, attempts_query, content_query
from testpress_async.sandbox.records import SIDE_LOADS, Record, Records
from testpress_async.sandbox.store import Query, Table


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is let in. `origin`: scheme and host it was sent to; `id`: the one in the path."""

    origin: str
    path: str
    params: Params
    id: int = 0


class Missing(Exception):
    """404, and why."""

    def __init__(self, detail: str = "Not found.") -> None:
        super().__init__(detail)
        self.detail = detail


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, msgspec.json.encode(body), headers or {})


Endpoint: TypeAlias = Callable[[Call], bytes]


class Api:
    """Every GET endpoint of the institute."""

    def __init__(self, institute: Institute, book: Book) -> None:
        self._settings = institute.settings
        self._dice = Random(institute.settings.seed)
        self.institute = institute
        self.records = Records(institute)
        self.book = book
        self.contents: Table[ContentFacts] = Table(
            institute.content_count,
            institute.content,
            posted=("user_id", "course_id", "content_id", "chapter_id", "kind", "exam_id", "state"),
        )
        self._pages: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._pages_version = 0
        self._endpoints: list[tuple[re.Pattern[str], Endpoint]] = [
            (re.compile(pattern), endpoint)
            for pattern, endpoint in (
                (r"/api/v2\.5/admin/attempts/", self._attempts),
                (r"/api/v3/admin/attempts/(\d+)/user_answers/", self._user_answers),
                (r"/api/v2\.5/admin/attempts/(\d+)/", self._attempt),
                (r"/api/v3/admin/chapter-content-attempts/", self._content_attempts),
                (r"/api/v3/admin/attempts/(\d+)/video-conference/", self._attendance),
                (r"/api/v2\.5/admin/exams/", self._exams),
                (r"/api/v2\.5/admin/exams/(\d+)/", self._exam),
                (r"/api/v2\.5/admin/users/", self._users),
                (r"/api/v2\.5/admin/courses/", self._courses),
            )
        ]

    def knows(self, path: str) -> bool:
        """Whether there is an endpoint at *path*."""
        return bool(self._route(path))

    def get(self, origin: str, path: str, params: Params) -> Reply:
        """The answer to a GET that is let in, for a path that `knows`."""
        kept = {name: values for name, values in params.items() if name not in self._settings.ignored_filters}
        key = (origin, path, urlencode(kept, doseq=True))
        body = self._remembered(key)
        if body is None:
            try:
                body = self._render(origin, path, kept)
            except BadFilter as exc:
                return json_reply(400, exc.errors)
            except Missing as exc:
                return json_reply(404, {"detail": exc.detail})
            self._remember(key, body)
        return Reply(200, body)

    def _render(self, origin: str, path: str, params: Params) -> bytes:
        endpoint, found = self._route(path)[0]
        return endpoint(Call(origin, path, params, *map(int, found.groups())))

    def _route(self, path: str) -> list[tuple[Endpoint, re.Match[str]]]:
        """The endpoint at *path* and what its pattern found; empty if there is none."""
        tried = ((endpoint, pattern.fullmatch(path)) for pattern, endpoint in self._endpoints)
        return [(endpoint, found) for endpoint, found in tried if found is not None]

    def _remembered(self, key: tuple[str, ...]) -> bytes | None:
        version = self.book.table.version + self.contents.version
        if self._pages_version != version or self._settings.unstable_ties:
            self._pages_version = version
            self._pages.clear()
        return self._pages.get(key)

    def _remember(self, key: tuple[str, ...], body: bytes) -> None:
        self._pages[key] = body
        while len(self._pages) > self._settings.cached_pages:
            self._pages.popitem(last=False)

    # -- endpoints -----------------------------------------------------------------------------------

    def _attempts(self, call: Call) -> bytes:
        query = attempts_query(call.params, self._settings)
        return self._page(
            call,
            self.book.table.count(query),
            self._settings.per_page,
            lambda start, stop: [self.attempt(index) for index in self._attempt_rows(query, start, stop)],
        )

    def _attempt(self, call: Call) -> bytes:
        return msgspec.json.encode(self.attempt_detail(self._attempt_index(call.id)))

    def _user_answers(self, call: Call) -> bytes:
        index = self._attempt_index(call.id)
        return self._page(
            call,
            self.answer_count(index),
            self._settings.answers_per_page,
            lambda start, stop: self.answers(index, start, stop),
        )

    def _content_attempts(self, call: Call) -> bytes:
        query = content_query(call.params, self._settings)

        def rows(start: int, stop: int) -> Record:
            facts = [(i, f) for i in self.contents.page(query, start, stop) if (f := self.contents.facts(i))]
            side_loads = self.records.side_loads(facts)
            return {
                "content_attempts": [self.records.content_attempt(index, found) for index, found in facts],
                **{name: list(side_loads[name].values()) for name in SIDE_LOADS},
            }

        return self._page(call, self.contents.count(query), self._settings.answers_per_page, rows)

    def _attendance(self, call: Call) -> bytes:
        if not 1 <= call.id <= self._settings.conferences:
            raise Missing
        return self._page(
            call,
            self.records.seat_count(call.id),
            self._settings.rows_per_page,
            lambda start, stop: [self.records.seat(call.id, number) for number in range(start, stop)],
        )

    def _exams(self, call: Call) -> bytes:
        exam_ids = range(1, self._settings.exams + 1)
        if _last(call, "ordering").startswith("-"):
            exam_ids = exam_ids[::-1]
        return self._page(
            call,
            len(exam_ids),
            self._settings.per_page,
            lambda start, stop: [self.records.exam(exam_id) for exam_id in exam_ids[start:stop]],
        )

    def _exam(self, call: Call) -> bytes:
        if not 1 <= call.id <= self._settings.exams:
            raise Missing
        return msgspec.json.encode(self.records.exam(call.id))

    def _users(self, call: Call) -> bytes:
        text, email = _last(call, "q").casefold(), _last(call, "email").casefold()
        everybody = range(self._settings.users)
        found = everybody
        if text or email:
            rows = ((number, self.records.user(number)) for number in everybody)
            found = [number for number, row in rows if _is_wanted(row, text, email)]
        return self._page(
            call,
            len(found),
            self._settings.rows_per_page,
            lambda start, stop: [self.records.user(number) for number in found[start:stop]],
        )

    def _courses(self, call: Call) -> bytes:
        text = _last(call, "q").casefold()
        rows = [self.records.course(number) for number in range(1, self._settings.courses + 1)]
        found = [row for row in rows if text in str(row["title"]).casefold()]
        return self._page(
            call, len(found), self._settings.rows_per_page, lambda start, stop: found[start:stop]
        )

    # -- records as they are now ---------------------------------------------------------------------

    def attempt(self, index: int) -> Record:
        """A row of the list of attempts, edits included."""
        facts = self.book.table.facts(index)
        assert facts is not None  # noqa: S101 - lists hold what exists
        return self.book.patched(index, self.records.attempt(index, facts))

    def attempt_detail(self, index: int) -> Record:
        """A single attempt, edits included."""
        facts = self.book.table.facts(index)
        assert facts is not None  # noqa: S101 - callers looked
        return self.book.patched(index, self.records.attempt_detail(index, facts))

    def answer_count(self, index: int) -> int:
        """How many user answers an attempt has."""
        facts = self.book.table.facts(index)
        return 0 if facts is None else self.records.answer_count(facts)

    def answers(self, index: int, start: int, stop: int) -> dict[str, list[Record]]:
        """User answers of one attempt, and the questions they answer."""
        facts = self.book.table.facts(index)
        assert facts is not None  # noqa: S101 - callers looked
        return {
            "user_answers": self.records.answers(index, facts, start, stop),
            "exam_questions": [self.records.question(facts.exam_id, order) for order in range(start, stop)],
        }

    def insert_content(self) -> int:
        """A new content attempt; its id."""
        index = self.contents.next_index
        self.contents.set(index, self.contents.seeded(index))
        return index + 1

    def delete_content(self, content_attempt_id: int) -> None:
        """Let a content attempt vanish.

        Raises:
            LookupError: If there is none with that id.
        """
        if self.contents.facts(content_attempt_id - 1) is None:
            raise LookupError(f"there is no content attempt {content_attempt_id}")
        self.contents.set(content_attempt_id - 1, None)

    def _attempt_rows(self, query: Query, start: int, stop: int) -> list[int]:
        if not self._settings.unstable_ties or query.order != "at_us":
            return self.book.table.page(query, start, stop)
        return self._with_shuffled_ties(query, start, min(stop, self.book.table.count(query)))

    def _with_shuffled_ties(self, query: Query, start: int, stop: int) -> list[int]:
        """A part of a list, after every group of ties it touches was shuffled as a whole."""
        table = self.book.table

        def at_us(index: int) -> int:
            facts = table.facts(index)
            return NEVER if facts is None else facts.at_us

        def tied(place: int) -> bool:
            """Whether the record at *place* ties with the one before."""
            return len({at_us(index) for index in table.page(query, place - 1, place + 1)}) == 1

        first, last, count = start, stop, table.count(query)
        while 0 < first < count and tied(first):
            first -= 1
        while 0 < last < count and tied(last):
            last += 1
        shuffled: list[int] = []
        for _, ties in groupby(table.page(query, first, last), key=at_us):
            group = list(ties)
            self._dice.shuffle(group)
            shuffled += group
        return shuffled[start - first : stop - first]

    def _attempt_index(self, attempt_id: int) -> int:
        try:
            return self.book.index(attempt_id)
        except LookupError:
            raise Missing from None

    def _page(self, call: Call, total: int, per_page: int, rows: Callable[[int, int], object]) -> bytes:
        page = _page_number(call)
        pages = max(1, -(-total // per_page))
        if page > pages:
            raise Missing("Invalid page.")
        return msgspec.json.encode(
            {
                "count": total,
                "next": self._link(call, page + 1) if page < pages else None,
                "previous": self._link(call, page - 1) if page > 1 else None,
                "per_page": per_page,
                "results": rows((page - 1) * per_page, min(total, page * per_page)),
            }
        )

    def _link(self, call: Call, page: int) -> str:
        """As `PageNumberPagination` links: the first page has no number."""
        params = {name: list(values) for name, values in sorted(call.params.items()) if name != "page"}
        if not self._settings.next_keeps_filters:
            params = {}
        if page > 1:
            params["page"] = [str(page)]
        query = urlencode(params, doseq=True)
        return f"{call.origin}{call.path}" + (f"?{query}" if query else "")


def _is_wanted(row: Record, text: str, email: str) -> bool:
    if email and str(row["email"]).casefold() != email:
        return False
    return any(text in str(row[name]).casefold() for name in ("username", "display_name", "email"))


def _last(call: Call, name: str) -> str:
    return (call.params.get(name) or ("",))[-1].strip()


def _page_number(call: Call) -> int:
    text = _last(call, "page") or "1"
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19) or int(text) < 1:
        raise Missing("Invalid page.")
    return int(text)
