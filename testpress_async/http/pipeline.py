"""How middlewares compose. The first one given is the outermost.

The whole body is read inside the innermost handler, so a retry covers a body that is cut half-way, a
middleware sees a finished value, and no connection stays open while one of them waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from testpress_async.http.message import Request, Response

Handler = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Request, Handler], Awaitable[Response]]


def compose(middlewares: Sequence[Middleware], innermost: Handler) -> Handler:
    """A handler that runs *middlewares* around *innermost*."""
    handler = innermost
    for middleware in reversed(middlewares):
        handler = _bind(middleware, handler)
    return handler


def _bind(middleware: Middleware, inner: Handler) -> Handler:
    def call(request: Request) -> Awaitable[Response]:
        return middleware(request, inner)

    return call
