"""Pacing: every try, logins and redirects included, passes one gate shared by the client and its clones."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

from testpress_async.errors import ConnectionFailed, Error, RateLimited, ServerFault, StatusError, TimedOut
from testpress_async.http.clock import Clock
from testpress_async.http.events import Observer, RateWaited, RateWaiting, Throttled
from testpress_async.http.gate import Gate, GateBusy, Ticket
from testpress_async.http.logs import HTTP, seconds, tell
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler

OVERLOAD_STATUSES = frozenset({503, 504})


@runtime_checkable
class Perishable(Protocol):
    """Headers that a long wait can make useless: a token ends."""

    @property
    def outdated(self) -> bool: ...


class Outdated(Exception):
    """The request was not sent: while it waited its headers became useless. Its slot was given back."""


class RateLimit:
    """Middleware: wait for the gate, then tell it how the try went."""

    def __init__(self, gate: Gate, clock: Clock, emit: Observer | None = None) -> None:
        self._gate, self._clock, self._emit = gate, clock, emit

    async def __call__(self, request: Request, handler: Handler) -> Response:
        ticket = self._gate.try_enter(request.lane) or await self._wait(request)
        if ticket.waited_s > 0 and isinstance(request.headers, Perishable) and request.headers.outdated:
            ticket.unsent()
            raise Outdated
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
        patience_s = self._patience_s(request)
        if self._emit or HTTP.isEnabledFor(logging.DEBUG):
            self._tell_of_wait(request, patience_s)
        try:
            ticket = await self._gate.enter(request.lane, max_wait_s=patience_s)
        except GateBusy as busy:
            detail = (
                "our own limiter: the institute's limit is used up, or all connections are busy; "
                "ask later or raise max_wait_s"
            )
            raise RateLimited(
                request.method,
                request.shown,
                429,
                detail=detail,
                retry_after_s=busy.retry_after_s,
                sent=False,
            ) from None
        if self._emit:  # who was told that it begins is told that it ends, even in the same instant
            self._emit(RateWaited(call=request.call, url=request.shown, waited_s=ticket.waited_s))
        return ticket

    def _tell_of_wait(self, request: Request, patience_s: float | None) -> None:
        expected_s = self._gate.expected_s(request.lane)
        if patience_s is not None and expected_s is not None and expected_s > patience_s:
            return  # it is not going to wait at all
        if self._emit:
            self._emit(RateWaiting(call=request.call, url=request.shown, expected_s=expected_s))
        text, known = "%s waits for the limiter, %s", seconds(expected_s, "until another request ends")
        tell(HTTP, logging.DEBUG, text, request.shown, known)

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
                self._tell_of_throttle(request, error.retry_after_s)
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

    def _tell_of_throttle(self, request: Request, retry_after_s: float | None) -> None:
        if self._emit:
            self._emit(Throttled(call=request.call, url=request.shown, retry_after_s=retry_after_s))
        level = logging.WARNING if self._gate.throttled == 1 else logging.INFO  # it goes on like that
        text = "%s answered 429 and asks for a pause of %s; all requests of this client keep it"
        tell(HTTP, level, text, request.shown, seconds(retry_after_s, "unknown length"))
