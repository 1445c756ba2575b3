"""Request limits as the server counts them: known ones, and ones learned from its 429s.

A limit here is a window, "at most N requests in any P seconds", because that is what the server enforces
(Django REST framework keeps a log of accepted requests per user). `Window` keeps the mirror image of that
log. A request enters the mirror when its answer came, which is later than the server's own stamp, and one in
flight counts as well; so the server's window never holds more than the mirror, whatever its clock says: a
sole user with a known limit gets no 429 at all. The price is a share RTT / P of the budget.

Learning from a 429 with `Retry-After: r` at t: the server waits for its oldest entry to leave, so that entry
lies in [t+r-1-P, t+r-P] (r is rounded up). P is the smallest usual period for which one of our requests is
there, N the number of ours in the last P. Several periods give several mirrors. After long calm a mirror
probes for more: +1, then doubling, until a 429 shows the edge.

Arithmetic only: the caller passes the time in, and does the waiting (`gate`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from testpress_async.errors import ConfigError

USUAL_PERIODS_S = (
    1.0,
    60.0,
    3600.0,
    86400.0,
)  # all that Django REST framework can express: s, min, hour, day
RESOLUTION = 1e-4  # of a period: requests closer together share one entry, so no log passes 10,000 entries
CLOCK_DRIFT = 1e-4  # of a period: two honest clocks drift apart by less
MAX_PAUSE_S = 86400.0  # the longest usual period; a server that asks for more is not believed
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0  # pauses after 429s that name no time
MATCH_SLACK_S = 0.2  # for the way there and back when an own request is matched with Retry-After
MAX_PROBE_AFTER = 8  # times `probe_after`: how rare failing probes can become


class Limit(msgspec.Struct, frozen=True):
    """At most `requests` in any `per_s` seconds."""

    requests: int
    per_s: float


class RatePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How fast requests may go. Without a known limit it is learned from the server's 429s.

    Attributes:
        requests, per_s: A known limit: at most so many requests in any so many seconds. It is never probed
            beyond. None: learn it.
        limits: More known limits as pairs (requests, per_s), for servers with several.
        max_wait_s: Longest wait of an "interactive" call before it gets `RateLimited`, in seconds.
        probe_after: Accepted requests at a learned limit before one more is tried. Smaller finds a raised
            limit sooner, larger causes fewer 429s.
    """

    requests: int | None = None
    per_s: float | None = None
    limits: tuple[tuple[int, float], ...] = ()
    max_wait_s: float = 5.0
    probe_after: int = 2000

    def __post_init__(self) -> None:
        if (self.requests is None) != (self.per_s is None):
            raise ConfigError("RatePolicy", "requests and per_s come together")
        for limit in self.known:
            if limit.requests < 1:
                raise ConfigError("RatePolicy(requests)", "expected at least 1")
            if not (math.isfinite(limit.per_s) and limit.per_s > 0):
                raise ConfigError("RatePolicy(per_s)", "expected a finite number of seconds above 0")
        if not self.max_wait_s >= 0:
            raise ConfigError("RatePolicy(max_wait_s)", "expected a number of at least 0")
        if self.probe_after < 1:
            raise ConfigError("RatePolicy(probe_after)", "expected at least 1")

    @property
    def known(self) -> tuple[Limit, ...]:
        """All limits given."""
        first = () if self.requests is None or self.per_s is None else ((self.requests, self.per_s),)
        return tuple(Limit(requests, per_s) for requests, per_s in (*first, *self.limits))


class _Age:
    """The part of the log that is younger than one period and older than the one before it."""

    __slots__ = ("counts", "gone", "keep_s", "merge_until_s", "peak", "period_s", "times_s", "width_s")

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.keep_s = period_s * (1 + CLOCK_DRIFT)
        self.width_s = period_s * RESOLUTION
        self.times_s: deque[float] = deque()  # of the youngest request in each entry
        self.counts: deque[int] = deque()
        self.merge_until_s = -math.inf
        self.gone = 0  # requests that have left this period, ever
        self.peak = 0  # the most that were ever in it at once without complaint

    def push(self, time_s: float, count: int) -> None:
        if time_s < self.merge_until_s:
            self.times_s[-1] = time_s
            self.counts[-1] += count
            return
        self.times_s.append(time_s)
        self.counts.append(count)
        self.merge_until_s = time_s + self.width_s

    def pop(self) -> tuple[float, int]:
        count = self.counts.popleft()
        self.gone += count
        if not self.counts:
            self.merge_until_s = -math.inf
        return self.times_s.popleft(), count


class History:
    """When requests were accepted, for several periods at once, in bounded memory.

    Entries move from age to age as they grow older, and merge on the way: an entry's place is that of its
    youngest request, so counts err on the safe side by at most `RESOLUTION` of the period. At most 10,000
    entries for each period, a few megabytes in all, however fast requests come.
    """

    def __init__(self, periods_s: Iterable[float]) -> None:
        self.ages = [_Age(period_s) for period_s in sorted(set(periods_s))]
        self.added = 0
        self._youngest = self.ages[0]

    def add(self, now_s: float) -> None:
        """One more was accepted."""
        self.added += 1
        youngest = self._youngest
        if now_s < youngest.merge_until_s:
            youngest.times_s[-1] = now_s
            youngest.counts[-1] += 1
            return
        youngest.push(now_s, 1)
        if youngest.times_s[0] + 1.25 * youngest.keep_s <= now_s:  # rarely: nobody has asked for a count
            self.advance(now_s)

    def advance(self, now_s: float) -> None:
        """Let everything grow old enough for *now_s*. Counts are those of the last call."""
        older: _Age | None
        for age, older in pairwise([*self.ages, None]):
            assert age is not None
            age.peak = max(age.peak, self.added - age.gone)
            while age.times_s and age.times_s[0] + age.keep_s <= now_s:
                moved = age.pop()
                if older is not None:
                    older.push(*moved)

    def count(self, index: int) -> int:
        """Accepted in the last period number *index*."""
        return self.added - self.ages[index].gone

    def leaves_s(self, index: int, nth: int) -> float | None:
        """When the *nth* oldest request (from 1) leaves period number *index*; None if fewer are in it."""
        for age in reversed(self.ages[: index + 1]):
            inside = self.count_of(age)
            if nth > inside:
                nth -= inside
                continue
            for time_s, count in zip(age.times_s, age.counts, strict=True):
                nth -= count
                if nth <= 0:
                    return time_s + self.ages[index].keep_s
        return None

    def count_of(self, age: _Age) -> int:
        """Requests of exactly this age."""
        index = self.ages.index(age)
        return self.count(index) - (self.count(index - 1) if index else 0)

    def any_between(self, from_s: float, to_s: float) -> bool:
        """Whether something was accepted in that time, as exactly as the log still knows."""
        for age in self.ages:
            times_s = list(age.times_s)
            at = bisect_left(times_s, from_s)
            if at < len(times_s) and times_s[at] <= to_s + age.width_s:
                return True
        return False

    def forget_peaks(self) -> None:
        """What was possible before says nothing about now."""
        for index, age in enumerate(self.ages):
            age.peak = self.count(index)
