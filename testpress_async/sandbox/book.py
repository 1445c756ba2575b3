"""The attempts as they are now: what the seed says, and everything that was changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Literal

from testpress_async.sandbox.data import (
    ATTEMPT_STATES,
    DAY_US,
    NEVER,
    NOT_STARTED,
    RUNNING,
    AttemptFacts,
    Institute,
    day_start_us,
    to_us,
)
from testpress_async.sandbox.records import Record
from testpress_async.sandbox.settings import Clock, Live
from testpress_async.sandbox.store import Table

_STATE_OF_WORD = {word: code for code, word in ATTEMPT_STATES.items()}
_FACT_OF_FIELD = {
    "exam_id": "exam_id",
    "user_id": "user_id",
    "correct_answers_count": "correct",
    "incorrect_answers_count": "incorrect",
    "unanswered_count": "unanswered",
}

Kind = Literal["insert", "delete", "edit", "backdate"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to an attempt, `at_s` in the monotonic seconds of the clock."""

    at_s: float
    kind: Kind
    attempt_id: int


class Book:
    """Changes attempts, as the methods of `Sandbox` say, and remembers what was done."""

    def __init__(self, institute: Institute, clock: Clock) -> None:
        settings = institute.settings
        self.table: Table[AttemptFacts] = Table(
            settings.attempts,
            institute.attempt,
            by_date=(institute.attempt_order, institute.attempt_order.dated),
            posted=("exam_id", "user_id", "state"),
        )
        self.patches: dict[int, dict[str, object]] = {}
        self.history: list[Change] = []
        self._first_id = settings.first_attempt_id
        self._first_us = day_start_us(settings.first_day)
        self._newest_us = day_start_us(settings.last_day) + DAY_US
        self._clock = clock

    def index(self, attempt_id: int) -> int:
        """Index of an attempt that exists.

        Raises:
            LookupError: If there is none with that id.
        """
        index = attempt_id - self._first_id
        if self.table.facts(index) is None:
            raise LookupError(f"there is no attempt {attempt_id}")
        return index

    def insert(self, count: int, at: datetime | None, at_s: float | None = None) -> list[int]:
        ids: list[int] = []
        for _ in range(count):
            if at is None:
                self._newest_us = max(self._newest_us + 1, int(self._clock.wall_s() * 1_000_000))
            ids.append(self._add(self._newest_us if at is None else to_us(at), "insert", at_s))
        return ids

    def backdate(self, share: float, at_s: float | None = None) -> int:
        at_us = self._first_us + int((self._newest_us - self._first_us) * share)
        return self._add(at_us, "backdate", at_s)

    def delete(self, attempt_ids: Iterable[int], at_s: float | None = None) -> None:
        for attempt_id in attempt_ids:
            self.table.set(self.index(attempt_id), None)
            self._note("delete", attempt_id, at_s)

    def edit(self, attempt_id: int, changes: Mapping[str, object], at_s: float | None = None) -> None:
        index = self.index(attempt_id)
        facts = self.table.existing(index)
        served = dict(changes)
        if "date" in served:
            date = served.pop("date")
            facts = facts._replace(at_us=to_us(date) if isinstance(date, datetime) else NEVER)
        if "state" in served:
            facts = facts._replace(state=_STATE_OF_WORD.get(str(served["state"]), -1))
        numbers = {_FACT_OF_FIELD[name]: value for name, value in served.items() if name in _FACT_OF_FIELD}
        facts = facts._replace(**{name: value for name, value in numbers.items() if isinstance(value, int)})
        self.patches.setdefault(index, {}).update(served)
        self.table.set(index, facts)
        self._note("edit", attempt_id, at_s)

    def finish(self, attempt_id: int, at_s: float | None = None) -> None:
        facts = self.table.existing(self.index(attempt_id))
        changes: dict[str, object] = {"state": "Completed", "result": "Pass", "remaining_time": "0:00:00"}
        if facts.unanswered:
            changes |= {"correct_answers_count": facts.correct + 1, "unanswered_count": facts.unanswered - 1}
        self.edit(attempt_id, changes, at_s)

    def patched(self, index: int, record: Record) -> Record:
        """A rendered record with the fields that were edited."""
        return record | self.patches[index] if index in self.patches else record

    def any_id(self, random: Random) -> int | None:
        """Some attempt that exists; None if it is hard to find one."""
        for _ in range(100 if self.table.next_index else 0):
            index = random.randrange(self.table.next_index)
            if self.table.facts(index) is not None:
                return self._first_id + index
        return None

    def _add(self, at_us: int, kind: Kind, at_s: float | None) -> int:
        index = self.table.next_index
        facts = self.table.seeded(index)
        state = RUNNING if facts.state == NOT_STARTED else facts.state
        self.table.set(index, facts._replace(at_us=at_us, state=state))
        self._note(kind, self._first_id + index, at_s)
        return self._first_id + index

    def _note(self, kind: Kind, attempt_id: int, at_s: float | None) -> None:
        self.history.append(Change(self._clock.now_s() if at_s is None else at_s, kind, attempt_id))


class LiveChanges:
    """Applies the changes that are due, whenever somebody looks: no task, no timer."""

    def __init__(self, live: Live, book: Book, start_s: float) -> None:
        self._book = book
        self._random = Random(live.seed)
        self._start_s = start_s
        rates = {
            "insert": live.inserts_per_s,
            "delete": live.deletes_per_s,
            "edit": live.edits_per_s,
            "backdate": live.backdated_per_s,
        }
        self._rates = {kind: rate for kind, rate in rates.items() if rate}
        self._done = dict.fromkeys(self._rates, 0)

    def apply(self, now_s: float) -> None:
        """Bring the book up to *now_s*, event by event in the order of time."""
        while self._rates:
            kind = min(self._rates, key=self._due_s)
            if self._due_s(kind) > now_s:
                return
            self._apply_one(kind, self._due_s(kind))
            self._done[kind] += 1

    def _due_s(self, kind: str) -> float:
        return self._start_s + (self._done[kind] + 1) / self._rates[kind]

    def _apply_one(self, kind: str, at_s: float) -> None:
        if kind == "insert":
            self._book.insert(1, None, at_s)
        elif kind == "backdate":
            self._book.backdate(self._random.random(), at_s)
        elif (attempt_id := self._book.any_id(self._random)) is None:
            return
        elif kind == "delete":
            self._book.delete([attempt_id], at_s)
        else:
            self._book.finish(attempt_id, at_s)
