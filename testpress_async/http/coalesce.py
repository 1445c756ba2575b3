"""Identical GETs that run at the same time are one call upstream: a "single flight".

A page that many people open in the same second asks for the same attempt many times. Whoever asks while an
identical request of this client is on its way gets that request's answer. Nothing is kept afterwards: this
is no cache, and the answer is as old as the oldest of those calls at most.

- Identical: the same path and query, lane, `max_wait_s` and `timeout_s`. An interactive call never waits in
  the bulk lane, nor does one that may wait long get the error of one that may not.
- Each caller keeps its own deadline and may be cancelled alone. When the last one has gone, the call upstream
  is cancelled. Retries and waits for the limiter are those of the first caller, within its deadline.
- Each caller gets an error as a copy of its own, as iterations write their place into it.
- It stands inside one session, so neither another client nor another account ever shares.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine

from testpress_async.errors import ConfigError
from testpress_async.http.message import Lane, Request, Response
from testpress_async.http.pipeline import Handler

Key = tuple[str, Lane, float | None, float | None]
Spawn = Callable[[Coroutine[object, object, Response]], asyncio.Task[Response]]


class _Flight:
    """A call upstream, and how many wait for it."""

    __slots__ = ("call", "waiting")

    def __init__(self, call: asyncio.Task[Response]) -> None:
        self.call, self.waiting = call, 0


class Coalesce:
    """Middleware: let identical requests share one call, in a task that *spawn* ties to the client."""

    def __init__(self, spawn: Spawn, is_closed: Callable[[], bool]) -> None:
        self._spawn, self._is_closed = spawn, is_closed
        self._flights: dict[Key, _Flight] = {}

    async def __call__(self, request: Request, handler: Handler) -> Response:
        key = (request.target, request.lane, request.max_wait_s, request.timeout_s)
        flight = self._flights.get(key) or self._start(key, request, handler)
        flight.waiting += 1
        try:
            await asyncio.wait([flight.call])  # leaves it alone when we are cancelled
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.call.done():
                await self._abandon(key, flight)
        return self._outcome(flight.call)

    def _start(self, key: Key, request: Request, handler: Handler) -> _Flight:
        flight = self._flights[key] = _Flight(self._spawn(_run(request, handler)))
        flight.call.add_done_callback(lambda call: self._land(key, call))
        return flight

    def _land(self, key: Key, call: asyncio.Task[Response]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.call is call:  # else abandoned, and perhaps another took off
            del self._flights[key]
        if not call.cancelled():
            call.exception()  # looked at: its callers may all have gone in the same moment

    async def _abandon(self, key: Key, flight: _Flight) -> None:
        """Nobody waits any more. Nobody may join either; when this returns, nothing is left of it."""
        del self._flights[key]
        flight.call.cancel()
        await asyncio.wait([flight.call])

    def _outcome(self, call: asyncio.Task[Response]) -> Response:
        if call.cancelled() and self._is_closed():
            raise ConfigError("client", "was closed while a request was on its way")
        error = None if call.cancelled() else call.exception()
        if error is not None:
            raise _own(error)
        return call.result()


async def _run(request: Request, handler: Handler) -> Response:
    return await handler(request)


def _own(error: BaseException) -> BaseException:
    """A copy of *error* with its facts, cause and trace; *error* itself if it cannot be copied."""
    try:
        mine = copy.copy(error)
    except Exception:  # of a caller's middleware: it takes arguments that it does not keep
        return error
    vars(mine).update(vars(error))  # what our errors leave out of pickles
    mine.__cause__, mine.__suppress_context__ = error.__cause__, error.__suppress_context__
    return mine.with_traceback(error.__traceback__)
