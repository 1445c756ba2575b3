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

import msgspec

from testpress_async.errors import ConfigError

# All that Django REST framework can express: second, minute, hour, day.
USUAL_PERIODS_S = (1.0, 60.0, 3600.0, 86400.0)
RESOLUTION = 1e-4  # of a period: requests closer together share one entry, so no log passes 10,000 entries
CLOCK_DRIFT = 1e-4  # of a period: two honest clocks drift apart by less
MAX_PAUSE_S = 86400.0  # the longest usual period; a server that asks for more is not believed
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0  # pauses after 429s that name no time
MATCH_SLACK_S = 0.2  # for ways of different lengths, when an own request is matched with Retry-After
STEEP = 0.75  # a limit that falls below this share of itself at one blow is not believed for long
USED_UP = 0.8  # a limit of which less is used hardly caused a 429
UNLIMITED = 2**31
WARY = 2  # in flight when something uncertain is tried: all of them may come back as 429s
WIDE = 64  # after caution, so many in flight at once without a 429 end it
FEW = 4  # requests: a limit learned from fewer may be what a predecessor left over; a fair share can be 7
STUBBORN = 10  # periods without anything accepted, until a learned period is thought too short
LUCK = 4  # raises in a row that may go well at the cost of others; after more there is room indeed
MOST_RARELY = 4  # times `probe_after`: how rare failing raises can become


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


class Age:
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
        self.ages = [Age(period_s) for period_s in sorted(set(periods_s))]
        self.added = 0
        self.due_s = math.inf  # when the next entry grows out of its age
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
        self.due_s = min(self.due_s, now_s + youngest.keep_s)
        if (
            self.due_s + 0.25 * youngest.keep_s <= now_s
        ):  # nobody has asked for a count: tidy up, not each time
            self.advance(now_s)

    def advance(self, now_s: float) -> None:
        """Let everything grow as old as it is at *now_s*. Counts are those of the last call."""
        for age, older in zip(self.ages, (*self.ages[1:], None), strict=True):
            age.peak = max(age.peak, self.added - age.gone)
            while age.times_s and age.times_s[0] + age.keep_s <= now_s:
                time_s, count = age.pop()
                if older is not None:
                    older.push(time_s, count)
        self.due_s = min((age.times_s[0] + age.keep_s for age in self.ages if age.times_s), default=math.inf)

    def count(self, index: int) -> int:
        """Accepted in the last period number *index*."""
        return self.added - self.ages[index].gone

    def leaves_s(self, index: int, nth: int) -> float | None:
        """When the *nth* oldest request (from 1) leaves period number *index*; None if fewer are in it."""
        keep_s = self.ages[index].keep_s
        for younger in range(index, -1, -1):
            inside = self.count(younger) - (self.count(younger - 1) if younger else 0)
            if nth > inside:
                nth -= inside
                continue
            for time_s, count in zip(self.ages[younger].times_s, self.ages[younger].counts, strict=True):
                nth -= count
                if nth <= 0:
                    return time_s + keep_s
        return None

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


class Mirror:
    """One limit: N requests in period number `index` of the history, and how sure N is."""

    __slots__ = (
        "_ceiling",
        "_clean",
        "_full",
        "_highest",
        "_lowest",
        "_most_windows",
        "_own",
        "_probe_after",
        "_proven",
        "_rarely",
        "_return_to",
        "age",
        "binding_until_s",
        "born_with",
        "given",
        "index",
        "limit",
        "raises",
    )

    def __init__(self, index: int, age: Age, limit: int, *, probe_after: int, given: bool = False) -> None:
        self.index, self.age, self.limit, self.given = index, age, limit, given
        self._ceiling = limit if given else UNLIMITED
        self._probe_after = probe_after
        self._most_windows = max(128.0, 7200 / age.period_s)
        self._rarely = 1  # a factor of that, doubled by every raise that fails
        self._proven = limit  # the limit before the raises that are still on trial
        self.raises = 0  # in a row, without a 429
        self.binding_until_s = -math.inf  # a period after it last held something back
        self._clean = 0  # accepted since the limit last changed, while it was binding
        self._full = 0  # of these, those that left the window full
        self.born_with: list[int] = []  # our requests in every period when it was learned
        self._return_to = 0  # an earlier limit, to be tried once after a clean window; 0: none
        self._own, self._lowest, self._highest = limit, 1, UNLIMITED

    @property
    def unproven(self) -> bool:
        """Whether the limit has not been used up for a whole window since it changed."""
        return self._clean < self.limit

    def held(self, *, full: bool) -> bool:
        """One was accepted while the limit was binding. True if the limit has just been raised by much.

        Small steps after long calm first: with others on the same budget they may go well at the cost of
        those, who then yield. Only when `LUCK` of them went well is there room, and steps become large.

        Args:
            full: Whether that left the window full; only then it says something about a raise.
        """
        self._clean += 1
        self._full += full
        if self.limit >= self._ceiling:
            return False
        if self._clean >= self.limit and self._return_to > max(self.limit / STEEP, self.limit + 5):
            self._raise(self._return_to)
            return True
        calm = (1 if self.raises else self._rarely) * min(self._probe_after, self._most_windows * self.limit)
        if self._full < (calm if self.raises <= LUCK else self.limit):
            return False
        step = 2**self.raises if self.raises < LUCK else max(4, self.limit // 4)
        self._raise(self.limit + step)
        return self.raises > LUCK

    def _raise(self, limit: int) -> None:
        self._proven, self.limit = self.limit, min(limit, self._ceiling)
        self.raises += 1
        self._clean = self._full = self._return_to = 0
        self.binding_until_s = -math.inf

    def refused(self, own: int) -> None:
        """A 429 came with *own* of our requests in the window: the limit is what was in it.

        Never less than half at one blow: a burst of others would otherwise ruin us for hours. And after
        a steep fall the old limit is tried once more when that window is over.
        """
        if self.raises > LUCK + 1:
            self._rarely = 1  # there was more: look again soon
        elif 0 < self.limit - self._proven <= 2**LUCK:
            self._rarely = min(2 * self._rarely, MOST_RARELY)
        self._return_to = 0 if self.raises else self.limit
        self._own, self._lowest, self._highest = (
            own,
            max(1, self._proven // 2),
            max(1, self.limit - max(1, 0 if self.raises else math.isqrt(self.limit) // 4)),
        )
        self.raises = self._clean = self._full = 0
        self.also_held(0)

    def guessed(self) -> None:
        """It is little more than a guess: after one window do without it, and learn again."""
        self._return_to = UNLIMITED

    def also_held(self, more: int = 1) -> None:
        """Requests that were in flight at the 429 were accepted after all."""
        self._own += more
        self.limit = self._proven = min(max(self._own, self._lowest), self._highest)


class Window:
    """All limits of one origin and credential, and what is in flight. The gate's arithmetic.

    Raise `in_flight` by one for each request that is sent, and say then exactly one of `accepted`, `lost`,
    `unsent` and `throttled`.
    """

    def __init__(self, policy: RatePolicy) -> None:
        known = policy.known
        self._history = History((*USUAL_PERIODS_S, *(limit.per_s for limit in known)))
        self._periods_s = [age.period_s for age in self._history.ages]
        self._probe_after = policy.probe_after
        self._mirrors: list[Mirror] = []
        for limit in known:
            index = self._periods_s.index(limit.per_s)
            self._mirrors.append(
                Mirror(
                    index,
                    self._history.ages[index],
                    limit.requests,
                    probe_after=policy.probe_after,
                    given=True,
                )
            )
        self._guessed: set[int] = set()
        self._settling: Mirror | None = None
        self._learned_s = -math.inf
        self._streak = 0  # 429s since the last request was accepted, those already in flight not counted
        self._streak_began_s = 0.0
        self._unexplained_s = -math.inf  # the last 429 that no limit of ours explains
        self._cap = UNLIMITED  # requests in flight; few after a 429 that is not understood
        self.paused_until_s = -math.inf
        self.in_flight = 0

    @property
    def learned(self) -> tuple[Limit, ...]:
        """The limits in force, given and learned, shortest period first."""
        found = [m for m in self._mirrors if m.limit < UNLIMITED]
        return tuple(Limit(m.limit, self._periods_s[m.index]) for m in sorted(found, key=lambda m: m.index))

    # --- may one more be sent? ----------------------------------------------------------------------

    def has_room(self, now_s: float) -> bool:
        """Whether one more may be sent now."""
        if now_s < self.paused_until_s or self.in_flight >= self._cap:
            return False
        if not self._mirrors:
            return True
        history = self._history
        if now_s >= history.due_s:
            history.advance(now_s)
        for mirror in self._mirrors:
            if history.added - mirror.age.gone + self.in_flight >= mirror.limit:
                mirror.binding_until_s = now_s + mirror.age.period_s
                return False
        return True

    def opens_s(self, now_s: float, ahead: int = 0) -> float | None:
        """When, as far as can be foreseen, one more may be sent after *ahead* others; at least *now_s*.

        None: at any moment, for only the end of a request in flight can make room.
        """
        self._history.advance(now_s)
        leaves_s = [self._leaves_s(mirror, now_s, ahead) for mirror in self._mirrors]
        opens_s = max([now_s, self.paused_until_s, *(at_s for at_s in leaves_s if at_s is not None)])
        unknown = self.in_flight >= self._cap or None in leaves_s
        return None if unknown and opens_s == now_s else opens_s

    def _leaves_s(self, mirror: Mirror, now_s: float, ahead: int) -> float | None:
        """When the request leaves the window that must have left before one may go behind *ahead* others."""
        here = self._history.count(mirror.index) + self.in_flight
        awaited = here + ahead - mirror.limit + 1  # its place in the line: those here, then those ahead
        rounds = max(0, -((here - awaited) // mirror.limit))  # it waits for another itself, and so on
        awaited -= rounds * mirror.limit
        if awaited <= 0:
            return now_s + rounds * mirror.age.keep_s
        at_s = self._history.leaves_s(mirror.index, awaited)
        if at_s is None and not ahead:
            return None
        return (now_s + mirror.age.keep_s if at_s is None else at_s) + rounds * mirror.age.keep_s

    # --- what became of a request --------------------------------------------------------------------

    def unsent(self) -> None:
        """It never left."""
        self.in_flight -= 1

    def lost(self, now_s: float) -> None:
        """Nobody knows whether the server counted it: counted, to be safe."""
        self.in_flight -= 1
        self._history.add(now_s)

    def accepted(self, now_s: float, entered_s: float) -> None:
        """The server answered something else than 429."""
        self.in_flight -= 1
        history = self._history
        history.add(now_s)
        if entered_s <= self._learned_s:
            if self._settling is not None:
                self._settling.also_held()
            return
        if self._streak or self._cap < UNLIMITED:
            self._streak = 0
            self._cap = min(self._cap + 1, UNLIMITED) if self._cap < WIDE else UNLIMITED
        for mirror in self._mirrors:
            if now_s <= mirror.binding_until_s:
                full = history.added - mirror.age.gone + self.in_flight >= mirror.limit
                if mirror.held(full=full):
                    self._cap = WARY

    def throttled(self, now_s: float, entered_s: float, retry_after_s: float | None) -> None:
        """The server answered 429; *retry_after_s* is what it asked for, None or nonsense if nothing."""
        self.in_flight -= 1
        self._history.advance(now_s)
        asked_s = None
        if retry_after_s is not None and 0 < retry_after_s < math.inf:
            asked_s = min(retry_after_s, MAX_PAUSE_S)
            self._pause(now_s, asked_s)
        if entered_s <= self._learned_s and (asked_s or 0.0) <= self._settled_period_s + 1:
            return  # sent before the 429 that all was learned from
        if not self._streak:
            self._streak_began_s = now_s
        elif asked_s is not None:  # we waited as asked, in vain: others take it, so ask less and less often
            self._pause(now_s, _backoff_s(self._streak - 1))
        if asked_s is None:
            self._pause(now_s, _backoff_s(self._streak))
        self._streak += 1
        self._learn(now_s, asked_s, entered_s)

    def _pause(self, now_s: float, pause_s: float) -> None:
        self.paused_until_s = max(self.paused_until_s, now_s + pause_s)

    # --- which limit was it? -------------------------------------------------------------------------

    @property
    def _settled_period_s(self) -> float:
        return self._periods_s[self._settling.index] if self._settling else 0.0

    def _learn(self, now_s: float, asked_s: float | None, entered_s: float) -> None:
        self._learned_s = now_s
        evidence = _Evidence(self._history, now_s, entered_s, asked_s, now_s - self._streak_began_s)
        mirror = self._blamed(evidence)
        if mirror is not None:
            mirror.refused(self._history.count(mirror.index))
        else:
            mirror = self._new_mirror(evidence, now_s)
        self._cap = UNLIMITED if mirror is not None and asked_s is not None else 1
        self._settling = mirror
        self._history.forget_peaks()

    def _blamed(self, evidence: _Evidence) -> Mirror | None:
        """The known limit that explains the 429, if one does."""
        possible = [mirror for mirror in self._mirrors if evidence.possible(mirror.index, STUBBORN)]
        if not possible:
            return None
        used_up = [mirror for mirror in possible if self._used(mirror) >= USED_UP]
        best = max(used_up or possible, key=lambda m: (m.raises > 0, m.limit > 1, m.unproven, self._used(m)))
        if used_up:
            return best
        shorter = (index for index in self._unmirrored() if index < best.index)
        return None if any(evidence.fits(index, self.in_flight) for index in shorter) else best

    def _used(self, mirror: Mirror) -> float:
        return (self._history.count(mirror.index) + self.in_flight) / mirror.limit

    def _unmirrored(self) -> list[int]:
        mirrored = {mirror.index for mirror in self._mirrors}
        return [index for index in range(len(self._periods_s)) if index not in mirrored]

    def _new_mirror(self, evidence: _Evidence, now_s: float) -> Mirror | None:
        possible = [index for index in self._unmirrored() if evidence.possible(index)]
        good = [index for index in possible if evidence.fits(index, self.in_flight)]
        index = next(iter(good or possible), None)
        if index is None:
            return None
        if not good:  # once may be anything: a pause is all that helps
            before_s, self._unexplained_s = self._unexplained_s, now_s
            if now_s - before_s > self._periods_s[index] + MAX_BACKOFF_S:
                return None
        own = self._history.count(index)
        if not own:
            return None  # none of ours is there: others have used it up
        mirror = Mirror(index, self._history.ages[index], own, probe_after=self._probe_after)
        mirror.born_with = [self._history.count(longer) for longer in range(len(self._periods_s))]
        if (not good or own < FEW) and index not in self._guessed:
            self._guessed.add(index)
            mirror.guessed()
        self._drop_mistaken(mirror)
        self._mirrors.append(mirror)
        return mirror

    def _drop_mistaken(self, better: Mirror) -> None:
        """A shorter period may have been taken for it: `Retry-After: 1` fits them all. If what is the limit
        of the longer one was used up already when the shorter was learned, that explains the 429 then."""
        self._mirrors = [
            mirror
            for mirror in self._mirrors
            if mirror.given
            or mirror.index > better.index
            or mirror.born_with[better.index] < USED_UP * better.limit
        ]


def _backoff_s(doublings: int) -> float:
    return min(FIRST_BACKOFF_S * 2.0 ** min(doublings, 30), MAX_BACKOFF_S)


class _Evidence:
    """What one 429 says about the period of the limit behind it."""

    def __init__(
        self,
        history: History,
        now_s: float,
        entered_s: float,
        retry_after_s: float | None,
        lasted_s: float,
    ) -> None:
        self._history, self._now_s, self._entered_s = history, now_s, entered_s
        self._asked_s = retry_after_s
        self._lasted_s = lasted_s  # how long there have been nothing but 429s

    def possible(self, index: int, rounds: int = 1) -> bool:
        """Whether the period is long enough: nobody is asked to wait longer, or refused for longer."""
        period_s = self._history.ages[index].period_s
        return self._lasted_s <= rounds * period_s + 1 and (
            self._asked_s is None or self._asked_s < period_s + 1
        )

    def fits(self, index: int, in_flight: int) -> bool:
        """Whether one of our requests is what the server waits for, and much more was never accepted."""
        own = self._history.count(index)
        seen_before = self._history.ages[index].peak
        return (
            own > 0 and self.possible(index) and seen_before <= 2 * (own + in_flight) and self._matches(index)
        )

    def _matches(self, index: int) -> bool:
        return self._asked_s is None or self._history.any_between(*self._awaited(index))

    def _awaited(self, index: int) -> tuple[float, float]:
        """When we got the answer to the request whose leaving the server waits for."""
        shift_s = (self._asked_s or 0.0) - self._history.ages[index].period_s
        way_s = self._now_s - self._entered_s + MATCH_SLACK_S
        return self._entered_s + shift_s - 1 - MATCH_SLACK_S, self._now_s + shift_s + way_s
