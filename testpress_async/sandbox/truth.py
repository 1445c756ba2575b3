"""What the institute really holds, told without a request: the measure of every reader."""

from __future__ import annotations

from collections.abc import Iterator

from testpress_async.sandbox.api import Api, attempts_query, content_query
from testpress_async.sandbox.data import CONFERENCE, ContentFacts
from testpress_async.sandbox.records import SIDE_LOADS, Record

TABLES = (
    "attempts",
    "attempt_details",
    "user_answers",
    "exam_questions",
    "content_attempts",
    *(f"content_attempts.{name}" for name in SIDE_LOADS),
    "attendance",
    "exams",
    "users",
    "courses",
)

_ATTEMPTS = ("attempts", "attempt_details")


class Truth:
    """Records and counts of every table, as they are now.

    `users` and `courses` are the lists of their own endpoints; what comes along with content attempts is
    named `content_attempts.users` and so on. Filters are the query parameters of the API, as text or
    number: `truth.count("attempts", exams=3, date_0="2024-01-01")`.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def count(self, table: str, *, parent: int | None = None, **filters: object) -> int:
        """How many records there are.

        Args:
            table: One of `TABLES`.
            parent: The attempt whose answers or questions, or the conference whose attendance, are
                meant; None for all of them.
        """
        if table in _ATTEMPTS:
            return sum(1 for _ in self._attempts(_params(filters)))
        return sum(1 for _ in self.records(table, parent=parent, **filters))

    def ids(self, table: str, *, parent: int | None = None, **filters: object) -> list[int]:
        """Ids of the records, in the order the API lists them; not for attendance, which has none."""
        if table in _ATTEMPTS:
            first = self._api.institute.settings.first_attempt_id
            return [first + index for index in self._attempts(_params(filters))]
        return [_id(record) for record in self.records(table, parent=parent, **filters)]

    def records(self, table: str, *, parent: int | None = None, **filters: object) -> Iterator[Record]:
        """The records as served, in the order the API lists them.

        Raises:
            KeyError: If there is no such table.
        """
        params = _params(filters)
        if table in _ATTEMPTS:
            render = self._api.attempt if table == "attempts" else self._api.attempt_detail
            return map(render, self._attempts(params))
        if table == "content_attempts":
            return (self._api.records.content_attempt(i, facts) for i, facts in self._contents(params))
        if table.startswith("content_attempts."):
            side_loads = self._api.records.side_loads(self._contents(params))
            return iter(side_loads[table.partition(".")[2]].values())
        if table in ("exams", "users", "courses"):
            return self._listed(table)
        return {
            "user_answers": self._user_answers,
            "exam_questions": self._exam_questions,
            "attendance": self._attendance,
        }[table](parent)

    def conference_ids(self) -> list[int]:
        """Conferences that some content attempt leads to."""
        contents = self._contents({"content_type": ["7"]})
        return sorted({facts.content_id % 1_000_000 for _, facts in contents if facts.kind == CONFERENCE})

    def export_counts(self) -> dict[str, int]:
        """Records by table of a full export: side-loads under their own names, each record once."""
        attempts = sum(1 for _ in self._attempts({}))
        counts = {
            "attempts": attempts,
            "attempt_details": attempts,
            "user_answers": sum(self._api.answer_count(index) for index in self._attempts({})),
            "exam_questions": self.count("exam_questions"),
            "content_attempts": sum(1 for _ in self._contents({})),
            "attendance": self.count("attendance"),
            "exams": self.count("exams"),
        }
        side_loads = self._api.records.side_loads(self._contents({}))
        return counts | {name: len(side_loads[name]) for name in SIDE_LOADS}

    # -- tables --------------------------------------------------------------------------------------

    def _attempts(self, params: dict[str, list[str]]) -> Iterator[int]:
        query, table = attempts_query(params, self._api.institute.settings), self._api.book.table
        for start in range(0, table.count(query), 1_000):
            yield from table.page(query, start, start + 1_000)

    def _contents(self, params: dict[str, list[str]]) -> Iterator[tuple[int, ContentFacts]]:
        query, table = content_query(params, self._api.institute.settings), self._api.contents
        for index in table.page(query, 0, table.count(query)):
            if facts := table.facts(index):
                yield index, facts

    def _user_answers(self, parent: int | None) -> Iterator[Record]:
        for index in self._attempts({}) if parent is None else [self._api.book.index(parent)]:
            yield from self._api.answers(index, 0, self._api.answer_count(index))["user_answers"]

    def _exam_questions(self, parent: int | None) -> Iterator[Record]:
        """Questions that come along with some attempt's answers, each once."""
        seen: set[int] = set()
        for index in self._attempts({}) if parent is None else [self._api.book.index(parent)]:
            facts = self._api.book.table.facts(index)
            if facts and facts.exam_id not in seen and (count := self._api.answer_count(index)):
                seen.add(facts.exam_id)
                yield from self._api.answers(index, 0, count)["exam_questions"]

    def _attendance(self, parent: int | None) -> Iterator[Record]:
        records = self._api.records
        for conference_id in self.conference_ids() if parent is None else [parent]:
            for number in range(records.seat_count(conference_id)):
                yield records.seat(conference_id, number)

    def _listed(self, table: str) -> Iterator[Record]:
        records, settings = self._api.records, self._api.institute.settings
        if table == "users":
            return map(records.user, range(settings.users))
        if table == "exams":
            return map(records.exam, range(1, settings.exams + 1))
        return map(records.course, range(1, settings.courses + 1))


def _params(filters: dict[str, object]) -> dict[str, list[str]]:
    return {name: [str(value)] for name, value in filters.items()}


def _id(record: Record) -> int:
    found = record["id"]
    assert isinstance(found, int)  # noqa: S101 - every table but attendance has whole ids
    return found
