"""Rows 14 to 29: answers that are cut, too long, endless, contradictory or not asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tracemalloc

import pytest
import trustme

import testpress_async as tp
from testpress_async.http.clock import SystemClock
from testpress_async.http.message import Request
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.retry import MAX_NOT_JSON_TRIES
from testpress_async.http.transport import Transport
from testpress_async.sandbox import Sandbox
from tests.faults.asking import ANSWER, IDS, PAGE, PERSON, ask, client_to, failure
from tests.faults.proxy import End, Fault, FaultProxy, Read, Step
from tests.faults.test_connect import server_side, session_with, trusting
from tests.support.clock import AutoClock, settle
from tests.support.pages import page
from tests.support.raw_server import RawServer, http

TRIES = RetryPolicy().max_tries
THRICE = RetryPolicy(max_tries=3)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
POISON = http(page([666]))
LOST = f"{PERSON} is written here"  # what a broken answer holds must not be shown


def served(*steps: Step) -> Fault:
    """A connection that answers its first request with *steps*."""
    return Fault(script=[Read.HEAD, *steps])


WHOLE = served(ANSWER, End.HOLD)
LATER = 1.0  # step of a script: when the test says so, see `Cue`


class Cue(asyncio.Event):
    """Makes a proxy wait at LATER until it is given."""

    async def sleep(self, _: float) -> None:
        await self.wait()

    async def give(self) -> None:
        """Let the proxy send the rest, and the client read it."""
        self.set()
        await settle()


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces)


async def recovers(*faults: Fault) -> None:
    """Assert that the call succeeds on the connection after *faults*, and that every try was counted."""
    clock = AutoClock()
    async with FaultProxy(faults=[*faults, WHOLE]) as proxy, client_to(proxy.origin, clock=clock) as client:
        assert await ask(client) == IDS
        assert proxy.connections == proxy.requests == client.requests_sent == len(faults) + 1
        assert len(clock.slept_s) == len(faults)


async def is_final(*steps: Step) -> tp.AnswerLost:
    """Assert that an answer of *steps* is an error at once, and that its connection is not used again."""
    clock = AutoClock()
    async with (
        FaultProxy(faults=[served(*steps, End.HOLD), WHOLE]) as proxy,
        client_to(proxy.origin, clock=clock) as client,
    ):
        error = await failure(client, tp.AnswerLost)
        assert (error.permanent, error.tries, proxy.connections, clock.slept_s) == (True, 1, 1, [])
        assert await ask(client) == IDS
        assert proxy.connections == 2
    return error


# --- cut answers -------------------------------------------------------------------------------------


@pytest.mark.row(14)
@pytest.mark.parametrize("end", [End.RST, End.FIN])
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: sessionid=SECRET\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: sessionid=SECRET\r\n",
    ],
)
async def test_a_head_that_is_cut_is_asked_for_again(head: bytes, end: End) -> None:
    """A few times; the error then shows nothing of the headers that did come."""
    await recovers(served(head, end))
    async with FaultProxy(faults=[served(head, end)] * 9) as proxy, client_to(proxy.origin) as client:
        error = await failure(client, tp.AnswerLost)
        assert (error.tries, error.permanent, proxy.connections) == (TRIES, False, TRIES)


@pytest.mark.row(15)
@pytest.mark.parametrize("end", [End.RST, End.FIN])
@pytest.mark.parametrize("missing", [1, 10, len(PAGE)])
async def test_a_body_short_of_its_length_is_asked_for_again(missing: int, end: End) -> None:
    """By one byte or by all."""
    await recovers(served(ANSWER[:-missing], end), served(ANSWER[:-missing], end))


@pytest.mark.row(15)
async def test_an_institute_behind_a_line_that_cuts_loses_no_record(institute: Sandbox) -> None:
    """Connections are reset within their first answers, anywhere; the list comes whole and once."""
    faults = [Fault(cut_after=size, end=End.RST) for size in range(300, 9_000, 700)]
    async with (
        FaultProxy(institute.url, faults) as proxy,
        client_to(proxy.origin, token=institute.token()) as client,
    ):
        ids = [attempt.id async for attempt in client.attempts.list(ordering="date")]
        assert sorted(ids) == sorted(institute.truth.ids("attempts"))
        assert proxy.connections > 5


@pytest.mark.row(16)
@pytest.mark.parametrize(
    "body",
    [b"", chunks(PAGE[:20]), chunks(PAGE[:20])[:-9], chunks(PAGE), chunks(PAGE) + b"0\r\n", b"ff"],
    ids=["no chunk", "one of two", "within one", "no last chunk", "no end of trailers", "within a size"],
)
@pytest.mark.parametrize("end", [End.RST, End.FIN])
async def test_chunks_without_a_last_one_are_asked_for_again(body: bytes, end: End) -> None:
    """Even where what came is a whole document."""
    await recovers(served(CHUNKED + body, end))


@pytest.mark.row(17)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("missing", [1, 2, len(PAGE) // 2, len(PAGE)])
async def test_a_body_that_ends_with_its_connection_is_checked(version: bytes, missing: int) -> None:
    """Without a length nothing but the document itself tells that it is cut."""
    head = HEAD.replace(b"1.1", version) + b"\r\n"
    await recovers(served(head + PAGE[:-missing], End.FIN))
    always = [served(head + PAGE[:-missing], End.FIN)] * 9
    async with FaultProxy(faults=always) as proxy, client_to(proxy.origin) as client:
        assert (await failure(client, tp.NotJSON)).tries == MAX_NOT_JSON_TRIES
    async with FaultProxy(faults=[served(head + PAGE, End.FIN)]) as proxy, client_to(proxy.origin) as client:
        assert await ask(client) == IDS


@pytest.mark.row(17)
async def test_a_cut_in_a_nested_object_is_seen() -> None:
    """The last byte of what came closes an inner object: only parsing to the end tells."""
    cut = PAGE[: PAGE.index(b"}") + 1]
    await recovers(served(HEAD + b"\r\n" + cut, End.FIN))


@pytest.mark.row(18)
@pytest.mark.parametrize("end", [End.CUT, End.RST, End.FIN])
async def test_the_same_under_tls(end: End) -> None:
    """With close_notify, without it, or reset: never the cut document."""
    authority = trustme.CA()
    cut = served(HEAD + b"\r\n" + PAGE[:-3], end)
    async with (
        FaultProxy(faults=[cut, WHOLE], tls=server_side(authority.issue_cert("127.0.0.1"))) as proxy,
        session_with(ssl=trusting(authority)) as session,
        client_to(proxy.origin, session=session) as client,
    ):
        assert await ask(client) == IDS
        assert proxy.connections == client.requests_sent == 2


# --- too much ----------------------------------------------------------------------------------------


@pytest.mark.row(19)
@pytest.mark.parametrize(
    "body",
    [PAGE + b"junk", PAGE + b"\r\n\r\njunk", PAGE + b"\0", PAGE + LOST.encode()],
)
async def test_junk_after_an_answer_costs_its_connection(body: bytes) -> None:
    """The answer is asked for again on a new one, and nobody reads the junk."""
    clock = AutoClock()
    long = served(ANSWER, Read.HEAD, http(body, length=len(PAGE)), End.HOLD)
    async with FaultProxy(faults=[long, WHOLE]) as proxy, client_to(proxy.origin, clock=clock) as client:
        assert await ask(client) == IDS
        assert await ask(client) == IDS
        assert (proxy.requests, proxy.connections, len(clock.slept_s)) == (3, 2, 1)


@pytest.mark.row(19)
async def test_junk_after_every_answer_is_given_up() -> None:
    """After all tries, and without a word of it in the error."""
    long = http(PAGE + LOST.encode(), length=len(PAGE))
    faults = [served(ANSWER, Read.HEAD, long, End.HOLD), *[served(long, End.HOLD)] * 9]
    async with FaultProxy(faults=faults) as proxy, client_to(proxy.origin) as client:
        assert await ask(client) == IDS
        error = await failure(client, tp.AnswerLost)
        assert (error.tries, error.permanent, proxy.connections) == (TRIES, False, TRIES)


@pytest.mark.row(19)
async def test_junk_that_comes_late_is_never_read_as_an_answer() -> None:
    """It arrives while the connection is idle, which is then not used again."""
    clock, cue = AutoClock(), Cue()
    async with (
        FaultProxy(faults=[served(ANSWER, LATER, b"junk", End.HOLD), WHOLE], sleep=cue.sleep) as proxy,
        client_to(proxy.origin, clock=clock) as client,
    ):
        assert await ask(client) == IDS
        await cue.give()
        assert await ask(client) == IDS
        assert (proxy.connections, client.requests_sent, clock.slept_s) == (2, 2, [])


@pytest.mark.row(20)
@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: -2\r\n\r\n{}",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
        HEAD + b"Content-Length: 0x2\r\n\r\n{}",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"2\r\n{}0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    ],
    ids=[
        "CL+TE",
        "TE+CL",
        "two CLs",
        "CL twice",
        "CL below 0",
        "CL signed",
        "CL hex",
        "CL huge",
        "chunk no number",
        "chunk below 0",
        "chunk too long",
        "chunk huge",
    ],
)
async def test_contradictory_framing_is_final(answer: bytes) -> None:
    """Whoever guesses where such an answer ends can be made to read another's."""
    assert "not valid HTTP" in str(await is_final(answer))


@pytest.mark.row(20)
async def test_framing_that_breaks_in_mid_body_is_final_too() -> None:
    """The head was fine and had been read already."""
    await is_final(CHUNKED + chunks(PAGE[:20]), b"zz\r\n" + LOST.encode() + b"\r\n")


@pytest.mark.row(21)
@pytest.mark.parametrize(
    "answer",
    [
        ANSWER.replace(b"\r\n", b"\n"),
        HEAD + b"X-Empty:\r\nx_y!#$%%: \xff\xfe\r\ncontent-LENGTH:  %d \r\n\r\n" % len(PAGE) + PAGE,
        HEAD + b"X-Folded: a\r\n b\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE,
        ANSWER.replace(b" OK", b""),
        ANSWER.replace(b" OK", b" caf\xe9"),
        ANSWER.replace(b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK\r\nConnection: keep-alive"),
    ],
    ids=["bare LF", "odd headers", "folded", "no reason", "odd reason", "1.0"],
)
async def test_odd_but_legal_answers_are_read(answer: bytes) -> None:
    """And their connection is good for another."""
    async with (
        FaultProxy(faults=[served(answer, Read.HEAD, answer, End.HOLD)]) as proxy,
        client_to(proxy.origin) as client,
    ):
        assert await ask(client) == await ask(client) == IDS
        assert proxy.connections == 1


@pytest.mark.row(21)
@pytest.mark.parametrize("status", [999, 600])
async def test_a_status_nobody_knows_is_final(status: int) -> None:
    """It is typed, and not taken for an overloaded server."""
    async with RawServer(http(b"{}", status=f"{status} Odd")) as server, client_to(server.origin) as client:
        error = await failure(client, tp.StatusError)
        assert (error.status, error.tries, len(server.heads)) == (status, 1, 1)


@pytest.mark.row(21, 28)
@pytest.mark.parametrize("status", ["101 Switching Protocols", "204 No Content", "205 Reset Content"])
async def test_success_without_a_document_is_an_error(status: str) -> None:
    """Not an empty list."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n".encode()
    async with FaultProxy(faults=[served(head, End.FIN)] * 9) as proxy, client_to(proxy.origin) as client:
        assert (await failure(client, tp.NotJSON)).tries == MAX_NOT_JSON_TRIES


@pytest.mark.row(22)
@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(2000)) + b"Content-Length: 2\r\n\r\n{}",
        HEAD + b"X-Long: " + b"a" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X-" + b"a" * 20_000 + b": b\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 " + b"a" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        CHUNKED + chunks(PAGE) + b"0\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(50_000)) + b"\r\n",
    ],
    ids=["2000 headers", "long value", "long name", "long reason", "50000 trailers"],
)
async def test_a_head_without_end_is_final_in_bounded_memory(answer: bytes) -> None:
    """Given up at the limit, not at its end."""
    tracemalloc.start()
    try:
        await is_final(answer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


# --- too slow ----------------------------------------------------------------------------------------


@pytest.mark.row(23)
@pytest.mark.parametrize("status", [100, 103])
async def test_an_endless_series_of_interim_answers_ends_at_the_deadline(status: int) -> None:
    """Each is a sign of life, so that only the limit over the whole call ends it."""
    stop = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not stop.is_set() and not writer.is_closing():
            writer.write(b"HTTP/1.1 %d Wait\r\n\r\n" % status * 50)
            try:
                await writer.drain()
            except OSError:
                break
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    timeouts = Timeouts(total_s=0.1)
    async with client_to(f"http://127.0.0.1:{port}", timeouts=timeouts, clock=SystemClock()) as client:
        error = await failure(client, tp.TimedOut)
    stop.set()
    server.close()
    assert (error.limit, error.tries) == ("total_s", 0)


@pytest.mark.row(23)
async def test_a_few_interim_answers_are_passed_over() -> None:
    """The answer is the first that is none."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    script = served(interim + ANSWER, End.HOLD)
    async with FaultProxy(faults=[script]) as proxy, client_to(proxy.origin) as client:
        assert await ask(client) == IDS


class _Drips(AutoClock):
    """A clock that the dripping server moves: one second a piece."""

    async def piece(self, _: float) -> None:
        self._now_s += 1.0
        await asyncio.sleep(0)


@pytest.mark.row(24)
async def test_a_body_that_drips_is_asked_for_again() -> None:
    """11 bytes a second are never silent, but below the least pace; the next server is a better one."""
    clock = _Drips()
    drip = [step for at in range(0, 1100, 11) for step in (b'{"a": "aaaa'[:11], 1.0)]
    slow = served(HEAD + b"Content-Length: 100000\r\n\r\n", *drip, End.HOLD)
    async with (
        FaultProxy(faults=[slow, WHOLE], sleep=clock.piece) as proxy,
        client_to(proxy.origin, clock=clock) as client,
    ):
        assert await ask(client) == IDS
        assert proxy.connections == client.requests_sent == 2


@pytest.mark.row(24)
@pytest.mark.parametrize("cut", [b"HTTP/1.1 200 OK\r\n", HEAD + b"Content-Length: 100000\r\n\r\n"])
async def test_whatever_drips_ends_with_its_try(cut: bytes) -> None:
    """A head has no least pace: `try_s` bounds it, as it bounds a body."""
    drip = [step for _ in range(2000) for step in (b"X", 0.002)]
    timeouts = Timeouts(try_s=0.05, min_bytes_per_s=0)
    async with (
        FaultProxy(faults=[served(cut, *drip)] * 9) as proxy,
        client_to(proxy.origin, timeouts=timeouts, retry=THRICE) as client,
    ):
        error = await failure(client, tp.TimedOut)
        assert (error.limit, error.tries, error.sent) == ("try_s", 3, True)


@pytest.mark.row(25)
@pytest.mark.parametrize("come", [b"", b"HTTP/1.1 200 OK\r\n", ANSWER[:-10]], ids=["nothing", "head", "body"])
async def test_a_stalled_answer_is_asked_for_again(come: bytes) -> None:
    """Silence longer than `read_idle_s`, wherever it falls, ends the try and not the call."""
    timeouts = Timeouts(read_idle_s=0.05)
    async with (
        FaultProxy(faults=[served(come, End.HOLD), WHOLE]) as proxy,
        client_to(proxy.origin, timeouts=timeouts) as client,
    ):
        assert await ask(client) == IDS
        assert proxy.connections == proxy.requests == 2
    async with (
        FaultProxy(faults=[served(come, End.HOLD)] * 9) as proxy,
        client_to(proxy.origin, timeouts=timeouts, retry=THRICE) as client,
    ):
        error = await failure(client, tp.TimedOut)
        assert (error.limit, error.tries, error.sent) == ("read_idle_s", 3, True)


@pytest.mark.row(26)
async def test_a_body_of_a_hundred_thousand_chunks_is_read() -> None:
    """One byte each; in bounded memory, and its connection is kept."""
    body = page(range(12_000))
    assert len(body) > 100_000
    answer = CHUNKED + chunks(*(body[at : at + 1] for at in range(len(body)))) + b"0\r\n\r\n"
    async with (
        FaultProxy(faults=[served(answer, Read.HEAD, ANSWER, End.HOLD)]) as proxy,
        client_to(proxy.origin) as client,
    ):
        assert await ask(client) == list(range(12_000))
        assert await ask(client) == IDS
        assert proxy.connections == 1


# --- something else ----------------------------------------------------------------------------------


@pytest.mark.row(27)
@pytest.mark.parametrize(
    "banner",
    [
        b"220 mail.example ESMTP SECRET\r\n",
        b"SSH-2.0-OpenSSH_9.6 SECRET\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        PAGE,
        b"\x15\x03\x01\x00\x02\x02\x46",
    ],
    ids=["SMTP", "SSH", "HTTP/2", "JSON without a head", "TLS alert"],
)
async def test_a_server_that_does_not_speak_http_is_final(banner: bytes) -> None:
    """After the request or before it; no try can help."""
    assert "not valid HTTP" in str(await is_final(banner))
    async with (
        FaultProxy(faults=[Fault(script=[banner, End.HOLD])] * 9) as proxy,
        client_to(proxy.origin) as client,
    ):
        error = await failure(client, tp.AnswerLost)
        assert (error.permanent, error.tries, proxy.connections) == (True, 1, 1)


@pytest.mark.row(28)
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("body", [b"hello", PAGE, POISON], ids=["text", "JSON", "an answer"])
async def test_a_body_that_must_not_be_there_is_nobodys_answer(
    status: str, body: bytes, at_once: bool
) -> None:
    """However the first call ends, the next one gets its own answer."""
    head = http(b"", status=status, length=len(body))
    steps, cue = (head + body,) if at_once else (head, LATER, body), Cue()
    async with (
        FaultProxy(faults=[served(*steps, End.HOLD), WHOLE], sleep=cue.sleep) as proxy,
        client_to(proxy.origin, retry=RetryPolicy(max_tries=1)) as client,
    ):
        await failure(client, tp.Error)
        await cue.give()
        assert await ask(client) == IDS
        assert proxy.connections == 2


@pytest.mark.row(29)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_second_answer_is_never_matched_to_the_next_request(at_once: bool) -> None:
    """It comes with the first, or later while the connection is idle: the connection is dropped."""
    steps = (ANSWER + POISON,) if at_once else (ANSWER, LATER, POISON)
    clock, cue = AutoClock(), Cue()
    async with (
        FaultProxy(faults=[served(*steps, End.HOLD), WHOLE], sleep=cue.sleep) as proxy,
        client_to(proxy.origin, clock=clock) as client,
    ):
        assert await ask(client) == IDS
        await cue.give()
        assert await ask(client) == IDS
        assert (proxy.connections, client.requests_sent, clock.slept_s) == (2, 2, [])


@pytest.mark.row(29)
@pytest.mark.parametrize("stray", [POISON, POISON[:9]], ids=["an answer", "half a line"])
async def test_a_second_answer_that_only_the_system_has_seen_is_not_matched(stray: bytes) -> None:
    """It lies unread in the socket when the next request is about to go out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        transport = Transport(
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            Timeouts(),
            SystemClock(),
            max_connections=1,
            max_body_bytes=1 << 20,
        )
        transport.open()
        with contextlib.ExitStack() as stack:
            try:
                for _ in range(2):
                    asked = asyncio.ensure_future(transport(Request(target="/")))
                    server = stack.enter_context((await loop.sock_accept(listener))[0])
                    assert (await loop.sock_recv(server, 1 << 16)).startswith(b"GET / ")
                    await loop.sock_sendall(server, ANSWER)
                    assert (await asked).body == PAGE
                    server.sendall(stray)  # and the loop gets no turn before the next request
            finally:
                await transport.close()
