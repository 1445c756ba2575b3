"""Whether a failed try is repeated, and when; tenacity does the waiting.

A *try* repeats; an *attempt* is an exam record. Arithmetic first, waiting last. The first try runs outside
tenacity: setting it up costs half as much as a whole request, and most calls never need it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import tenacity

from testpress_async.errors import (
    AnswerLost,
    ConnectionFailed,
    Error,
    NotJSON,
    RateLimited,
    ServerFault,
    StatusError,
    TimedOut,
)
from testpress_async.http.clock import Clock
from testpress_async.http.events import Observer, TryFailed
from testpress_async.http.logs import HTTP, seconds, tell
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.policy import RetryPolicy
from testpress_async.http.window import MAX_PAUSE_S

MAX_DOUBLINGS = 30  # 2.0 ** 1024 overflows; thirty doublings pass any sane bound long before
MAX_NOT_JSON_TRIES = 3  # a proxy's page may pass soon; a wrong address never does
TRANSIENT_STATUSES = frozenset({408, 500, 502, 503, 504})


def worth_retrying(error: BaseException) -> bool:
    """Whether sending the same request again can help. Says nothing about whether it is allowed."""
    match error:
        case ConnectionFailed() | AnswerLost():
            return not error.permanent
        case TimedOut():
            return error.limit != "total_s"
        case RateLimited():
            return error.sent
        case NotJSON():
            return True
        case StatusError():
            return error.status in TRANSIENT_STATUSES
        case _:
            return False


def repeatable(request: Request, error: BaseException) -> bool:
    """Whether sending *request* again after *error* can help and does no harm."""
    return worth_retrying(error) and (request.repeatable or isinstance(error, ConnectionFailed | RateLimited))


def _sent(error: Error, try_no: int) -> int:
    """Tries that were sent, *error* being what the last one ended in: our own limiter sends nothing."""
    return try_no - 1 if isinstance(error, RateLimited) and not error.sent else try_no


def wait_bound_s(try_no: int, *, first_s: float, max_s: float) -> float:
    """Upper bound of the wait after failed try *try_no* (1-based), in seconds.

    Source: "full jitter", AWS Architecture Blog, Exponential Backoff And Jitter (2015).
    """
    return min(max_s, first_s * 2 ** min(try_no - 1, MAX_DOUBLINGS))


class RetryQuota:
    """A budget that keeps retries of a failing server to a small share of all requests.

    Shared by a client and its clones. A retry takes its cost out; a call that succeeds after retries puts
    the last cost back, a clean success puts back 1; a failed call puts back nothing.
    Source: AWS SDK retry behaviour, standard mode, 2026 revision.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = self.available = capacity

    def take(self, cost: int) -> bool:
        """Take *cost* out; False, and nothing taken, if there is not enough."""
        if cost > self.available:
            return False
        self.available -= cost
        return True

    def put_back(self, amount: int) -> None:
        self.available = min(self.capacity, self.available + amount)


class Retry:
    """Middleware: repeat a failed try while that can help, is harmless and within budget and deadline."""

    def __init__(
        self,
        policy: RetryPolicy,
        quota: RetryQuota,
        clock: Clock,
        jitter: Callable[[], float],
        emit: Observer | None = None,
    ) -> None:
        self.policy, self.quota, self.clock, self.jitter, self.emit = policy, quota, clock, jitter, emit
        self.repeated = 0  # tries

    async def __call__(self, request: Request, handler: Handler) -> Response:
        try:
            response = await handler(request)
        except Error as error:
            error.tries = _sent(error, 1)
            if not repeatable(request, error):
                raise
            return await _Repeats(self, request, handler).run(error)
        self.quota.put_back(1)
        return response


class _Repeats:
    """The tries after a first failed one: what tenacity asks, answered from the policy."""

    def __init__(self, retry: Retry, request: Request, handler: Handler) -> None:
        self._retry, self._request, self._handler = retry, request, handler
        self._policy, self._quota = retry.policy, retry.quota
        self._throttles = 0
        self._failures = 0
        self._last_cost = 0
        self._wait_s = 0.0

    async def run(self, first: Error) -> Response:
        """Go on after *first*. Raises the last error when it is time to give up."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._wanted),
            stop=self._stop,
            # not `wait=`: tenacity asks for that before `stop`, which decides about it
            sleep=lambda _: self._retry.clock.sleep(self._wait_s),
            reraise=True,
        )
        pending = [first]  # tenacity takes over after a try that has already failed
        async for this_try in retrying:
            with this_try:
                if pending:
                    raise pending.pop()
                response = await self._once(this_try.retry_state.attempt_number)
                self._quota.put_back(self._last_cost)
                return response
        raise AssertionError("tenacity ended without a result")  # pragma: no cover

    async def _once(self, try_no: int) -> Response:
        try:
            return await self._handler(self._request)
        except Error as error:
            error.tries = _sent(error, try_no)
            raise

    def _wanted(self, error: BaseException) -> bool:
        return repeatable(self._request, error)

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        """Decide about the failed try in *state*; sets the wait if there is to be another."""
        outcome = state.outcome
        error = outcome.exception() if outcome else None
        if not isinstance(error, Error) or self._exhausted(error):
            return True
        self._wait_s = self._next_wait_s(error)
        deadline_s = self._request.deadline_s
        if deadline_s is not None and self._retry.clock.now_s() + self._wait_s >= deadline_s:
            return True
        cost = self._policy.throttle_cost if isinstance(error, RateLimited) else self._policy.cost
        if not self._quota.take(cost):
            return True
        self._last_cost = cost
        self._report(state.attempt_number, error)
        return False

    def _exhausted(self, error: Error) -> bool:
        if isinstance(error, RateLimited):
            self._throttles += 1
            return self._throttles > self._policy.max_throttles
        self._failures += 1
        most = self._policy.max_tries
        return self._failures >= (min(most, MAX_NOT_JSON_TRIES) if isinstance(error, NotJSON) else most)

    def _next_wait_s(self, error: Error) -> float:
        """Seconds to wait here: what a fault's `Retry-After` asks, plus full jitter.

        After a 429 the shared gate does the waiting, for everybody at once.
        """
        if isinstance(error, RateLimited):
            return 0.0
        bound_s = wait_bound_s(self._failures, first_s=self._policy.first_s, max_s=self._policy.max_s)
        asked_s = (error.retry_after_s or 0.0) if isinstance(error, ServerFault) else 0.0
        # on top, not instead: never earlier than asked, and not everybody in the same instant
        return min(asked_s, MAX_PAUSE_S) + self._retry.jitter() * bound_s

    def _report(self, try_no: int, error: Error) -> None:
        self._retry.repeated += 1
        emit = self._retry.emit
        if emit:
            emit(
                TryFailed(
                    call=self._request.call,
                    method=self._request.method,
                    url=self._request.shown,
                    try_no=try_no,
                    error=type(error).__name__,
                    wait_s=self._wait_s,
                )
            )
        if not isinstance(error, RateLimited):  # the limiter has told the log of that
            text = "try %d failed and is repeated in %s: %s"
            tell(HTTP, logging.WARNING, text, try_no, seconds(self._wait_s), str(error))
