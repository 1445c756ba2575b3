"""Pacing: every try, logins and redirects included, passes one gate shared by the client and its clones."""

from __future__ import annotations

from testpress_async.errors import ConnectionFailed, Error, RateLimited, ServerFault, StatusError, TimedOut
from testpress_async.http.clock import Clock
from testpress_async.http.events import Observer, RateWaited, Throttled
from testpress_async.http.gate import Gate, GateBusy, Ticket
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler

OVERLOAD_STATUSES = frozenset({503, 504})


class RateLimit:
    """Middleware: wait for the gate, then tell it how the try went."""

    def __init__(self, gate: Gate, clock: Clock, emit: Observer | None = None) -> None:
        self._gate, self._clock, self._emit = gate, clock, emit

    async def __call__(self, request: Request, handler: Handler) -> Response:
        ticket = self._gate.try_enter(request.lane) or await self._wait(request)
        try:
            response = await handler(request)
        except Error as error:
            self._settle(ticket, request, error)
            raise
        except BaseException:
            ticket.lost()  # cancelled or broken: the server may have counted it
            raise
        ticket.accepted()
        return response

    async def _wait(self, request: Request) -> Ticket:
        try:
            ticket = await self._gate.enter(request.lane, max_wait_s=self._patience_s(request))
        except GateBusy as busy:
            detail = "our own limiter: the institute's limit is used up; ask later or raise max_wait_s"
            raise RateLimited(
                request.method,
                request.shown,
                429,
                detail=detail,
                retry_after_s=busy.retry_after_s,
                sent=False,
            ) from None
        if self._emit and ticket.waited_s > 0:
            self._emit(RateWaited(url=request.shown, waited_s=ticket.waited_s))
        return ticket

    def _patience_s(self, request: Request) -> float | None:
        """Longest wait worth starting: what the caller allows, at most what its deadline leaves."""
        left_s = None if request.deadline_s is None else request.deadline_s - self._clock.now_s()
        allowed_s = request.max_wait_s
        if allowed_s is None and request.lane == "interactive":
            allowed_s = self._gate.policy.max_wait_s
        return min((limit for limit in (allowed_s, left_s) if limit is not None), default=None)

    def _settle(self, ticket: Ticket, request: Request, error: Error) -> None:
        match error:
            case RateLimited():
                ticket.throttled(error.retry_after_s)
                if self._emit:
                    self._emit(Throttled(url=request.shown, retry_after_s=error.retry_after_s))
            case ConnectionFailed() | TimedOut(sent=False):
                ticket.unsent()
            case ServerFault() if error.status in OVERLOAD_STATUSES:
                ticket.overloaded()
            case TimedOut():
                ticket.overloaded()
            case StatusError():
                ticket.accepted()
            case _:
                ticket.lost()
