"""Error statuses become typed errors, and a success must be JSON, inside the reach of retry."""

from __future__ import annotations

from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.wire import error_for, require_json


async def check(request: Request, handler: Handler) -> Response:
    """Middleware: raise what the answer stands for; redirects pass."""
    response = await handler(request)
    if response.status < 300:
        require_json(request, response)
    elif (error := error_for(request, response)) is not None:
        raise error
    return response
