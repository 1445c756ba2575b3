"""Error statuses become typed errors, and a success must be JSON, inside the reach of retry."""

from __future__ import annotations

from testpress_async.errors import AnswerLost
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.redirects import FOLLOWED
from testpress_async.http.wire import error_for, require_json


async def check(request: Request, handler: Handler) -> Response:
    """Middleware: raise what the answer stands for; redirects pass.

    The other 3xx (300, 304, …) answer questions nobody asked: no data, whatever their body says.
    """
    response = await handler(request)
    if response.status < 300:
        require_json(request, response)
    elif (error := error_for(request, response)) is not None:
        raise error
    elif response.status not in FOLLOWED:
        reason = f"answered {response.status}, which is neither data nor a redirect"
        raise AnswerLost(request.method, request.shown, reason, permanent=True)
    return response
