"""Who did what when: the institute's facts as pure functions of (seed, index).

Nothing is stored, so ten million attempts cost no memory. A record's *index* counts from 0; its id is
`first_id + index`. Start times never fall as the index rises, so that a window of days is a range of
indexes and needs no search through the records.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

from testpress_async.sandbox.settings import Settings

ZONE_OFFSET_US = 19_800_000_000
"""Asia/Kolkata, +05:30, in microseconds: the zone of the institute's days."""
DAY_US = 86_400_000_000
NEVER = 1 << 62
"""Stands for "no date" and sorts behind every date, as NULL does in PostgreSQL."""

_NULL_EVERY, _NULL_AT = 97, 53  # attempts 53, 150, 247, … were never started
_MASK = (1 << 64) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# State words of attempts by code; the documentation numbers 0, 1 and 3 only.
ATTEMPT_STATES = {
    0: "Running",
    1: "Completed",
    3: "Not Started",
    4: "Did Not Finish",
    5: "Evaluation Completed",
}
CONTENT_STATES = {
    0: "Started",
    1: "Completed",
    2: "Pending Evaluation",
    3: "Evaluation Completed",
    9: "Expired",
}
RUNNING, COMPLETED, NOT_STARTED = 0, 1, 3

# Kinds of chapter content by the integer the filter takes; 0 stands for one without a published code.
EXAM, QUIZ, VIDEO, ATTACHMENT, NOTES, CONFERENCE, LIVE_STREAM, ASSIGNMENT = 1, 2, 3, 4, 5, 7, 8, 0
_KIND_OF_SLOT = (EXAM, VIDEO, EXAM, VIDEO, CONFERENCE, LIVE_STREAM, ATTACHMENT, NOTES, QUIZ, VIDEO)
_BIG_ID = 3_000_000_000


def mix(salt: int, number: int) -> int:
    """64 well-mixed bits. Source: splitmix64, https://prng.di.unimi.it/splitmix64.c"""
    z = (number * 0x9E3779B97F4A7C15 + salt) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def salt_of(seed: int, table: str) -> int:
    """What makes one table's bits differ from another's."""
    return mix(seed & _MASK, crc32(table.encode()))


def day_start_us(day: date) -> int:
    """Microseconds since the epoch at which *day* begins in Asia/Kolkata."""
    return (day.toordinal() - _EPOCH.toordinal()) * DAY_US - ZONE_OFFSET_US


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch; a naive *moment* is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


class AttemptFacts(NamedTuple):
    """What filters and orderings can ask of an attempt. `at_us`: its start, or NEVER."""

    exam_id: int
    user_id: int
    state: int
    at_us: int
    correct: int
    incorrect: int
    unanswered: int


class ContentFacts(NamedTuple):
    """What filters can ask of a content attempt. `at_us`: its completion, or NEVER."""

    user_id: int
    course_id: int
    chapter_id: int
    content_id: int
    exam_id: int
    kind: int
    state: int
    at_us: int
    created_us: int


class Calendar:
    """Spreads *count* events over days unevenly: a heavy tail, and one day with a twelfth of everything.

    `at_us(rank)` never falls; some neighbours share the very same microsecond.
    """

    def __init__(self, salt: int, count: int, first_day: date, last_day: date) -> None:
        days = last_day.toordinal() - first_day.toordinal() + 1
        weights = [1_000_000 // (20 + mix(salt, day) % 1_000) for day in range(days)]
        weights[mix(salt, -1) % days] += sum(weights) // 11
        total = sum(weights)
        first_us = day_start_us(first_day) + 1_000_000
        self._day_us = [first_us + day * DAY_US + mix(salt, day) % 1_000_000 for day in range(days)]
        self._before = [0, *(count * weight // total for weight in accumulate(weights))]

    def at_us(self, rank: int) -> int:
        """Microseconds since the epoch of the event *rank*, counted from 0."""
        day = bisect_right(self._before, rank) - 1
        start, stop = self._before[day], self._before[day + 1]
        within = rank - start
        if rank & 1 and within and (rank >> 1) % 13 == 0:
            within -= 1  # a tie with the event before
        at_us = self._day_us[day] + within * (DAY_US - 10_000_000) // (stop - start)
        # Fractions of 6, 3 or 0 digits, decided by the minute: rounding down inside it keeps the order.
        minute = at_us // 60_000_000 % 5
        return at_us - at_us % (1_000_000 if minute == 0 else 1_000 if minute == 1 else 1)


class ByDate(Sequence[int]):
    """Indexes of attempts, oldest start first, those never started last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.dated = count - nulls_before(count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:  # type: ignore[override]  # slices are not needed
        return dated_index(place) if place < self.dated else (place - self.dated) * _NULL_EVERY + _NULL_AT


def nulls_before(index: int) -> int:
    """How many attempts before *index* were never started."""
    return (index + _NULL_EVERY - 1 - _NULL_AT) // _NULL_EVERY


def dated_index(rank: int) -> int:
    """Index of the attempt that was started as the *rank*-th."""
    block, rest = divmod(rank, _NULL_EVERY - 1)
    return block * _NULL_EVERY + rest + (rest >= _NULL_AT)


class Institute:
    """The facts of every table, as the seed has them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._attempt_salt = salt_of(settings.seed, "attempts")
        self._content_salt = salt_of(settings.seed, "content_attempts")
        self.attempt_order = ByDate(settings.attempts)
        self.calendar = Calendar(
            salt_of(settings.seed, "days"), self.attempt_order.dated, settings.first_day, settings.last_day
        )
        self._questions = [
            5 + mix(self._attempt_salt, -exam_id) % 26 for exam_id in range(settings.exams + 1)
        ]
        if settings.exams > 1:
            self._questions[-1] = 260
        half = settings.attempts // 2
        self.content_count = half if settings.content_attempts is None else settings.content_attempts
        self.content_calendar = Calendar(
            salt_of(settings.seed, "content days"), self.content_count, settings.first_day, settings.last_day
        )
        # How many contents there are of each kind; one content per exam and per conference.
        self.contents = {
            EXAM: settings.exams,
            QUIZ: 4,
            VIDEO: 2 * settings.exams + 10,
            ATTACHMENT: 6,
            NOTES: 5,
            CONFERENCE: max(1, settings.conferences),
            LIVE_STREAM: 6,
            ASSIGNMENT: 2,
        }

    def user_id(self, number: int) -> int:
        """Id of the user *number*, counted from 0. Every seventh is beyond 2**31."""
        return _BIG_ID + number if number % 7 == 3 else number + 1

    def user_number(self, user_id: int) -> int:
        """The inverse of `user_id`; -1 if there is no such user."""
        number = user_id - (_BIG_ID if user_id >= _BIG_ID else 1)
        known = 0 <= number < self.settings.users and self.user_id(number) == user_id
        return number if known else -1

    def question_count(self, exam_id: int) -> int:
        """How many questions an exam has; the last exam needs a second page of answers."""
        return self._questions[exam_id % len(self._questions)]

    def attempt(self, index: int) -> AttemptFacts:
        """Facts of the attempt *index*, also beyond the institute's size, for attempts made later."""
        bits = mix(self._attempt_salt, index)
        exam_id = 1 + (bits & 0xFFFF) ** 2 * self.settings.exams // 0x1_0000_0000
        user = ((bits >> 16) & 0xFFFF) ** 2 * self.settings.users // 0x1_0000_0000
        questions = self.question_count(exam_id)
        if index % _NULL_EVERY == _NULL_AT:
            return AttemptFacts(exam_id, self.user_id(user), NOT_STARTED, NEVER, 0, 0, questions)
        dice = (bits >> 32) & 0x3FF
        state = COMPLETED if dice > 44 else RUNNING if dice > 11 else 4 if dice > 5 else 5
        answered = questions * ((bits >> 42) & 0x3F) // 60
        correct = min(questions, answered) * ((bits >> 48) & 0x3F) // 63
        incorrect = min(questions, answered) - correct
        at_us = NEVER
        if index < self.settings.attempts:
            at_us = self.calendar.at_us(index - nulls_before(index))
        return AttemptFacts(
            exam_id, self.user_id(user), state, at_us, correct, incorrect, questions - correct - incorrect
        )

    def content(self, index: int) -> ContentFacts:
        bits = mix(self._content_salt, index)
        kind = ASSIGNMENT if index % 500 == 99 else _KIND_OF_SLOT[index % 10]
        count = self.contents[kind]
        # Every conference is attended early, so that all of them can be found; the rest has a heavy tail.
        number = index // 10 % count if kind == CONFERENCE else (bits & 0xFFFF) ** 2 * count // 0x1_0000_0000
        user = ((bits >> 16) & 0xFFFF) ** 2 * self.settings.users // 0x1_0000_0000
        created_us = self._content_created_us(index)
        state = self._content_state(kind, (bits >> 32) & 0xFF)
        at_us = created_us + 1_000_000 + (bits >> 40) % 7_200_000_000 if state in (1, 3) else NEVER
        return ContentFacts(
            self.user_id(user),
            self.course_of(kind, number),
            self.chapter_of(kind, number),
            kind * 1_000_000 + number + 1,
            number + 1 if kind == EXAM else 0,
            kind,
            state,
            at_us,
            created_us,
        )

    def course_of(self, kind: int, number: int) -> int:
        return (number + kind) % self.settings.courses + 1

    def chapter_of(self, kind: int, number: int) -> int:
        return self.course_of(kind, number) * 10 + number % 5

    def _content_created_us(self, index: int) -> int:
        return self.content_calendar.at_us(min(index, self.content_count - 1)) if self.content_count else 0

    @staticmethod
    def _content_state(kind: int, dice: int) -> int:
        if dice == 0:
            return 9
        if kind in (EXAM, QUIZ, ASSIGNMENT) and dice < 30:
            return 2 + dice % 2
        return 0 if dice < 110 else 1
