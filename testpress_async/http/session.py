"""What a client and its clones share: pool, gate, retry budget, token, tasks; and the pipeline over them.

Order, outermost first: events → deadline → retry → auth → redirects → rate limit → status check → the
caller's middlewares → transport. Every try, login and redirect hop pays the limiter.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

import aiohttp

from testpress_async.errors import ConfigError, Error
from testpress_async.http.auth import Auth, TokenSource
from testpress_async.http.check import check
from testpress_async.http.clock import Clock
from testpress_async.http.deadline import Deadline
from testpress_async.http.events import Observer, RequestFinished, RequestStarted
from testpress_async.http.gate import Gate
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler, Middleware, compose
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.ratelimit import RateLimit
from testpress_async.http.redirects import Redirects
from testpress_async.http.retry import Retry, RetryQuota
from testpress_async.http.transport import Transport
from testpress_async.http.window import RatePolicy

T = TypeVar("T")


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
        self.emit, self.clock = emit, clock
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
        self._handler: Handler = compose(
            [
                *([Events(emit, clock)] if emit else []),
                Deadline(timeouts.total_s, clock),
                Retry(retry, self.quota, clock, jitter, emit),
                Auth(token_source(clock), clock, emit, token=token),
                Redirects(origin),
                RateLimit(self.gate, clock, emit),
                check,
                *middleware,
            ],
            self._transport,
        )
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
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
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

    async def send(self, request: Request) -> Response:
        """Run *request* through the whole pipeline."""
        self.require_open()
        return await self._handler(request)

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
        if os.getpid() != self._pid:
            raise ConfigError("client", "belongs to the parent process; make a new one after a fork")
        if asyncio.get_running_loop() is not self._loop:
            raise ConfigError("client", "belongs to another event loop; make one client per loop")


class Events:
    """Middleware: report begin and end of every call. Only in the pipeline when somebody listens."""

    def __init__(self, emit: Observer, clock: Clock) -> None:
        self._emit, self._clock = emit, clock

    async def __call__(self, request: Request, handler: Handler) -> Response:
        began_s = self._clock.now_s()
        self._emit(RequestStarted(method=request.method, url=request.shown))
        status, size, failure = None, 0, None
        try:
            response = await handler(request)
            status, size = response.status, len(response.body)
        except BaseException as error:
            failure = type(error).__name__
            status = getattr(error, "status", None) if isinstance(error, Error) else None
            raise
        finally:
            self._emit(
                RequestFinished(
                    method=request.method,
                    url=request.shown,
                    status=status,
                    body_bytes=size,
                    elapsed_s=self._clock.now_s() - began_s,
                    error=failure,
                )
            )
        return response
