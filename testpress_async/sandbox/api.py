"""The API itself: path and parameters in, status and body out. No sockets, no clock.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts. What the documentation leaves
open was decided as django-filter does: days are days of Asia/Kolkata, both ends included; several ids may
be given with commas or by repeating the parameter; an empty value and an unknown parameter say nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import groupby
from random import Random
from typing import TypeAlias
from urllib.parse import urlencode

import msgspec

from testpress_async.sandbox.book import Book
from testpress_async.sandbox.data import (
    CONTENT_STATES,
    DAY_US,
    NEVER,
    ZONE_OFFSET_US,
    ContentFacts,
    Institute,
    day_start_us,
)
from testpress_async.sandbox.records import SIDE_LOADS, Record, Records
from testpress_async.sandbox.settings import Settings
from testpress_async.sandbox.store import Query, Table

Params: TypeAlias = Mapping[str, Sequence[str]]
"""Values by parameter, in the order they were given."""


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
                return json_reply(404, {"detail": str(exc)})
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
            raise Missing("Not found.")
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
            raise Missing("Not found.")
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
        return self.book.patched(index, self.records.attempt(index, self.book.table.existing(index)))

    def attempt_detail(self, index: int) -> Record:
        """A single attempt, edits included."""
        return self.book.patched(index, self.records.attempt_detail(index, self.book.table.existing(index)))

    def answer_count(self, index: int) -> int:
        facts = self.book.table.facts(index)
        return 0 if facts is None else self.records.answer_count(facts)

    def answers(self, index: int, start: int, stop: int) -> dict[str, list[Record]]:
        facts = self.book.table.existing(index)
        return {
            "user_answers": self.records.answers(index, facts, start, stop),
            "exam_questions": [self.records.question(facts.exam_id, order) for order in range(start, stop)],
        }

    def insert_content(self) -> int:
        index = self.contents.next_index
        self.contents.set(index, self.contents.seeded(index))
        return index + 1

    def complete_content(self, content_attempt_id: int, at_us: int) -> None:
        facts = self.contents.facts(content_attempt_id - 1)
        if facts is None or facts.state != 0:
            raise LookupError(f"there is no started content attempt {content_attempt_id}")
        self.contents.set(content_attempt_id - 1, facts._replace(state=1, at_us=at_us))

    def delete_content(self, content_attempt_id: int) -> None:
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
            raise Missing("Not found.") from None

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
        filters = {name: values for name, values in sorted(call.params.items()) if name != "page"}
        query = urlencode(filters, doseq=True) if self._settings.next_keeps_filters else ""
        return page_link(call.origin, call.path, query, page)


def page_link(origin: str, path: str, filters: str, page: int) -> str:
    """As `PageNumberPagination` links: the first page has no number."""
    pairs = "&".join(filter(None, [filters, f"page={page}" if page > 1 else ""]))
    return f"{origin}{path}" + (f"?{pairs}" if pairs else "")


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


# -- query parameters → `Query`, refused as Django REST framework refuses them ----------------------------

ATTEMPT_ORDERS = {
    "date": "at_us",
    "id": "",
    "correct_answers_count": "correct",
    "incorrect_answers_count": "incorrect",
    "unanswered_count": "unanswered",
    # As the documentation prints them.
    "correctanswers_count": "correct",
    "correct answers_count": "correct",
    "incorrectanswers_count": "incorrect",
    "incorrectLanswers_count": "incorrect",
}
_ATTEMPT_STATES = (0, 1, 3)
_CONTENT_TYPES = (1, 2, 3, 4, 5, 7, 8)


class BadFilter(Exception):
    """A filter's value means nothing; `errors` is the body of the 400: parameter → sentences."""

    def __init__(self, parameter: str, sentence: str) -> None:
        super().__init__(f"{parameter}: {sentence}")
        self.errors = {parameter: [sentence]}


def attempts_query(params: Params, settings: Settings) -> Query:
    """What the list of attempts is asked for.

    Raises:
        BadFilter: If a value cannot be understood.
    """
    since_us, until_us = _window(_day(params, "date_0"), _day(params, "date_1"), settings)
    order, descending = _ordering(params)
    return Query(
        _where(
            exam_id=_ids(params, "exams"),
            user_id=_ids(params, "users"),
            state=_choice(params, "state", _ATTEMPT_STATES),
        ),
        since_us,
        until_us,
        order,
        descending,
    )


def content_query(params: Params, settings: Settings) -> Query:
    """What the list of content attempts is asked for.

    Raises:
        BadFilter: If a value cannot be understood.
    """
    since_us, until_us = _window(_day(params, "completed_after"), _day(params, "completed_before"), settings)
    day = _day(params, "completed_date")
    if day is not None:
        start_us, stop_us = _window(day, day, replace(settings, until_inclusive=True))
        since_us = max(filter(None, (since_us, start_us)))
        until_us = min(filter(None, (until_us, stop_us)))
    return Query(
        _where(
            user_id=_ids(params, "user_ids"),
            chapter_id=_ids(params, "chapter_ids"),
            course_id=_ids(params, "course_ids"),
            content_id=_ids(params, "chapter_content_ids"),
            exam_id=_ids(params, "exam_id"),
            kind=_choice(params, "content_type", _CONTENT_TYPES),
            state=_choice(params, "state", [code for code in CONTENT_STATES if code < 4]),
        ),
        since_us,
        until_us,
    )


def _window(since: date | None, until: date | None, settings: Settings) -> tuple[int | None, int | None]:
    """Microseconds since the epoch at which the first day begins and the last one is over."""
    shift_us = ZONE_OFFSET_US - settings.utc_offset_min * 60_000_000
    until_us = None if until is None else day_start_us(until) + shift_us + DAY_US * settings.until_inclusive
    return None if since is None else day_start_us(since) + shift_us, until_us


def _where(**fields: frozenset[int] | None) -> tuple[tuple[str, frozenset[int]], ...]:
    return tuple((field, values) for field, values in sorted(fields.items()) if values is not None)


def _ids(params: Params, name: str) -> frozenset[int] | None:
    texts = [text.strip() for value in params.get(name, ()) for text in value.split(",") if text.strip()]
    try:
        return frozenset(int(text) for text in texts) or None
    except ValueError:
        raise BadFilter(name, "Enter a number.") from None


def _choice(params: Params, name: str, choices: Sequence[int]) -> frozenset[int] | None:
    values = _ids(params, name)
    for value in sorted((values or frozenset()).difference(choices)):
        raise BadFilter(name, f"Select a valid choice. {value} is not one of the available choices.")
    return values


def _day(params: Params, name: str) -> date | None:
    text = (params.get(name) or ("",))[-1].strip()
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise BadFilter(name, "Enter a valid date.") from None


def _ordering(params: Params) -> tuple[str, bool]:
    """Field and direction; an unknown name leaves the order as it is, as `OrderingFilter` does."""
    text = (params.get("ordering") or ("",))[-1].split(",")[0].strip()
    order = ATTEMPT_ORDERS.get(text.removeprefix("-"))
    return ("", False) if order is None else (order, text.startswith("-"))
