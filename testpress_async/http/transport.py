"""The network edge: a `Request` becomes a `Response` with its whole body, over aiohttp.

The only file that knows the HTTP library. It reads, bounds and unpacks the body, proves that it is whole,
gives the connection back, and turns the library's errors into ours.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

import aiohttp
import yarl

from testpress_async._version import __version__
from testpress_async.errors import AnswerLost, BodyTooLarge, ConfigError, ConnectionFailed, Error, TimedOut
from testpress_async.http.clock import Clock
from testpress_async.http.message import Request, Response
from testpress_async.http.policy import Timeouts

MAX_REFUSAL_BYTES = 64 * 1024  # what is read of an error's or a redirect's body; the rest is dropped
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"testpress-async/{__version__}",
}


class Transport:
    """Handler: send one request over the session, read the answer.

    A session of our own keeps no cookies and reads no proxy or netrc from the environment. A borrowed one is
    used as it is and never closed.
    """

    def __init__(
        self,
        origin: str,
        timeouts: Timeouts,
        clock: Clock,
        *,
        max_connections: int,
        max_body_bytes: int,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._origin, self._timeouts, self._clock = origin, timeouts, clock
        self._max_connections, self._max_body_bytes = max_connections, max_body_bytes
        self._session, self._owned = session, session is None
        self._limits = aiohttp.ClientTimeout(
            total=timeouts.try_s, connect=timeouts.connect_s, sock_read=timeouts.read_idle_s
        )

    def open(self) -> None:
        """Make the session; needs a running loop. No connection is opened yet."""
        if self._owned:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )

    async def close(self) -> None:
        if self._owned and self._session is not None:
            await self._session.close()

    async def __call__(self, request: Request) -> Response:
        session = self._session
        if session is None or session.closed:
            raise ConfigError("session", "the aiohttp session is closed")
        try:
            async with session.request(
                request.method,
                yarl.URL(self._origin + request.target, encoded=True),
                headers={**HEADERS, **request.headers},
                data=request.body,
                allow_redirects=False,
                auto_decompress=False,
                timeout=self._limits,
            ) as answer:
                return await self._read(request, answer)
        except (aiohttp.ClientError, OSError, zlib.error) as error:  # TimeoutError is an OSError
            raise translate(request, error, self._timeouts) from error

    async def _read(self, request: Request, answer: aiohttp.ClientResponse) -> Response:
        if answer.status >= 300:
            return await self._read_refusal(request, answer)
        body = _Body(request, answer.headers, self._max_body_bytes)
        try:
            await self._fill(body, request, answer)
            body.require_whole()
        except BaseException:
            answer.close()
            raise
        framed = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers or body.packed
        return Response(status=answer.status, headers=answer.headers, body=body.bytes(), framed=framed)

    async def _read_refusal(self, request: Request, answer: aiohttp.ClientResponse) -> Response:
        """An error or redirect: the status counts, however little of the body can be read.

        A refused login above all must not look like a lost answer, which would be sent again.
        """
        content = b""
        try:
            body = _Body(request, answer.headers, MAX_REFUSAL_BYTES)
            try:
                await self._fill(body, request, answer)
            finally:
                content = body.bytes()
        except (AnswerLost, BodyTooLarge, TimedOut, aiohttp.ClientError, OSError, zlib.error):
            answer.close()
        return Response(status=answer.status, headers=answer.headers, body=content)

    async def _fill(self, body: _Body, request: Request, answer: aiohttp.ClientResponse) -> None:
        began_s = self._clock.now_s()
        async for piece in answer.content.iter_any():
            body.add(piece)
            self._require_pace(request, body.wire_bytes, self._clock.now_s() - began_s)

    def _require_pace(self, request: Request, received: int, elapsed_s: float) -> None:
        floor = self._timeouts.min_bytes_per_s
        if elapsed_s > self._timeouts.read_idle_s and received < floor * elapsed_s:
            raise TimedOut(request.method, request.shown, "min_bytes_per_s", floor)


class _Body:
    """Pieces of a body, unpacked as they come and bounded in decoded bytes."""

    def __init__(self, request: Request, headers: Mapping[str, str], limit_bytes: int) -> None:
        self._request, self._limit_bytes = request, limit_bytes
        coding = headers.get("Content-Encoding", "").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            raise AnswerLost(
                request.method,
                request.shown,
                f"content coding {coding[:40]!r}, only gzip was asked for",
                permanent=True,
            )
        self.packed = coding.endswith("gzip")
        self._gzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if self.packed else None
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = False
        self.wire_bytes = 0

    def add(self, piece: bytes) -> None:
        self.wire_bytes += len(piece)
        if self._gzip is not None:
            if self._gzip.eof:  # zlib would keep all that follows
                self._tail = True
                return
            piece = self._gzip.decompress(piece, self._limit_bytes - self._size + 1)
        room = self._limit_bytes - self._size
        self._size += len(piece)
        self._pieces.append(piece[:room])  # a refusal keeps its beginning
        if self._size > self._limit_bytes:
            raise BodyTooLarge(self._request.method, self._request.shown, self._limit_bytes)

    def require_whole(self) -> None:
        """Raise AnswerLost unless the gzip stream ended, checksum and all, exactly with the body."""
        if self._gzip is not None and (not self._gzip.eof or self._gzip.unused_data or self._tail):
            raise AnswerLost(
                self._request.method, self._request.shown, "the compressed body is cut or has a tail"
            )

    def bytes(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def translate(request: Request, error: Exception, timeouts: Timeouts) -> Error:
    """Our error for one of the library's or the system's; its text may hold raw headers and is not kept."""
    method, url = request.method, request.shown
    match error:
        case aiohttp.ConnectionTimeoutError():
            return TimedOut(method, url, "connect_s", timeouts.connect_s, sent=False)
        case aiohttp.SocketTimeoutError():
            return TimedOut(method, url, "read_idle_s", timeouts.read_idle_s)
        case asyncio.TimeoutError():
            return TimedOut(method, url, "try_s", timeouts.try_s)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            reason = "the TLS certificate or handshake was refused; nothing was sent"
            return ConnectionFailed(method, url, reason, permanent=True)
        case aiohttp.ClientConnectorDNSError():
            return ConnectionFailed(method, url, "the host name does not resolve: check base_url")
        case aiohttp.ClientConnectorError():
            return ConnectionFailed(method, url, f"no connection ({error.strerror or 'refused'})")
        case aiohttp.ServerDisconnectedError():
            return AnswerLost(method, url, "the server closed the connection without an answer")
        case aiohttp.ClientPayloadError() | zlib.error():
            return AnswerLost(method, url, "the body is cut or corrupt")
        case aiohttp.ClientResponseError():
            return AnswerLost(method, url, "the answer is not valid HTTP", permanent=True)
        case aiohttp.InvalidURL():
            return ConfigError("base_url", "is not a usable address")
        case OSError():
            return AnswerLost(method, url, f"the connection broke ({error.strerror or type(error).__name__})")
        case _:
            return AnswerLost(method, url, f"the connection broke ({type(error).__name__})")
