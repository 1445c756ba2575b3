"""A discrete-event simulation of clients, the way to a server and back, and the server's own rules.

No real time passes and nothing is awaited. `GateLimiter` drives the real `Gate`, decision by decision; the
rivals it is compared with are in `benchmarks/rate_limit.py`.

Demand is saturated: every client has `workers` that send their next request as soon as they may.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from testpress_async.http.gate import Gate, Ticket
from testpress_async.http.window import RatePolicy

MEDIAN_RTT_S, RTT_SIGMA = 0.120, 0.35  # log-normal


class Server(Protocol):
    def refusal(self, now_s: float) -> float | None:
        """None: accepted. Else Retry-After in seconds; NaN for a 429 that names none."""
        ...


class DRFServer:
    """Django REST framework's `SimpleRateThrottle`: a log of accepted requests for every limit.

    As there (`APIView.check_throttles`), every throttle is asked even when one has refused already, so a
    refused request still counts for the others; Retry-After is the longest wait, rounded up.
    """

    def __init__(self, *limits: tuple[int, float]) -> None:
        self.limits = [[requests, per_s] for requests, per_s in limits]
        self._logs: list[deque[float]] = [deque() for _ in limits]

    def refusal(self, now_s: float) -> float | None:
        waits_s = [self._ask(log, *limit, now_s) for log, limit in zip(self._logs, self.limits, strict=True)]
        refused = [wait_s for wait_s in waits_s if wait_s is not None]
        return math.ceil(max(refused)) if refused else None

    @staticmethod
    def _ask(log: deque[float], requests: float, per_s: float, now_s: float) -> float | None:
        while log and log[0] <= now_s - per_s:
            log.popleft()
        if len(log) < requests:
            log.append(now_s)
            return None
        return (per_s - (now_s - log[0])) / max(1.0, requests - len(log) + 1)


class NginxServer:
    """nginx `limit_req rate=… burst=… nodelay`: a leaky bucket, and no Retry-After."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._excess, self._last_s = 0.0, -math.inf

    def refusal(self, now_s: float) -> float | None:
        excess = max(0.0, self._excess - (now_s - self._last_s) * self._per_s) + 1
        if excess - 1 > self._burst:
            return math.nan
        self._excess, self._last_s = excess, now_s
        return None


class FixedWindowServer:
    """So many per calendar window; Retry-After is the rest of it."""

    def __init__(self, requests: int, per_s: float) -> None:
        self._requests, self._per_s = requests, per_s
        self._window, self._used = -1.0, 0

    def refusal(self, now_s: float) -> float | None:
        window = now_s // self._per_s
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= self._requests:
            return math.ceil((window + 1) * self._per_s - now_s)
        self._used += 1
        return None


class SimulatedClock:
    """The simulation's time; nothing in it sleeps."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    def wall_s(self) -> float:
        return self.time_s

    async def sleep(self, duration_s: float) -> None:
        raise AssertionError(f"nothing sleeps in a simulation, yet somebody asked for {duration_s} s")


class Limiter(Protocol):
    """A client's own limiter, as the simulation uses it."""

    def opens_s(self, now_s: float) -> float | None:
        """When one more may be sent; None: when an answer came. If it is now, `send` follows."""
        ...

    def send(self, now_s: float) -> Any: ...

    def accepted(self, sent: Any, now_s: float) -> None: ...

    def refused(self, sent: Any, now_s: float, retry_after_s: float | None) -> float:
        """A 429. Returns how long this one worker sleeps before it asks again."""
        ...


class GateLimiter:
    """The real thing."""

    def __init__(self, clock: SimulatedClock, policy: RatePolicy | None = None, *, workers: int = 16) -> None:
        self.gate = Gate(policy or RatePolicy(), clock, max_in_flight=workers)
        self._next: Ticket | None = None

    def opens_s(self, now_s: float) -> float | None:
        self._next = self.gate.try_enter("bulk")
        return self.gate.next_slot_s() if self._next is None else now_s

    def send(self, now_s: float) -> Ticket:
        assert self._next is not None
        return self._next

    def accepted(self, sent: Ticket, now_s: float) -> None:
        sent.accepted()

    def refused(self, sent: Ticket, now_s: float, retry_after_s: float | None) -> float:
        sent.throttled(retry_after_s)
        return 0.0


@dataclass
class Counts:
    accepted: int = 0
    refused: int = 0

    @property
    def sent(self) -> int:
        return self.accepted + self.refused

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.sent)


@dataclass
class Simulation:
    """Clients, strangers and one server. `run_until`, look at `counts`, change something, go on."""

    server: Server
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    seed: int = 1
    median_rtt_s: float = MEDIAN_RTT_S
    counts: Counts = field(default_factory=Counts)
    strangers: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), action))

    def run_for(self, duration_s: float) -> None:
        until_s = self.clock.time_s + duration_s
        events, clock = self._events, self.clock
        while events and events[0][0] <= until_s:
            clock.time_s, _, action = heapq.heappop(events)
            action()
        clock.time_s = until_s

    def measure(self, duration_s: float) -> Counts:
        """Run, and count only that."""
        self.counts = Counts()
        self.strangers = Counts()
        self.run_for(duration_s)
        return self.counts

    def add_client(self, limiter: Limiter, *, workers: int = 16, start_s: float = 0.0) -> SimulatedClient:
        client = SimulatedClient(self, limiter, workers)
        self.at(self.clock.time_s + start_s, client.ask)
        return client

    def add_stranger(self, per_s: float) -> None:
        """Somebody else with the same account who does not care: a Poisson stream."""

        def knock() -> None:
            refused = self.server.refusal(self.clock.time_s) is not None
            self.strangers.refused += refused
            self.strangers.accepted += not refused
            self.at(self.clock.time_s + self.random.expovariate(per_s), knock)

        self.at(self.clock.time_s + self.random.expovariate(per_s), knock)


class SimulatedClient:
    """Workers behind one limiter."""

    def __init__(self, simulation: Simulation, limiter: Limiter, workers: int) -> None:
        self._simulation, self.limiter, self._idle = simulation, limiter, workers
        self._asks_s = math.inf  # the earliest planned `ask`
        self.counts = Counts()
        self.stopped = False

    def ask(self) -> None:
        """Send as much as may be sent, and plan when to ask again."""
        simulation = self._simulation
        now_s = simulation.clock.time_s
        if now_s >= self._asks_s:
            self._asks_s = math.inf
        while self._idle and not self.stopped:
            opens_s = self.limiter.opens_s(now_s)
            if opens_s is None:
                return
            if opens_s > now_s:
                if opens_s < self._asks_s:
                    self._asks_s = opens_s
                    simulation.at(opens_s, self.ask)
                return
            self._idle -= 1
            self._send(self.limiter.send(now_s), now_s)

    def _send(self, sent: Any, now_s: float) -> None:
        simulation = self._simulation
        rtt_s = simulation.median_rtt_s * simulation.random.lognormvariate(0.0, RTT_SIGMA)
        answers_s = now_s + rtt_s

        def arrive() -> None:
            refusal_s = simulation.server.refusal(simulation.clock.time_s)
            simulation.at(answers_s, lambda: self._answered(sent, refusal_s))

        simulation.at(now_s + rtt_s * simulation.random.uniform(0.3, 0.7), arrive)

    def _answered(self, sent: Any, refusal_s: float | None) -> None:
        now_s = self._simulation.clock.time_s
        sleep_s = 0.0
        if refusal_s is None:
            self.limiter.accepted(sent, now_s)
        else:
            retry_after_s = None if math.isnan(refusal_s) else refusal_s
            sleep_s = self.limiter.refused(sent, now_s, retry_after_s)
        for counts in (self.counts, self._simulation.counts):
            counts.accepted += refusal_s is None
            counts.refused += refusal_s is not None
        if sleep_s > 0:
            self._simulation.at(now_s + sleep_s, self._awake)
        else:
            self._awake()

    def _awake(self) -> None:
        self._idle += 1
        self.ask()
