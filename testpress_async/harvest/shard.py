"""A shard: a small, JSON-able description of a read, named by the hash of its canonical JSON.

Streaming reads one shard, concurrency runs many, resuming skips those that are durably stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final

import msgspec

from testpress_async.errors import ConfigError
from testpress_async.models.enums import ContentAttemptState

DAY = timedelta(days=1)

SIDE_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "user_answers": ("exam_questions",),
    "content_attempts": (
        "user_videos",
        "user_exams",
        "courses",
        "chapter_contents",
        "user_video_conferences",
        "user_live_streams",
        "users",
    ),
}
"""What the server sends along, by the table that brings it."""

PARENTS: Final[Mapping[str, str]] = {
    "attempt_details": "attempts",
    "user_answers": "attempts",
    "attendance": "content_attempts",
}
"""Tables read once per parent, and the table that knows the parents."""

_STAGES: Final = {
    str(ContentAttemptState.STARTED.code): 0,
    str(ContentAttemptState.PENDING_EVALUATION.code): 1,
}
LAST_STAGE: Final = 2
"""Content attempts are started first, and what awaits evaluation is evaluated later."""

ROOTS: Final = ("exams", "attempts", "content_attempts")
READABLE: Final = (*ROOTS, *PARENTS)
TABLES: Final = (*READABLE, *(side for sides in SIDE_TABLES.values() for side in sides))


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """Days from *first* to *last*, both included; None: without end on that side.

    Windows partition the days as the *server* counts them, so that its time zone does not matter: any cut
    between two of its days is a cut between two windows, wherever its midnight lies.
    """

    first: date | None = None
    last: date | None = None

    @property
    def is_one_day(self) -> bool:
        return self.first is not None and self.first == self.last

    @property
    def is_empty(self) -> bool:
        return self.first is not None and self.last is not None and self.first > self.last

    def days(self) -> list[date]:
        """Every day of a window with two ends; none of one without."""
        if self.first is None or self.last is None:
            return []
        return [self.first + number * DAY for number in range((self.last - self.first).days + 1)]

    def may_hold(self, day: date) -> bool:
        """Whether a record of *day*, in whatever zone, can be in the window: a day more on either side."""
        return (self.first is None or day >= self.first - DAY) and (
            self.last is None or day <= self.last + DAY
        )

    def meet(self, other: Window) -> Window:
        """The days of both; may be empty."""
        firsts = [first for first in (self.first, other.first) if first is not None]
        lasts = [last for last in (self.last, other.last) if last is not None]
        return Window(max(firsts, default=None), min(lasts, default=None))

    def minus(self, others: Iterable[Window]) -> list[Window]:
        """What is left of the window without *others*, in order."""
        left: list[Window] = [self]
        for other in others:
            left = [rest for window in left for rest in _minus_one(window, other)]
        return left

    def cut_before(self, days: Iterable[date]) -> list[Window]:
        """The window in pieces, one beginning at each of *days* that lies inside it."""
        pieces, rest = list[Window](), self.meet(Window())
        for day in sorted(set(days)):
            before, after = rest.meet(Window(None, day - DAY)), rest.meet(Window(day, None))
            if not before.is_empty and not after.is_empty and (rest.first is None or day > rest.first):
                pieces.append(before)
                rest = after
        return [*pieces, rest]

    def halves(self, days: Sequence[date]) -> list[Window]:
        """The window in two or three, about the same number of its records in each.

        Args:
            days: Of the records known to be in it, in any order; without any, the calendar decides.
        """
        if self.is_one_day:
            return [self]
        inside = sorted(day for day in days if not self.meet(Window(day, day)).is_empty)
        if not inside:
            if self.first is None or self.last is None:
                return [self]
            return self.cut_before([self.first + (self.last - self.first + DAY) // 2])
        median = inside[len(inside) // 2]
        if median > inside[0]:
            return self.cut_before([median])
        return self.cut_before([median, median + DAY])  # half of them or more lie in the first day


class Shard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One read: a table with filters, or a table of one parent.

    Attributes:
        table: One of `READABLE`; its side tables come along.
        filters: Keyword filters of the resource's `list`, as sorted pairs of texts; days are in `window`.
        parent: Id of the attempt or conference; None for tables that are read as a whole.
        window: Days of the attempts' start, or the content attempts' completion, as the server counts days.
        undated: Only what has no date, which no window can hold.
        newest_first: Read in the reverse order, in which this server puts what has no date first.
        end_exclusive: Whether this server's `date_1` excludes the day it names; None: nobody has tried.
    """

    table: str
    filters: tuple[tuple[str, str], ...] = ()
    parent: int | None = None
    window: Window = Window()
    undated: bool = False
    newest_first: bool = False
    end_exclusive: bool | None = None

    @property
    def id(self) -> str:
        """16 hex digits; the same read has the same id everywhere."""
        return hashlib.blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=8).hexdigest()

    @property
    def family(self) -> tuple[str, tuple[tuple[str, str], ...], int | None, bool]:
        """Equal for shards that differ in their days only."""
        return self.table, self.filters, self.parent, self.undated

    @property
    def stage(self) -> int:
        """When to read it: after all of lower stages have been read.

        A content attempt that goes from state to state meanwhile would be missed by both reads, if the list
        it goes to were read before the list it leaves. So would an attempt without a date that starts now.
        """
        if self.table == "attempts":
            return LAST_STAGE if self.window.last is None and not self.undated else 0
        state = dict(self.filters).get("state", "") if self.table == "content_attempts" else ""
        return _STAGES.get(state, LAST_STAGE)

    def narrowed(self, name: str, value: str) -> Shard:
        """The same read with one filter more, or with another value of it."""
        filters = {**dict(self.filters), name: value}
        return msgspec.structs.replace(self, filters=tuple(sorted(filters.items())))

    def over(self, window: Window) -> Shard:
        """The same read of other days."""
        return msgspec.structs.replace(self, window=window)


def readable_tables(tables: tuple[str, ...]) -> tuple[str, ...]:
    """The tables to read so that *tables* are complete, parents first.

    Raises:
        ConfigError: A name is unknown.
    """
    wanted: set[str] = set()
    for table in tables:
        if table not in TABLES:
            raise ConfigError("tables", f"there is no table {table!r}; there are {', '.join(TABLES)}")
        source = next((name for name, sides in SIDE_TABLES.items() if table in sides), table)
        wanted.add(source)
        if source in PARENTS:
            wanted.add(PARENTS[source])
    return tuple(table for table in READABLE if table in wanted)


# --- windows -----------------------------------------------------------------------------------------


def _minus_one(window: Window, other: Window) -> list[Window]:
    shared = window.meet(other)
    if shared.is_empty:
        return [window]
    before = [] if shared.first is None else [window.meet(Window(None, shared.first - DAY))]
    after = [] if shared.last is None else [window.meet(Window(shared.last + DAY, None))]
    # A side that *window* itself does not have is no rest of it.
    before = before if window.first is None or (shared.first and window.first < shared.first) else []
    after = after if window.last is None or (shared.last and window.last > shared.last) else []
    return [each for each in (*before, *after) if not each.is_empty]


def covers(window: Window, others: Iterable[Window]) -> bool:
    """Whether *others* together hold every day of *window*."""
    return not window.minus(others)


def joined(windows: Iterable[Window]) -> list[Window]:
    """The same days in as few windows as possible, in order."""
    result: list[Window] = []
    for window in sorted(windows, key=lambda each: each.first or date.min):
        if result and _touch(result[-1], window):
            last = result[-1].last
            later = None if last is None or window.last is None else max(last, window.last)
            result[-1] = Window(result[-1].first, later)
        elif not window.is_empty:
            result.append(window)
    return result


def _touch(one: Window, other: Window) -> bool:
    """Whether no day lies between *one* and *other*, which begins no earlier."""
    return one.last is None or other.first is None or other.first <= one.last + DAY
