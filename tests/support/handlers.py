"""A handler that answers from a script and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from multidict import CIMultiDict

from testpress_async.http.message import Request, Response

Step = Response | BaseException | Callable[[Request], Response]


def reply(status: int = 200, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Response:
    """An answer with case-insensitive headers, as the transport gives them."""
    return Response(status=status, headers=CIMultiDict(headers or {}), body=body)


class Scripted:
    """Innermost handler for tests: gives out *steps* in order; fails loudly when none is left."""

    def __init__(self, steps: Iterable[Step] = (), *, default: Step | None = None) -> None:
        self._steps = iter(steps)
        self._default = default
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        step = next(self._steps, self._default)
        if step is None:
            raise AssertionError(f"request {len(self.requests)} was not expected: {request.shown}")
        if isinstance(step, BaseException):
            raise step
        return step if isinstance(step, Response) else step(request)

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]
