"""Redirects: followed for GET, three hops at most, on the same scheme, host and port only.

Nothing is ever sent to another origin, so there is no credential to strip. Each hop is a request of its own
and pays the limiter.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import msgspec

from testpress_async.errors import AnswerLost, AuthenticationFailed, ForeignOrigin
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler

MAX_HOPS = 3
UNUSABLE = "an unusable address"
FOLLOWED = frozenset({301, 302, 303, 307, 308})
_TARGET = re.compile(r"/[\x21-\x7e]*")  # anything else would have to be encoded, or breaks the request line
DEFAULT_PORTS = {"https": 443, "http": 80}


def origin_of(url: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of *url*; None if it is no plain http(s) address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or "\\" in url:
        return None
    return parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme]


class Redirects:
    """Middleware: follow what may be followed, name what may not."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    async def __call__(self, request: Request, handler: Handler) -> Response:
        response = await handler(request)
        hops = 0
        while response.status in FOLLOWED:
            request = self._next(request, response)
            if (hops := hops + 1) > MAX_HOPS:
                reason = f"redirected more than {MAX_HOPS} times"
                raise AnswerLost(request.method, request.shown, reason, permanent=True)
            response = await handler(request)
        return response

    def _next(self, request: Request, response: Response) -> Request:
        location = _joined(self._origin + request.target, response.headers.get("Location", "").strip())
        if request.method != "GET" or origin_of(location) != origin_of(self._origin):
            raise ForeignOrigin(
                request.method, request.shown, _shown_origin(location), _remedy(request, location)
            )
        parts = urlsplit(location)
        target = parts.path + ("?" + parts.query if parts.query else "")
        if not parts.path.startswith("/api/"):
            detail = (
                "redirected outside the API, most likely to a login page: is the token for this institute?"
            )
            raise AuthenticationFailed(request.method, request.shown, response.status, detail=detail)
        if not _TARGET.fullmatch(target):
            raise ForeignOrigin(request.method, request.shown, UNUSABLE)
        return msgspec.structs.replace(request, target=target)


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:  # half an IPv6 address
        return ""


def _shown_origin(location: str) -> str:
    origin = origin_of(location)
    return UNUSABLE if origin is None else f"{origin[0]}://{origin[1]}:{origin[2]}"


def _remedy(request: Request, location: str) -> str:
    if request.method != "GET":
        return "A login is never redirected: set base_url to the address the institute answers on"
    return "If that is the institute's address, use it as base_url" if origin_of(location) else ""
