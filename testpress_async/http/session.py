"""What a client and its clones share: pool, gate, retry budget, token, tasks; and the pipeline over them.

Order, outermost first: events → deadline → coalesce, if asked for → retry → auth → redirects → rate limit
→ discretion → status check → the caller's middlewares → transport. Every try, login and redirect hop pays the
limiter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

import aiohttp
import msgspec

from testpress_async.errors import AnswerLost, ConfigError, ConnectionFailed, Error, NotJSON, StatusError
from testpress_async.http.auth import Auth, TokenSource
from testpress_async.http.check import check
from testpress_async.http.clock import Clock
from testpress_async.http.coalesce import Coalesce
from testpress_async.http.deadline import Deadline
from testpress_async.http.events import Observer, RequestFinished, RequestStarted
from testpress_async.http.gate import Gate
from testpress_async.http.logs import HTTP, tell
from testpress_async.http.message import Request, Response, without_secrets
from testpress_async.http.pipeline import Handler, Middleware, compose
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.ratelimit import RateLimit
from testpress_async.http.redirects import Redirects
from testpress_async.http.retry import Retry, RetryQuota
from testpress_async.http.stats import Stats
from testpress_async.http.transport import Transport
from testpress_async.http.window import RatePolicy

T = TypeVar("T")

_NUMBERS = itertools.count(1)  # of calls that somebody listens to


class Session:
    """Opened once, by one event loop, in one process."""

    def __init__(
        self,
        origin: str,
        token_source: Callable[[Clock], TokenSource],
        *,
        clock: Clock,
        token: str | None,
        session: aiohttp.ClientSession | None,
        retry: RetryPolicy,
        rate: RatePolicy,
        timeouts: Timeouts,
        max_connections: int,
        max_body_bytes: int,
        middleware: Sequence[Middleware],
        emit: Observer | None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.emit, self.clock, self.origin = emit, clock, origin
        self.told: set[tuple[str, str]] = set()  # what the log was told of, and is not told again
        self.gate = Gate(rate, clock, max_in_flight=max_connections)
        self.quota = RetryQuota(retry.quota)
        self._transport = Transport(
            origin,
            timeouts,
            clock,
            max_connections=max_connections,
            max_body_bytes=max_body_bytes,
            session=session,
        )
        self._calls = self._failed_calls = 0
        self._retry = Retry(retry, self.quota, clock, jitter, emit)
        self._auth = Auth(token_source(clock), clock, emit, token=token)
        inner = compose(
            [
                self._retry,
                self._auth,
                Redirects(origin),
                RateLimit(self.gate, clock, emit),
                discreet,
                check,
                *middleware,
            ],
            self._transport,
        )
        deadline = Deadline(timeouts.total_s, clock)
        self._handler: Handler = compose([deadline], inner)
        self._coalescing = compose([deadline, Coalesce(self.spawn, lambda: self._closed)], inner)
        self._events = Events(emit, clock, origin)
        self._tasks: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False

    def open(self) -> None:
        """Bind to the running loop. Opens no connection and sends nothing."""
        if self._closed:
            raise ConfigError("client", "is closed; make a new one")
        if self._loop is not None:
            raise ConfigError("client", "is already open; enter it once and share it")
        self._loop, self._pid = _running_loop(), os.getpid()
        self._transport.open()

    async def close(self) -> None:
        """Cancel what still runs for this client, wait for it, close the connections. Idempotent."""
        if self._loop is None or self._closed:
            self._closed = True
            return
        self._require_here()
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._transport.close()

    async def send(self, request: Request, *, coalesce: bool = False) -> Response:
        """Run *request* through the whole pipeline; *coalesce*: it may share an identical one's answer."""
        self.require_open()
        self._calls += 1
        handler = self._coalescing if coalesce else self._handler
        try:
            if self.emit or HTTP.isEnabledFor(logging.DEBUG):
                return await self._events(request, handler)
            return await handler(request)
        except Error as error:
            self._failed_calls += 1
            if not self._closed or not _is_of_closing(error):
                raise
            raise ConfigError("client", "was closed while a request was on its way") from error

    def stats(self) -> Stats:
        """How it stands now."""
        gate = self.gate
        return Stats(
            calls=self._calls,
            failed_calls=self._failed_calls,
            requests=gate.granted,
            repeated_tries=self._retry.repeated,
            throttled=gate.throttled,
            logins=self._auth.logins,
            received_bytes=self._transport.received_bytes,
            waits=gate.waits,
            waited_s=gate.waited_s,
            limits=gate.learned,
            in_flight=gate.in_flight,
            queued=gate.waiting,
            max_in_flight=gate.max_in_flight,
            retry_quota=self.quota.available,
            retry_quota_capacity=self.quota.capacity,
        )

    def spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run *work* as a task that ends with this client at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def require_open(self) -> None:
        """Raise ConfigError unless the client can be used here and now."""
        if self._closed:
            raise ConfigError("client", "is closed; requests belong inside its `async with` block")
        if self._loop is None:
            raise ConfigError("client", "is not open; use `async with tp.Client(...) as client:`")
        self._require_here()

    def _require_here(self) -> None:
        """Refuse another process or loop before any byte: two readers of a socket mix up answers."""
        if os.getpid() != self._pid:
            raise ConfigError("client", "belongs to the parent process; make a new one after a fork")
        if _running_loop() is not self._loop:
            ended = self._loop is not None and self._loop.is_closed()
            owner = "an event loop that has ended" if ended else "another event loop"
            raise ConfigError("client", f"belongs to {owner}; make one client per loop")


def _is_of_closing(error: Error) -> bool:
    """Whether *error* is what a call meets when the connections are closed under it."""
    if isinstance(error, ConfigError):
        return error.parameter == "session"
    return isinstance(error, AnswerLost | ConnectionFailed)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError(
            "client", "needs a running asyncio event loop: use it in `asyncio.run(...)`"
        ) from None


async def discreet(request: Request, handler: Handler) -> Response:
    """Middleware: what the server says in an error is passed on without the secrets it echoes."""
    try:
        return await handler(request)
    except StatusError as error:
        error.detail = without_secrets(request, error.detail)
        raise
    except NotJSON as error:  # may quote the title of an HTML page
        error.expected = without_secrets(request, error.expected)
        raise


class Events:
    """Middleware: tell of begin and end of every call. Left out while nobody listens and DEBUG is off."""

    def __init__(self, emit: Observer | None, clock: Clock, origin: str) -> None:
        self._emit, self._clock, self._origin = emit, clock, origin

    async def __call__(self, request: Request, handler: Handler) -> Response:
        began_s, call = self._clock.now_s(), next(_NUMBERS)
        request = msgspec.structs.replace(request, call=call)
        if self._emit:
            started = RequestStarted(call=call, method=request.method, url=request.shown, origin=self._origin)
            self._emit(started)
        try:
            response = await handler(request)
        except BaseException as error:
            answered = error if isinstance(error, StatusError) and getattr(error, "sent", True) else None
            status = answered.status if answered else None  # None if our own limiter refused
            self._finish(request, began_s, status=status, error=type(error).__name__)
            raise
        self._finish(request, began_s, status=response.status, body_bytes=len(response.body))
        return response

    def _finish(
        self,
        request: Request,
        began_s: float,
        *,
        status: int | None,
        body_bytes: int = 0,
        error: str | None = None,
    ) -> None:
        method, url, elapsed_s = request.method, request.shown, self._clock.now_s() - began_s
        if self._emit:
            finished = RequestFinished(
                call=request.call,
                method=method,
                url=url,
                status=status,
                body_bytes=body_bytes,
                elapsed_s=elapsed_s,
                error=error,
            )
            self._emit(finished)
        text = "%s %s: %s, %d bytes in %.3f s"
        tell(HTTP, logging.DEBUG, text, method, url, error or status, body_bytes, elapsed_s)
