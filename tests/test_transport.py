"""The network edge over real loopback sockets: bodies are whole and bounded, failures are named."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme

from testpress_async.errors import AnswerLost, BodyTooLarge, ConfigError, ConnectionFailed, TimedOut
from testpress_async.http.clock import Clock, SystemClock
from testpress_async.http.message import Request, Response
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.retry import Retry, RetryQuota
from testpress_async.http.transport import MAX_REFUSAL_BYTES, UNPACK_STEP_BYTES, Transport, translate
from tests.support.clock import AutoClock, ManualClock
from tests.support.raw_server import HOLD, RawServer, Script, http

GET = Request(target="/api/a/?q=asha&page=2")
GZIP = {"Content-Encoding": "gzip"}
BODY = b'{"results": [' + b"1," * 5000 + b"1]}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def transport_to(
    origin: str,
    *,
    timeouts: Timeouts | None = None,
    clock: Clock | None = None,
    max_body_bytes: int = 1 << 20,
    session: aiohttp.ClientSession | None = None,
) -> AsyncIterator[Transport]:
    transport = Transport(
        origin,
        timeouts or Timeouts(),
        clock or SystemClock(),
        max_connections=2,
        max_body_bytes=max_body_bytes,
        session=session,
    )
    transport.open()
    try:
        yield transport
    finally:
        await transport.close()


async def answer_to(script: Script, *, max_body_bytes: int = 1 << 20) -> Response:
    async with (
        RawServer(script) as server,
        transport_to(server.origin, max_body_bytes=max_body_bytes) as send,
    ):
        return await send(GET)


# --- whole bodies ------------------------------------------------------------------------------------


async def test_a_request_goes_out_as_it_is_and_its_answer_comes_whole() -> None:
    """Target bytes, our headers and body on the wire; status, headers and body back."""
    request = Request(
        method="POST", target="/api/a/?exams=5%2C6&q=%C3%A9", headers={"Authorization": "JWT t"}, body=b"{}"
    )
    async with RawServer(http(BODY, status="201 Created")) as server, transport_to(server.origin) as send:
        response = await send(request)
        [head] = server.heads
    assert (response.status, response.body, response.framed) == (201, BODY, True)
    assert response.headers["content-type"] == "application/json"
    assert head.startswith(b"POST /api/a/?exams=5%2C6&q=%C3%A9 HTTP/1.1\r\n")
    for line in (b"Authorization: JWT t", b"Accept-Encoding: gzip", b"User-Agent: testpress-async/"):
        assert b"\r\n" + line in head


async def test_connections_are_used_again() -> None:
    """A body that was read to its end gives its connection back."""
    async with RawServer(http(b"{}"), keep=True) as server, transport_to(server.origin) as send:
        for _ in range(3):
            await send(GET)
        assert (len(server.heads), server.connections) == (3, 1)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", " GZIP "])
async def test_gzip_is_unpacked(coding: str) -> None:
    """However it is spelled, in one piece or byte by byte."""
    packed = gzip.compress(BODY)
    response = await answer_to(http(packed, headers={"Content-Encoding": coding}))
    assert response.body == BODY


@pytest.mark.parametrize("beyond", [-1, 0, 1, 258, UNPACK_STEP_BYTES])
@pytest.mark.parametrize("wire_chunk", [1, 1 << 20])
async def test_gzip_of_several_steps_is_unpacked_whole(beyond: int, wire_chunk: int) -> None:
    """Nothing is lost where a step of unpacking, a read and the stream's end fall together."""
    body = b"[" + b" " * (2 * UNPACK_STEP_BYTES + beyond - 2) + b"]"
    packed = gzip.compress(body)
    pieces = [packed[at : at + wire_chunk] for at in range(0, len(packed), wire_chunk)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    response = await answer_to(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + chunks)
    assert response.body == body


async def test_gzip_in_tiny_chunks_is_unpacked() -> None:
    """Pieces of a stream have no meaning of their own."""
    packed = gzip.compress(BODY)
    chunks = b"".join(b"1\r\n" + packed[at : at + 1] + b"\r\n" for at in range(len(packed))) + b"0\r\n\r\n"
    response = await answer_to(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + chunks)
    assert response.body == BODY


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("script", "framed"),
    [
        (http(b"{}"), True),
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", True),
        (http(gzip.compress(b"{}"), headers=GZIP, length=None), True),
        (http(b"{}", headers={"Content-Encoding": "identity"}), True),
        (http(b"{}", length=None), False),
    ],
    ids=["length", "chunks", "gzip", "identity", "until it closes"],
)
async def test_the_answer_tells_whether_its_end_was_proved(script: bytes, framed: bool) -> None:
    """Only a body that ends with its connection may be cut unseen."""
    response = await answer_to(script)
    assert (response.body, response.framed) == (b"{}", framed)


# --- broken bodies -----------------------------------------------------------------------------------


@pytest.mark.row(14, 15, 16, 30, 31)
@pytest.mark.parametrize(
    "script",
    [
        http(BODY[:100], length=len(BODY)),
        CHUNKED + b"5\r\n[1,2,\r\n",
        CHUNKED + b"50\r\n[1,",
        http(gzip.compress(BODY)[:-20], headers=GZIP),
        http(gzip.compress(BODY)[:-1], headers=GZIP),
        http(gzip.compress(BODY)[:-20], headers=GZIP, length=None),
        http(gzip.compress(BODY)[:-8] + b"\0" * 8, headers=GZIP),
        http(gzip.compress(BODY) + b"junk", headers=GZIP),
        http(b"{}", headers=GZIP),
        http(b"", headers=GZIP),
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
    ids=[
        "cut",
        "chunk missing",
        "cut in a chunk",
        "gzip cut",
        "gzip one byte short",
        "gzip cut at close",
        "bad checksum",
        "tail",
        "no gzip",
        "empty gzip",
        "silent close",
        "cut head",
    ],
)
async def test_a_broken_answer_is_lost_not_short(script: bytes) -> None:
    """Whatever is missing, no part of a body passes for the whole; another try may help."""
    with pytest.raises(AnswerLost) as caught:
        await answer_to(script)
    assert not caught.value.permanent
    assert caught.value.url == "/api/a/?q=…&page=2"


@pytest.mark.row(15)
async def test_a_reset_connection_is_a_lost_answer() -> None:
    """The request had gone out."""
    async with RawServer([http(b"{", length=10), HOLD]) as server, transport_to(server.origin) as send:
        call = asyncio.ensure_future(send(GET))
        await server.arrival()
        await server.__aexit__(None, None, None)
        with pytest.raises(AnswerLost):
            await call


@pytest.mark.row(27, 33, 35)
@pytest.mark.parametrize(
    "script",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        http(b"x", headers={"Content-Encoding": "br"}),
        http(b"x", headers={"Content-Encoding": "gzip, gzip"}),
        http(BODY, headers={"Content-Encoding": "identity", "content-encoding": "gzip"}),
        http(
            gzip.compress(gzip.compress(BODY)),
            headers={"Content-Encoding": "gzip", "content-encoding": "gzip"},
        ),
        http(gzip.compress(BODY), headers={"Content-Encoding": "gzip", "content-encoding": "br"}),
    ],
    ids=["ssh", "no status", "brotli", "twice", "another line", "twice in two lines", "two in two lines"],
)
async def test_a_server_that_speaks_something_else_is_permanent(script: bytes) -> None:
    """Trying again cannot help, so nothing is retried."""
    with pytest.raises(AnswerLost) as caught:
        await answer_to(script)
    assert caught.value.permanent
    assert "SSH" not in str(caught.value)


# --- bounds ------------------------------------------------------------------------------------------


@pytest.mark.row(32)
@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_may_be_as_large_as_the_bound_and_no_larger(packed: bool) -> None:
    """The bound counts decoded bytes, to the byte."""
    script = http(gzip.compress(BODY), headers=GZIP) if packed else http(BODY)
    assert (await answer_to(script, max_body_bytes=len(BODY))).body == BODY
    with pytest.raises(BodyTooLarge) as caught:
        await answer_to(script, max_body_bytes=len(BODY) - 1)
    assert caught.value.limit_bytes == len(BODY) - 1


@pytest.mark.row(32)
async def test_a_bomb_is_stopped_in_bounded_memory() -> None:
    """64 MiB out of 64 KiB never exist at once."""
    script = http(gzip.compress(bytes(64 << 20)), headers=GZIP)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            await answer_to(script, max_body_bytes=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.row(30)
async def test_what_follows_a_gzip_stream_is_not_kept() -> None:
    """An endless tail costs no memory, and is still an error at its end."""
    tail = [b"10000\r\n" + bytes(1 << 16) + b"\r\n"] * 128
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    packed = gzip.compress(b"{}")
    first = head + f"{len(packed):x}\r\n".encode() + packed + b"\r\n"
    tracemalloc.start()
    try:
        with pytest.raises(AnswerLost, match="tail"):
            await answer_to([first, *tail, b"0\r\n\r\n"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found", "503 Unavailable"])
async def test_a_refusals_body_is_cut_not_refused(status: str) -> None:
    """What matters of an error is at its beginning; its status is never lost to its size."""
    response = await answer_to(http(b"x" * (MAX_REFUSAL_BYTES * 4), status=status))
    assert response.status == int(status[:3])
    assert len(response.body) <= MAX_REFUSAL_BYTES


async def test_a_large_refusal_keeps_its_beginning() -> None:
    """The server's words come first."""
    response = await answer_to(http(b"first words" + b"x" * (1 << 20), status="500 Oops"))
    assert len(response.body) <= MAX_REFUSAL_BYTES
    assert response.body.startswith(b"first words")


async def test_a_refusal_that_is_packed_and_cut_still_has_its_status() -> None:
    """A status is worth more than a perfect body."""
    script = http(gzip.compress(b'{"detail": "No."}')[:-4], headers=GZIP, status="404 Not Found")
    assert (await answer_to(script)).status == 404


@pytest.mark.parametrize(
    "script",
    [
        http(b'{"detail": "No."}', status="400 Bad Request", length=500),
        http(b"no gzip", headers=GZIP, status="400 Bad Request"),
        http(b"?", headers={"Content-Encoding": "br"}, status="400 Bad Request"),
    ],
    ids=["cut", "no gzip", "another coding"],
)
async def test_a_refusal_keeps_its_status_whatever_its_body(script: bytes) -> None:
    """A refused login must never look like a lost answer: that would be sent again."""
    assert (await answer_to(script)).status == 400


# --- time --------------------------------------------------------------------------------------------


class _SlowTime(ManualClock):
    """Forty seconds pass between any two looks at the clock."""

    def now_s(self) -> float:
        self._now_s += 40
        return self._now_s


@pytest.mark.row(24)
async def test_a_body_that_drips_is_given_up() -> None:
    """A server that sends a byte now and then holds a connection no longer than the floor allows."""
    timeouts = Timeouts(read_idle_s=30, min_bytes_per_s=10)
    drip: Script = [http(b"[1,", length=1000), HOLD]
    async with (
        RawServer(drip) as server,
        transport_to(server.origin, timeouts=timeouts, clock=_SlowTime()) as send,
    ):
        with pytest.raises(TimedOut) as caught:
            await send(GET)
    assert (caught.value.limit, caught.value.value, caught.value.sent) == ("min_bytes_per_s", 10, True)


@pytest.mark.row(24)
@pytest.mark.parametrize(
    "timeouts",
    [Timeouts(read_idle_s=30, min_bytes_per_s=0), Timeouts(read_idle_s=3600, min_bytes_per_s=10)],
    ids=["no floor", "too early to tell"],
)
async def test_a_slow_body_within_its_limits_is_read(timeouts: Timeouts) -> None:
    """Without a floor, or before the average means anything, slowness is allowed."""
    script = http(b"[1]")
    async with (
        RawServer(script) as server,
        transport_to(server.origin, timeouts=timeouts, clock=_SlowTime()) as send,
    ):
        assert (await send(GET)).body == b"[1]"


@pytest.mark.row(25)
@pytest.mark.parametrize(
    ("script", "timeouts", "limit"),
    [
        ([http(b"[", length=10), HOLD], Timeouts(read_idle_s=0.05), "read_idle_s"),
        ([HOLD], Timeouts(read_idle_s=0.05), "read_idle_s"),
        ([HOLD], Timeouts(try_s=0.05), "try_s"),
        ([http(b"[", length=10), HOLD], Timeouts(try_s=0.05), "try_s"),
    ],
)
async def test_silence_runs_into_the_limit_that_is_named(
    script: Script, timeouts: Timeouts, limit: str
) -> None:
    """Before the answer or in the middle of it."""
    async with RawServer(script) as server, transport_to(server.origin, timeouts=timeouts) as send:
        with pytest.raises(TimedOut) as caught:
            await send(GET)
    assert (caught.value.limit, caught.value.value) == (limit, 0.05)
    assert caught.value.sent


@pytest.mark.row(9)
async def test_waiting_for_a_free_connection_is_named_as_unsent() -> None:
    """A pool that is used up sends nothing."""
    timeouts = Timeouts(connect_s=0.05)
    async with RawServer([HOLD]) as server, transport_to(server.origin, timeouts=timeouts) as send:
        busy = [asyncio.ensure_future(send(GET)) for _ in range(2)]
        await server.arrival()
        await server.arrival()
        with pytest.raises(TimedOut) as caught:
            await send(GET)
        for call in busy:
            call.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        assert len(server.heads) == 2
    assert (caught.value.limit, caught.value.sent) == ("connect_s", False)


async def test_a_cancelled_read_gives_its_place_back() -> None:
    """Cancelling is not an error of ours, and the pool is free again."""
    hold: Script = [http(b"[", length=10), HOLD]
    async with RawServer(hold, hold, hold, http(b"{}")) as server, transport_to(server.origin) as send:
        for _ in range(3):
            call = asyncio.ensure_future(send(GET))
            await server.arrival()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert (await send(GET)).body == b"{}"


# --- connections -------------------------------------------------------------------------------------


@pytest.mark.row(4)
async def test_a_refused_port_is_no_connection() -> None:
    """Nothing was sent, and trying again may help."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with transport_to(f"http://127.0.0.1:{unused.getsockname()[1]}") as send:
            with pytest.raises(ConnectionFailed) as caught:
                await send(GET)
    assert not caught.value.permanent


@pytest.mark.row(11)
async def test_an_unknown_authority_is_final() -> None:
    """No request line reaches a server that cannot prove who it is, and no retry asks again."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    clock = AutoClock()
    retry = Retry(RetryPolicy(), RetryQuota(500), clock, lambda: 0.0)
    async with RawServer(http(), tls=tls) as server, transport_to(server.origin) as send:
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            await retry(GET, send)
        assert server.heads == []
    assert caught.value.permanent
    assert caught.value.tries == 1
    assert clock.slept_s == []


def test_failures_without_a_socket_are_named() -> None:
    """What cannot be provoked over loopback is translated all the same, without the library's text."""
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    dns = aiohttp.ClientConnectorDNSError(key, OSError(1, "raw secret"))
    lost = translate(GET, dns, Timeouts())
    assert isinstance(lost, ConnectionFailed)
    assert "does not resolve" in str(lost)
    connect = translate(GET, aiohttp.ConnectionTimeoutError(), Timeouts(connect_s=3))
    assert isinstance(connect, TimedOut)
    assert (connect.limit, connect.value, connect.sent) == ("connect_s", 3, False)
    assert isinstance(translate(GET, aiohttp.InvalidURL("raw secret"), Timeouts()), ConfigError)
    broken = translate(GET, OSError(104, "reset by peer"), Timeouts())
    assert isinstance(broken, AnswerLost)
    assert "reset by peer" in str(broken)
    other = translate(GET, aiohttp.ClientError("raw secret"), Timeouts())
    assert isinstance(other, AnswerLost)
    assert "secret" not in str(other) + str(lost)


# --- sessions ----------------------------------------------------------------------------------------


async def test_a_borrowed_session_is_used_and_never_closed() -> None:
    """It belongs to somebody else, who may have closed it already."""
    async with RawServer(http(b"{}")) as server:
        async with aiohttp.ClientSession() as session:
            async with transport_to(server.origin, session=session) as send:
                assert (await send(GET)).body == b"{}"
            assert not session.closed
        async with transport_to(server.origin, session=session) as send:
            with pytest.raises(ConfigError, match="is closed"):
                await send(GET)
        assert len(server.heads) == 1


async def test_a_session_of_our_own_closes() -> None:
    """After closing, and before opening, nothing can be sent."""
    async with RawServer(http(b"{}")) as server:
        async with transport_to(server.origin) as send:
            pass
        with pytest.raises(ConfigError, match="is closed"):
            await send(GET)
        never = Transport(server.origin, Timeouts(), SystemClock(), max_connections=1, max_body_bytes=1)
        await never.close()
        with pytest.raises(ConfigError):
            await never(GET)
        assert server.heads == []


async def test_cookies_are_not_kept() -> None:
    """A session cookie would be a second identity beside the token."""
    answer = http(b"{}", headers={"Set-Cookie": "sessionid=1; Path=/"})
    async with (
        RawServer(answer) as server,
        transport_to(server.origin.replace("127.0.0.1", "localhost")) as send,
    ):
        await send(GET)
        await send(GET)
        assert len(server.heads) == 2
        assert not any(b"cookie:" in head.lower() for head in server.heads)


@pytest.mark.row(10)
async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token does not travel through what an environment variable names."""
    async with RawServer(http(b"{}")) as proxy, RawServer(http(b"[]")) as server:
        monkeypatch.setenv("http_proxy", proxy.origin)
        async with transport_to(server.origin) as send:
            assert (await send(GET)).body == b"[]"
        assert proxy.connections == 0
