"""Django REST framework's rate limit, decision by decision.

A sliding log of *accepted* requests per user. A refused request is not logged, and the wait it is told
is the time until the oldest accepted one leaves the window. All limits are asked: a request refused by
one still takes a slot of the others, and the longest wait is told.

Source: `SimpleRateThrottle` and `APIView.check_throttles`,
https://www.django-rest-framework.org/api-guide/throttling/
"""

from __future__ import annotations

from collections import defaultdict, deque

from testpress_async.sandbox.settings import RateLimit


class Throttle:
    """Decides whether a user may be served now."""

    def __init__(self, limits: tuple[RateLimit, ...]) -> None:
        self._limits = limits
        self._logs: defaultdict[str, tuple[deque[float], ...]] = defaultdict(
            lambda: tuple(deque() for _ in self._limits)
        )

    def wait_s(self, user: str, now_s: float) -> float | None:
        """None if the request is accepted (and logged), else the seconds until another one may be.

        Args:
            user: Whose budget pays.
            now_s: Monotonic seconds.
        """
        waits = [
            wait_s
            for limit, log in zip(self._limits, self._logs[user], strict=True)
            if (wait_s := _ask(limit, log, now_s)) is not None
        ]
        return max(waits, default=None)


def _ask(limit: RateLimit, log: deque[float], now_s: float) -> float | None:
    while log and log[0] <= now_s - limit.per_s:
        log.popleft()
    if len(log) >= limit.requests:
        return limit.per_s - (now_s - log[0])
    log.append(now_s)
    return None
