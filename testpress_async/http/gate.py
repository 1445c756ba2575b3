"""The gate every try passes: one for a client and its clones.

It holds back what would break a limit of the server, known or learned (`window`), what an overloaded server
cannot bear (`guard`), and everything while the server has asked for a pause. First come, first served within
a lane; interactive calls pass waiting bulk ones. Slots go out one by one as the server's window frees them,
so the end of a pause is no stampede.

Nothing runs while nobody waits. While somebody waits there is at most one alarm, set to the moment the next
slot is due; everything else happens when a request ends.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import OrderedDict

from testpress_async.http.clock import Clock
from testpress_async.http.guard import Guard
from testpress_async.http.message import Lane
from testpress_async.http.window import Limit, RatePolicy, Window

SHORTEST_NAP_S = 0.001  # rounding must not make the alarm ring a hair too early again and again
SOON_S = 1.0  # what `GateBusy` says when only the end of other requests can make room


class GateBusy(Exception):
    """The wait is, or will be, longer than the caller allows. Asking again makes sense in *retry_after_s*."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Ticket:
    """The right to send one try. Say exactly once how it went; later words are ignored.

    Attributes:
        entered_s: When it was given out, on the gate's clock.
        waited_s: How long its owner waited for it, in seconds.
    """

    __slots__ = ("_complained", "_gate", "_open", "entered_s", "waited_s")

    def __init__(self, gate: Gate, entered_s: float, waited_s: float) -> None:
        self._gate, self.entered_s, self.waited_s = gate, entered_s, waited_s
        self._open, self._complained = True, False

    def accepted(self) -> None:
        """The server answered, and did not say 429."""
        if self._open:
            self._open = False
            self._gate.on_accepted(self)

    def lost(self) -> None:
        """Nobody knows whether the server counted it: counted, to be safe."""
        if self._open:
            self._open = False
            self._gate.on_lost()

    def unsent(self) -> None:
        """It never left: gives the slot back."""
        if self._open:
            self._open = False
            self._gate.on_unsent()

    def throttled(self, retry_after_s: float | None) -> None:
        """The server said 429, and how long to wait; None, nonsense or 0 if it did not say."""
        if self._open:
            self._open = False
            self._gate.on_throttled(self, retry_after_s)

    def overloaded(self) -> None:
        """503, 504, or no answer in time: counted like `lost`, and a hint that it is all too much.

        May come before or after `accepted` or `lost`.
        """
        if not self._complained:
            self._complained = True
            self._gate.on_overloaded(self)
        self.lost()


class _Waiter:
    """One who waits in *queue*. `until_s`: when patience ends; infinity for never."""

    __slots__ = ("place", "queue", "since_s", "until_s")

    def __init__(self, queue: OrderedDict[_Waiter, None], since_s: float, until_s: float) -> None:
        self.queue, self.since_s, self.until_s = queue, since_s, until_s
        self.place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()


class Gate:
    """See the module. Not for several event loops or threads.

    Attributes:
        policy: The settings it was made with.
        granted: Tickets given out so far.
        waits, waited_s: Those among them that were waited for, and how long in all.
        throttled: Answers 429 so far.
    """

    def __init__(self, policy: RatePolicy, clock: Clock, *, max_in_flight: int) -> None:
        self.policy, self._clock = policy, clock
        self.granted = self.waits = self.throttled = 0
        self.waited_s = 0.0
        self._window = Window(policy)
        self._guard = Guard(max_in_flight)
        self._lanes: dict[Lane, OrderedDict[_Waiter, None]] = {
            "interactive": OrderedDict(),
            "bulk": OrderedDict(),
        }
        self._impatient: list[tuple[float, int, _Waiter]] = []  # heap; those gone stay until they surface
        self._order = itertools.count()
        self.waiting = 0
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_s = math.inf

    @property
    def in_flight(self) -> int:
        """Tickets given out that have not been closed."""
        return self._window.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many the guard thinks the server bears at present."""
        return self._guard.limit

    @property
    def learned(self) -> tuple[Limit, ...]:
        """The limits in force, given or learned, shortest period first."""
        return self._window.learned

    def try_enter(self, lane: Lane) -> Ticket | None:
        """A ticket, if one is free at once. While anybody waits none is."""
        if self.waiting:
            return None
        now_s = self._clock.now_s()
        return self._grant(now_s, now_s) if self._has_room(now_s) else None

    async def enter(self, lane: Lane, *, max_wait_s: float | None) -> Ticket:
        """Wait for a ticket.

        Raises:
            GateBusy: At once, if the wait that can be foreseen is longer than *max_wait_s*; later, if it
                becomes longer (a 429 came meanwhile) or has been.
        """
        ticket = self.try_enter(lane)
        if ticket is not None:
            return ticket
        now_s = self._clock.now_s()
        if max_wait_s is not None:
            self._require(max_wait_s, lane, now_s)
        waiter = self._queue(lane, now_s, math.inf if max_wait_s is None else now_s + max_wait_s)
        try:
            return await waiter.place
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    # --- how a try went: for tickets -----------------------------------------------------------------

    def on_accepted(self, ticket: Ticket) -> None:
        now_s = self._clock.now_s()
        self._window.accepted(now_s, ticket.entered_s)
        self._guard.answered(now_s - ticket.entered_s, now_s)
        if self.waiting:
            self._serve(now_s)

    def on_lost(self) -> None:
        now_s = self._clock.now_s()
        self._window.lost(now_s)
        self._serve(now_s)

    def on_unsent(self) -> None:
        self._window.unsent()
        self._serve(self._clock.now_s())

    def on_throttled(self, ticket: Ticket, retry_after_s: float | None) -> None:
        now_s = self._clock.now_s()
        self.throttled += 1
        self._window.throttled(now_s, ticket.entered_s, retry_after_s)
        self._serve(now_s)

    def on_overloaded(self, ticket: Ticket) -> None:
        self._guard.complained(ticket.entered_s, self._clock.now_s())

    # --- inside --------------------------------------------------------------------------------------

    def next_slot_s(self) -> float | None:
        """When the next ticket can be had, as far as time alone decides; None: when a request ends."""
        now_s = self._clock.now_s()
        opens_s = self._window.opens_s(now_s)
        return None if opens_s == now_s and self.in_flight >= self._guard.limit else opens_s

    def expected_s(self, lane: Lane) -> float | None:
        """How long who comes now will wait, as far as time alone decides; None: until a request ends."""
        now_s = self._clock.now_s()
        opens_s = self._opens_s(lane, now_s)
        return None if opens_s is None or opens_s == now_s else opens_s - now_s

    def _has_room(self, now_s: float) -> bool:
        return self._window.in_flight < self._guard.limit and self._window.has_room(now_s)

    def _grant(self, now_s: float, since_s: float) -> Ticket:
        self._window.in_flight += 1
        self.granted += 1
        return Ticket(self, now_s, now_s - since_s)

    def _opens_s(self, lane: Lane, now_s: float) -> float | None:
        ahead = self.waiting if lane == "bulk" else len(self._lanes["interactive"])
        return self._window.opens_s(now_s, ahead)

    def _require(self, max_wait_s: float, lane: Lane, now_s: float) -> None:
        opens_s = self._opens_s(lane, now_s)
        if opens_s is not None and opens_s - now_s > max_wait_s:
            raise GateBusy(opens_s - now_s)

    def _queue(self, lane: Lane, now_s: float, until_s: float) -> _Waiter:
        waiter = _Waiter(self._lanes[lane], now_s, until_s)
        waiter.queue[waiter] = None
        self.waiting += 1
        if until_s < math.inf:
            heapq.heappush(self._impatient, (until_s, next(self._order), waiter))
        self._set_alarm(now_s, self.next_slot_s())
        return waiter

    def _remove(self, waiter: _Waiter) -> None:
        if waiter in waiter.queue:
            del waiter.queue[waiter]
            self.waiting -= 1

    def _leave(self, waiter: _Waiter) -> None:
        """A waiter was cancelled, perhaps in the very moment it got a ticket or was sent away."""
        place = waiter.place
        if place.cancel() or place.cancelled():
            self._remove(waiter)
            self._serve(self._clock.now_s())
        elif place.exception() is None:
            place.result().unsent()

    def _serve(self, now_s: float) -> None:
        """Give out every slot that is free, in order; then see who cannot be served in time."""
        for queue in self._lanes.values():
            while queue and self._has_room(now_s):
                waiter, _ = queue.popitem(last=False)
                self.waiting -= 1
                if not waiter.place.done():  # else cancelled a moment ago
                    waiter.place.set_result(self._grant(now_s, waiter.since_s))
                    self.waits += 1
                    self.waited_s += now_s - waiter.since_s
        if self.waiting:
            next_s = self.next_slot_s()
            self._send_away(now_s, next_s)
            self._set_alarm(now_s, next_s)
        elif self._alarm is not None:
            self._impatient.clear()
            self._set_alarm(now_s, None)

    def _send_away(self, now_s: float, next_s: float | None) -> None:
        """Those whose patience ends before the next slot is free learn it now."""
        waits_s = SOON_S if next_s is None else next_s - now_s
        while self._impatient:
            until_s, _, waiter = self._impatient[0]
            if not waiter.place.done():
                if until_s > now_s and (next_s is None or until_s >= next_s):
                    return
                self._remove(waiter)
                waiter.place.set_exception(GateBusy(waits_s))
            heapq.heappop(self._impatient)

    def _set_alarm(self, now_s: float, next_s: float | None) -> None:
        """Let `_serve` run when the next slot is due or the next patience ends, if anybody waits."""
        due_s = math.inf
        if self.waiting:
            patience_s = self._impatient[0][0] if self._impatient else math.inf
            due_s = min(patience_s, math.inf if next_s is None else next_s)
        if due_s == self._alarm_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_s = due_s
        if due_s < math.inf:
            self._alarm = asyncio.get_running_loop().create_task(
                self._ring(max(due_s - now_s, SHORTEST_NAP_S))
            )

    async def _ring(self, nap_s: float) -> None:
        await self._clock.sleep(nap_s)
        self._alarm, self._alarm_s = None, math.inf
        self._serve(self._clock.now_s())
