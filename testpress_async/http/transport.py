"""The network edge: a `Request` becomes a `Response` with its whole body, over aiohttp.

The only file that knows the HTTP library. It reads, bounds and unpacks the body, proves that it is whole,
gives the connection back, and turns the library's errors into ours.
"""

from __future__ import annotations

import asyncio
import io
import select
import weakref
import zlib

import aiohttp
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from testpress_async._version import __version__
from testpress_async.errors import AnswerLost, BodyTooLarge, ConfigError, ConnectionFailed, Error, TimedOut
from testpress_async.http.clock import Clock
from testpress_async.http.message import Request, Response
from testpress_async.http.policy import Timeouts

MAX_REFUSAL_BYTES = 64 * 1024  # what is read of an error's or a redirect's body; the rest is dropped
UNPACK_STEP_BYTES = 256 * 1024  # unpacked at a time: zlib holds each result twice for a moment
LARGE_BYTES = 8 * 1024 * 1024  # from here on a body gets room that need never move; pages are smaller
LARGE_ROOM_BYTES = 33 * 1024 * 1024  # more than glibc takes from its heap, where what grows may be copied
MAX_LINE_BYTES = 8190  # one header; aiohttp's own limits, pinned so that no release loosens them
MAX_HEADERS = 128
TRANSIENT_PROXY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"testpress-async/{__version__}",
}


class Transport:
    """Handler: send one request over the session, read the answer.

    A session of our own keeps no cookies, reads no proxy or netrc from the environment, repeats nothing by
    itself and takes no answer that nobody asked for. A borrowed one is used as it is and never closed.
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
        self.received_bytes = 0  # of bodies, as they came
        self._speaks_http = False  # whether a valid answer ever came from there
        self._limits = aiohttp.ClientTimeout(
            total=timeouts.try_s, connect=timeouts.connect_s, sock_read=timeouts.read_idle_s
        )

    def open(self) -> None:
        """Make the session; needs a running loop. No connection is opened yet."""
        if self._owned:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=self._max_connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                middlewares=(_send_once,),
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
                max_headers=MAX_HEADERS,
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
                self._speaks_http = True
                return await self._read(request, answer)
        except (aiohttp.ClientError, OSError, zlib.error) as error:  # TimeoutError is an OSError
            failure = translate(request, error, self._timeouts, speaks_http=self._speaks_http)
        raise failure  # out here without a cause: the library's texts hold raw headers, bodies and the URL

    async def _read(self, request: Request, answer: aiohttp.ClientResponse) -> Response:
        if answer.status >= 300:
            return await self._read_refusal(request, answer)
        body = _Body(request, answer, self._max_body_bytes)
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
            body = _Body(request, answer, MAX_REFUSAL_BYTES)
            try:
                await self._fill(body, request, answer)
            finally:
                content = body.bytes()
        except (AnswerLost, BodyTooLarge, TimedOut, aiohttp.ClientError, OSError, zlib.error):
            answer.close()
        return Response(status=answer.status, headers=answer.headers, body=content)

    async def _fill(self, body: _Body, request: Request, answer: aiohttp.ClientResponse) -> None:
        began_s = self._clock.now_s()
        while piece := await answer.content.readany():  # b"" is the end
            body.add(piece)
            self._require_pace(request, body.wire_bytes, self._clock.now_s() - began_s)
        self.received_bytes += body.wire_bytes

    def _require_pace(self, request: Request, received: int, elapsed_s: float) -> None:
        floor = self._timeouts.min_bytes_per_s
        if elapsed_s > self._timeouts.read_idle_s and received < floor * elapsed_s:
            raise TimedOut(request.method, request.shown, "min_bytes_per_s", floor)


class _Connector(aiohttp.TCPConnector):
    """A pool that closes a kept connection on which anything came while it was idle.

    aiohttp would hand a second answer, which belongs to no request, to the next request.
    """

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit)  # pyright: ignore[reportUnknownMemberType] - of another parameter
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:  # new; a TLS one may have tickets to read
                if protocol is not None:
                    self._used.add(protocol)
                return connection
            if not _spoke_unasked(protocol):
                return connection
            connection.close()


def _spoke_unasked(protocol: ResponseHandler) -> bool:
    """Whether a kept connection has something to read, here or still in the system's buffer."""
    if protocol.should_close or protocol.transport is None:
        return True
    socket = protocol.transport.get_extra_info("socket")
    if socket is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Dropped(aiohttp.ClientError):
    """Carries *error* past the code in aiohttp that would send the request again."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__()
        self.error = error


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp middleware: every repetition is ours, so that the limiter and the deadline see it."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Dropped(error) from None


class _Body:
    """Pieces of a body, unpacked as they come and bounded in decoded bytes."""

    def __init__(self, request: Request, answer: aiohttp.ClientResponse, limit_bytes: int) -> None:
        self._request, self._limit_bytes = request, limit_bytes
        lines = answer.headers.getall("Content-Encoding", ())  # several lines are one list
        coding = ", ".join(lines).strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            raise AnswerLost(
                request.method,
                request.shown,
                f"content coding {coding[:40]!r}, only gzip was asked for",
                permanent=True,
            )
        self.packed = coding.endswith("gzip")
        self._gzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if self.packed else None
        self._kept = io.BytesIO()
        self._size = 0
        self._tail = False
        self.wire_bytes = 0

    def add(self, piece: bytes) -> None:
        self.wire_bytes += len(piece)
        if self._gzip is None:
            self._keep(piece)
            return
        self._tail = self._tail or self._gzip.eof
        while piece and not self._gzip.eof:  # what follows the stream is dropped, zlib would keep it
            self._keep(self._gzip.decompress(piece, UNPACK_STEP_BYTES))
            piece = self._gzip.unconsumed_tail

    def _keep(self, piece: bytes) -> None:
        before, self._size = self._size, self._size + len(piece)
        if self._size > self._limit_bytes:
            piece = piece[: self._limit_bytes - before]  # a refusal keeps its beginning
        if not before:
            self._kept = io.BytesIO(piece)  # shared, not copied: it is often all there is
            self._kept.seek(0, io.SEEK_END)
        else:
            if before <= LARGE_BYTES < self._size:
                self._kept = _roomy(self._kept.getvalue())
            self._kept.write(piece)
        if self._size > self._limit_bytes:
            raise BodyTooLarge(self._request.method, self._request.shown, self._limit_bytes)

    def require_whole(self) -> None:
        """Raise AnswerLost unless the gzip stream ended, checksum and all, exactly with the body."""
        if self._gzip is not None and (not self._gzip.eof or self._gzip.unused_data or self._tail):
            raise AnswerLost(
                self._request.method, self._request.shown, "the compressed body is cut or has a tail"
            )

    def bytes(self) -> bytes:
        self._kept.truncate()
        return self._kept.getvalue()  # no copy, unlike joining pieces: a large body exists once


def _roomy(beginning: bytes) -> io.BytesIO:
    """*beginning*, to be written on in memory that the system fills in only as it is written to."""
    kept = io.BytesIO(bytes(LARGE_ROOM_BYTES))  # nobody else has these zeros: they are taken as they are
    kept.write(beginning)
    return kept


def translate(request: Request, error: Exception, timeouts: Timeouts, *, speaks_http: bool = False) -> Error:
    """Our error for one of the library's or the system's; its text may hold raw headers and is not kept.

    *speaks_http*: whether the server gave valid answers before, so that junk is an accident.
    """
    method, url = request.method, request.shown
    match error:
        case _Dropped():
            return translate(request, error.error, timeouts)
        case aiohttp.ConnectionTimeoutError():
            return TimedOut(method, url, "connect_s", timeouts.connect_s, sent=False)
        case aiohttp.SocketTimeoutError():
            return TimedOut(method, url, "read_idle_s", timeouts.read_idle_s)
        case asyncio.TimeoutError():
            return TimedOut(method, url, "try_s", timeouts.try_s)
        case aiohttp.ClientConnectorError():
            reason, permanent = _why_unconnected(error)
            return ConnectionFailed(method, url, reason, permanent=permanent)
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy refused the tunnel with status {error.status}; nothing was sent"
            permanent = error.status not in TRANSIENT_PROXY_STATUSES
            return ConnectionFailed(method, url, reason, permanent=permanent)
        case aiohttp.ServerDisconnectedError():
            return AnswerLost(method, url, "the server closed the connection without an answer")
        case aiohttp.ClientPayloadError() | zlib.error():
            return AnswerLost(method, url, "the body is cut or corrupt")
        case aiohttp.ClientResponseError():
            stray = speaks_http and error.message.startswith(_STRAY_BYTES)
            reason = "more came than the answer's length" if stray else "the answer is not valid HTTP"
            return AnswerLost(method, url, reason, permanent=not stray)
        case aiohttp.InvalidURL():
            return ConfigError("base_url", "is not a usable address")
        case OSError():
            return AnswerLost(method, url, f"the connection broke ({error.strerror or type(error).__name__})")
        case _:
            return AnswerLost(method, url, f"the connection broke ({type(error).__name__})")


_STRAY_BYTES = ("Bad status line", "Data after")  # how aiohttp begins its words for bytes between answers


def _why_unconnected(error: aiohttp.ClientConnectorError) -> tuple[str, bool]:
    """(reason, whether it is permanent)."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "refused"
            return f"the TLS certificate was refused ({why}); nothing was sent", True
        case aiohttp.ClientSSLError():
            why = getattr(error.os_error, "reason", None) or "refused"
            return f"the TLS handshake failed ({why}): is it an https port? Nothing was sent", True
        case aiohttp.ClientConnectorDNSError():
            return "the host name does not resolve: check base_url", False
        case aiohttp.ClientProxyConnectionError():
            return f"no connection to the proxy ({error.strerror or 'refused'})", False
        case _:
            return f"no connection ({error.strerror or 'refused'})", False
