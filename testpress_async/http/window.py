"""Request limits: a known one, and the mirror of the server's sliding window over it."""

from __future__ import annotations

import math
from collections import deque

import msgspec

from testpress_async.errors import ConfigError


class RatePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How fast requests may go.

    Attributes:
        requests, per_s: A known limit: at most so many requests in any so many seconds. None: no limit is
            known; a 429 pauses everybody for as long as the server asks.
        max_wait_s: Longest wait of an "interactive" call before it gets `RateLimited`, in seconds.
        pause_s: How long everybody pauses after a 429 that does not say how long, in seconds.
    """

    requests: int | None = None
    per_s: float | None = None
    max_wait_s: float = 5.0
    pause_s: float = 10.0

    def __post_init__(self) -> None:
        if (self.requests is None) != (self.per_s is None):
            raise ConfigError("RatePolicy", "requests and per_s come together")
        if self.requests is not None and self.requests < 1:
            raise ConfigError("RatePolicy(requests)", "expected at least 1")
        for name in ("per_s", "pause_s"):
            value: float | None = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"RatePolicy({name})", "expected a finite number of seconds above 0")
        if not self.max_wait_s >= 0:
            raise ConfigError("RatePolicy(max_wait_s)", "expected a number of at least 0")


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
