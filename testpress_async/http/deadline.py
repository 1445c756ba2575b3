"""One deadline over a whole call: every try, every wait, every login it causes."""

from __future__ import annotations

import asyncio

import msgspec

from testpress_async.errors import TimedOut
from testpress_async.http.clock import Clock
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler


class Deadline:
    """Middleware: end a call `total_s` after it began, or after its own `timeout_s`."""

    def __init__(self, total_s: float, clock: Clock) -> None:
        self._total_s, self._clock = total_s, clock

    async def __call__(self, request: Request, handler: Handler) -> Response:
        limit_s = self._total_s if request.timeout_s is None else request.timeout_s
        deadline_s = self._clock.now_s() + limit_s
        scope = asyncio.timeout(limit_s)
        try:
            async with scope:
                return await handler(msgspec.structs.replace(request, deadline_s=deadline_s))
        except TimeoutError:
            if not scope.expired():
                raise  # somebody else's, out of a middleware of the caller
            raise TimedOut(request.method, request.shown, "total_s", limit_s) from None
