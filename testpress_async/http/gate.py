"""The gate every try passes: one for a client and its clones.

It holds back what would break a known limit, what exceeds the connections, and everything while the server
has asked for a pause. First come, first served within a lane; interactive calls pass waiting bulk ones. Slots
are handed out one by one, so that the end of a pause does not start a stampede. Nothing runs while nobody
waits: the waiter at the head drives its own wake-up.
"""

from __future__ import annotations

import asyncio
from collections import deque

from testpress_async.http.clock import Clock
from testpress_async.http.message import Lane
from testpress_async.http.window import RatePolicy

PAUSE_S = 10.0  # after a 429 that does not say how long
MAX_PAUSE_S = 3600.0  # no server's word stops everybody for longer than the longest usual window


class Window:
    """Mirror of a server that accepts at most `requests` in any `per_s` seconds.

    It counts a request from the moment its answer came. The server counted it earlier, so what the mirror
    allows the server allows too, whatever its clock says (Django REST framework's throttle is such a log).
    """

    def __init__(self, requests: int, per_s: float) -> None:
        self.requests, self.per_s = requests, per_s
        self._answered_s: deque[float] = deque(maxlen=requests)

    def answered(self, now_s: float) -> None:
        self._answered_s.append(now_s)

    def wait_s(self, now_s: float, in_flight: int) -> float | None:
        """Seconds until one more may be sent; 0 for now; None if an answer must come first."""
        log = self._answered_s
        while log and log[0] <= now_s - self.per_s:
            log.popleft()
        excess = len(log) + in_flight - self.requests
        if excess < 0:
            return 0.0
        return log[excess] + self.per_s - now_s if excess < len(log) else None


class GateBusy(Exception):
    """The wait that can be foreseen is longer than the caller allows."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Ticket:
    """The right to send one try. Say exactly once how it went; later words are ignored."""

    __slots__ = ("_gate", "_open", "waited_s")

    def __init__(self, gate: Gate, waited_s: float = 0.0) -> None:
        self._gate, self.waited_s, self._open = gate, waited_s, True

    def accepted(self) -> None:
        """The server answered, and did not say 429."""
        self._close(counted=True)

    def lost(self) -> None:
        """Nobody knows whether the server counted it: counted, to be safe."""
        self._close(counted=True)

    def unsent(self) -> None:
        """It never left."""
        self._close(counted=False)

    def throttled(self, retry_after_s: float | None) -> None:
        """The server said 429, which it does not count, and how long to wait, or not."""
        self._gate.pause(retry_after_s)
        self._close(counted=False)

    def _close(self, *, counted: bool) -> None:
        if self._open:
            self._open = False
            self._gate.leave(counted=counted)


class Gate:
    """See the module. `in_flight`, `waiting` and `granted` (tickets so far) are for observers."""

    def __init__(self, policy: RatePolicy, clock: Clock, *, max_in_flight: int) -> None:
        self.policy, self._clock, self._max_in_flight = policy, clock, max_in_flight
        limit = policy.requests is not None and policy.per_s is not None
        self._window = Window(policy.requests, policy.per_s) if limit else None  # type: ignore[arg-type]
        self._lanes: dict[Lane, deque[asyncio.Future[None]]] = {"interactive": deque(), "bulk": deque()}
        self._paused_until_s = 0.0
        self.in_flight = 0
        self.granted = 0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lanes.values()))

    def try_enter(self, lane: Lane) -> Ticket | None:
        """A ticket if one is free at once and nobody of this lane or above waits."""
        if self._ahead_of(lane) or self._wait_s() != 0.0:
            return None
        return self._grant(0.0)

    async def enter(self, lane: Lane, *, max_wait_s: float | None) -> Ticket:
        """Wait for a ticket.

        Raises:
            GateBusy: At once, if the wait that can be foreseen is longer than *max_wait_s*.
        """
        began_s = self._clock.now_s()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes[lane].append(place)
        try:
            while not self._may_go(place):
                self._require_patience(max_wait_s, self._clock.now_s() - began_s)
                place = await self._changed(lane, place)
            return self._grant(self._clock.now_s() - began_s)
        finally:
            self._lanes[lane].remove(place)
            self._wake()

    def pause(self, retry_after_s: float | None) -> None:
        """Nobody sends for so long."""
        asked_s = PAUSE_S if retry_after_s is None else min(retry_after_s, MAX_PAUSE_S)
        self._paused_until_s = max(self._paused_until_s, self._clock.now_s() + asked_s)

    def leave(self, *, counted: bool) -> None:
        """A try is over."""
        self.in_flight -= 1
        if counted and self._window:
            self._window.answered(self._clock.now_s())
        self._wake()

    # --- inside ------------------------------------------------------------------------------------

    def _grant(self, waited_s: float) -> Ticket:
        self.in_flight += 1
        self.granted += 1
        return Ticket(self, waited_s)

    def _wait_s(self) -> float | None:
        """Seconds until one more may be sent; 0 for now; None until a try in flight ends."""
        now_s = self._clock.now_s()
        if now_s < self._paused_until_s:
            return self._paused_until_s - now_s
        if self.in_flight >= self._max_in_flight:
            return None
        return self._window.wait_s(now_s, self.in_flight) if self._window else 0.0

    def _require_patience(self, max_wait_s: float | None, waited_s: float) -> None:
        wait_s = self._wait_s()
        if max_wait_s is not None and wait_s is not None and waited_s + wait_s > max_wait_s:
            raise GateBusy(wait_s)

    def _head(self) -> asyncio.Future[None] | None:
        for queue in self._lanes.values():
            if queue:
                return queue[0]
        return None

    def _ahead_of(self, lane: Lane) -> bool:
        return bool(self._lanes["interactive"]) or (lane == "bulk" and bool(self._lanes["bulk"]))

    def _may_go(self, place: asyncio.Future[None]) -> bool:
        return self._head() is place and self._wait_s() == 0.0

    def _wake(self) -> None:
        head = self._head()
        if head is not None and not head.done():
            head.set_result(None)

    async def _changed(self, lane: Lane, place: asyncio.Future[None]) -> asyncio.Future[None]:
        """Sleep until something changes for this waiter; returns its place, made new."""
        wait_s = self._wait_s() if self._head() is place else None
        if wait_s is None:
            await place
        else:
            timer = asyncio.ensure_future(self._clock.sleep(wait_s))
            try:
                await asyncio.wait((timer, place), return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
        fresh: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._lanes[lane]
        queue[queue.index(place)] = fresh
        return fresh
