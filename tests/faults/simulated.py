"""A small institute behind a server that fails by the dice, and the truth about what it holds.

One `Random` decides about every request; so one seed is one story. The records are the sandbox's, rendered
once for all stories; the server is plain asyncio, because most of these faults are no valid HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import math
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import cache
from random import Random
from urllib.parse import parse_qs, urlsplit

from testpress_async.sandbox.api import Api
from testpress_async.sandbox.auth import Throttle
from testpress_async.sandbox.book import Book
from testpress_async.sandbox.data import Institute
from testpress_async.sandbox.settings import RateLimit, Settings, SystemClock
from testpress_async.sandbox.truth import Truth
from tests.support.loopback import Loopback
from tests.support.virtual_time import WALL_START_S

HTML = b"<html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>"
LONG_S = 86_000.0  # a Retry-After that is just believed


@cache
def true_ids(table: str, parent: int | None = None) -> tuple[int, ...]:
    """Ids of what the institute holds, in the order in which it lists them."""
    return tuple(Truth(_api()).ids(table, parent=parent))


@cache
def _api() -> Api:
    settings = Settings(
        attempts=60,
        content_attempts=45,
        exams=3,
        users=45,
        per_page=10,
        answers_per_page=10,
        rows_per_page=10,
    )
    institute = Institute(settings)
    return Api(institute, Book(institute, SystemClock()))


@cache
def true_answer(target: str) -> tuple[int, bytes]:
    """Status and body of a GET that meets no fault."""
    parts = urlsplit(target)
    if not _api().knows(parts.path):
        return 404, b'{"detail": "Not found."}'
    reply = _api().get("https://institute.test", parts.path, parse_qs(parts.query))
    return reply.status, reply.body


# --- what is sent ----------------------------------------------------------------------------------------


def head(status: str, *lines: str) -> bytes:
    return (
        "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *lines]).encode() + b"\r\n\r\n"
    )


def plain(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    return head(status, f"Content-Length: {len(body)}", *lines) + body


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


class Exchange:
    """One request that is let in, and the true answer to it."""

    def __init__(
        self, server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> None:
        self.server, self.dice, self.target = server, server.dice, target
        self._reader, self._writer = reader, writer
        self.status, self.body = true_answer(target)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def silence(self) -> None:
        """Until the client goes."""
        while await self._reader.read(1 << 16):
            pass

    def reset(self) -> None:
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def framed(self) -> bytes:
        """The true answer in one of the ways in which its end can be told."""
        if self.status != 200:
            return plain(self.body, f"{self.status} Not so")
        match self.dice.choice(("length", "gzip", "chunked", "close")):
            case "gzip":
                packed = zipped(self.body)
                return head("200 OK", f"Content-Length: {len(packed)}", "Content-Encoding: gzip") + packed
            case "chunked":
                third = len(self.body) // 3 + 1
                parts = [self.body[at : at + third] for at in range(0, len(self.body), third)]
                chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
                return head("200 OK", "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"
            case "close":
                return head("200 OK", "Connection: close") + self.body
            case _:
                return plain(self.body)


# --- faults: each says whether the connection goes on -------------------------------------------------------


async def no_fault(it: Exchange) -> bool:
    answer = it.framed()
    await it.send(answer)
    return b"Connection: close" not in answer[:200]


async def late(it: Exchange) -> bool:
    await asyncio.sleep(it.dice.expovariate(0.2))
    return await no_fault(it)


async def dripping(it: Exchange) -> bool:
    answer = it.framed()
    piece = len(answer) // it.dice.randint(2, 12) + 1
    for at in range(0, len(answer), piece):
        await it.send(answer[at : at + piece])
        await asyncio.sleep(it.dice.choice((0.1, 1, 10)))
    return b"Connection: close" not in answer[:200]


async def continued(it: Exchange) -> bool:
    await it.send(b"HTTP/1.1 100 Continue\r\n\r\n" * it.dice.randint(1, 3))
    return await no_fault(it)


async def black_hole(it: Exchange) -> bool:
    await it.silence()
    return False


async def stall_half_way(it: Exchange) -> bool:
    answer = plain(it.body)
    await it.send(answer[: it.dice.randrange(1, len(answer))])
    await it.silence()
    return False


async def hang_up(it: Exchange) -> bool:
    return False


async def cut(it: Exchange) -> bool:
    """Anywhere, in the headers too; in one way of framing only the JSON itself shows it."""
    answer = it.framed()
    await it.send(answer[: it.dice.randrange(1, len(answer))])
    return False


async def reset(it: Exchange) -> bool:
    answer = it.framed()
    await it.send(answer[: it.dice.choice((0, it.dice.randrange(len(answer))))])
    it.reset()
    return False


async def cut_gzip(it: Exchange) -> bool:
    """The length is right, the compressed stream is not whole."""
    packed = zipped(it.body)
    packed = packed[: it.dice.randrange(1, len(packed))]
    await it.send(head("200 OK", f"Content-Length: {len(packed)}", "Content-Encoding: gzip") + packed)
    return True


async def corrupt_gzip(it: Exchange) -> bool:
    packed = bytearray(zipped(it.body))
    packed[it.dice.randrange(10, len(packed) - 4)] ^= 1 << it.dice.randrange(8)
    await it.send(head("200 OK", f"Content-Length: {len(packed)}", "Content-Encoding: gzip") + packed)
    return True


async def tail(it: Exchange) -> bool:
    await it.send(plain(it.body) + b"and more")
    return True


async def unasked(it: Exchange) -> bool:
    """A second answer that nobody asked for, with records that do not exist."""
    rows = [{"id": -number} for number in range(1, 11)]
    forged = {"count": 60, "next": None, "previous": None, "per_page": 10, "results": rows}
    await it.send(plain(it.body) + plain(json.dumps(forged).encode()))
    return True


async def server_error(it: Exchange) -> bool:
    status = it.dice.choice(("500 Oops", "502 Bad Gateway", "503 Unavailable", "504 Timeout", "408 Timeout"))
    body = it.dice.choice((b'{"detail": "Internal server error."}', HTML, b""))
    lines = [f"Retry-After: {it.dice.randint(0, 90)}"] if it.dice.random() < 0.3 else []
    await it.send(plain(body, status, *lines))
    return True


async def too_many(it: Exchange) -> bool:
    """429 in all ways of saying how long to wait, or none."""
    wait_s = it.dice.choice((0, 1, 5, 60, 60, 60, 600, LONG_S))
    now_s = WALL_START_S + asyncio.get_running_loop().time()
    lines, body = [], b""
    match it.dice.randrange(5):
        case 0:
            lines = [f"Retry-After: {wait_s:.0f}"]
        case 1:
            lines = [f"Date: {_http_date(now_s)}", f"Retry-After: {_http_date(now_s + wait_s)}"]
        case 2:
            body = json.dumps({"detail": f"Expected available in {wait_s:.0f} seconds."}).encode()
        case 3:
            lines = [
                "Retry-After: " + it.dice.choice(("-1", "soon", "1e9", "99999999999999999999", "inf", ""))
            ]
        case _:
            pass
    await it.send(plain(body, "429 Too Many Requests", *lines))
    return True


async def not_there(it: Exchange) -> bool:
    """A proxy that knows no such place; the framework itself says so in words of its own."""
    body = it.dice.choice((b"<html>no such upstream</html>", b'{"detail": "Not found."}', b""))
    await it.send(plain(body, "404 Not Found"))
    return True


async def not_json(it: Exchange) -> bool:
    await it.send(plain(it.dice.choice((HTML, b"", b"ok", b"null", b'"text"', b"\xff\xfe"))))
    return True


async def wrong_envelope(it: Exchange) -> bool:
    bodies = (b"{}", b"[]", b'{"results": null}', b'{"count": 60, "next": null}', b'{"detail": "fine"}')
    await it.send(plain(it.dice.choice(bodies)))
    return True


async def page_before(it: Exchange) -> bool:
    """An old answer out of somebody's cache."""
    page = int(parse_qs(urlsplit(it.target).query).get("page", ["1"])[0])
    if page > 1:
        _, it.body = true_answer(it.target.replace(f"page={page}", f"page={page - 1}"))
    return await no_fault(it)


async def refused(it: Exchange) -> bool:
    await it.send(plain(b'{"detail": "Signature has expired."}', "401 Unauthorized"))
    return True


async def expired(it: Exchange) -> bool:
    it.server.revoke()
    return await refused(it)


async def moved(it: Exchange) -> bool:
    """To the same place, to itself again and again, or to a place that must never hear from us."""
    places = (
        it.target,
        it.target,
        it.target.replace("page=", "page=0"),
        "http://127.0.0.2:9/api/",
        "/login/",
    )
    await it.send(plain(b"", "302 Found", f"Location: {it.dice.choice(places)}"))
    return True


Fault = Callable[[Exchange], Awaitable[bool]]
GENTLE: tuple[Fault, ...] = (no_fault, no_fault, late, dripping, continued)
HARSH: tuple[Fault, ...] = (
    black_hole,
    stall_half_way,
    hang_up,
    cut,
    reset,
    cut_gzip,
    corrupt_gzip,
    tail,
    unasked,
    server_error,
    too_many,
    not_there,
    not_json,
    wrong_envelope,
    page_before,
    expired,
    moved,
)
AT_LOGIN: tuple[Fault, ...] = (late, black_hole, hang_up, reset, server_error, too_many, not_json)


# --- the server ------------------------------------------------------------------------------------------


class FaultyServer(Loopback):
    """Serves the institute; as long as `faulty`, the dice decide how.

    Attributes:
        trace: (virtual seconds, method, target, what was done), one entry a request.
    """

    def __init__(self, dice: Random) -> None:
        super().__init__()
        self.dice = dice
        self.faulty = True
        self.harsh = dice.sample(HARSH, dice.randint(1, len(HARSH)))
        self.fail_rate = dice.choice((0.05, 0.2, 0.4, 0.7))
        self.token_ttl_s = dice.choice((math.inf, math.inf, 3_600.0, 300.0))
        self.limit = dice.choice((None, None, RateLimit(3, 1), RateLimit(10, 60), RateLimit(12, 3_600)))
        self._throttle = Throttle(() if self.limit is None else (self.limit,))
        self._outages = [(at, at + dice.uniform(5, 600)) for at in (dice.uniform(0, 3_600),)]
        self._logins, self._token, self._expires_s = 0, "", 0.0
        self.trace: list[tuple[float, str, str, str]] = []

    def revoke(self) -> None:
        """Let the token be expired."""
        self._token = ""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._answer(reader, writer):
            pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = request.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", "0")))
        it = Exchange(self, reader, writer, target)
        answer = self._choose(method, headers)
        now_s = asyncio.get_running_loop().time()
        self.trace.append((round(now_s, 6), method, target, getattr(answer, "__name__", "")))
        return await answer(it)

    def _choose(self, method: str, headers: Mapping[str, str]) -> Fault:
        """What happens to a request, in the order in which a real server would find it out."""
        now_s = asyncio.get_running_loop().time()
        if self.faulty and any(begin <= now_s < end for begin, end in self._outages):
            return self.dice.choice((hang_up, reset))
        if method == "POST":
            if self.faulty and self.dice.random() < self.fail_rate / 4:
                return self.dice.choice(AT_LOGIN)
            return self._log_in
        if self.faulty and (wait_s := self._throttle.wait_s("admin", now_s)) is not None:
            return _throttled(wait_s)
        if headers.get("authorization") != f"JWT {self._token}" or now_s >= self._expires_s:
            return refused
        if self.faulty:
            return self.dice.choice(self.harsh if self.dice.random() < self.fail_rate else GENTLE)
        return no_fault

    async def _log_in(self, it: Exchange) -> bool:
        self._logins += 1
        self._expires_s = asyncio.get_running_loop().time() + self.token_ttl_s
        claims: dict[str, object] = {"login": self._logins}
        if self.token_ttl_s < math.inf:
            claims["exp"] = WALL_START_S + self._expires_s
        self._token = f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.x"
        await it.send(plain(json.dumps({"token": self._token}).encode()))
        return True


def _throttled(wait_s: float) -> Fault:
    async def throttled(it: Exchange) -> bool:
        await it.send(plain(b"", "429 Too Many Requests", f"Retry-After: {math.ceil(wait_s)}"))
        return True

    return throttled


def _http_date(wall_s: float) -> str:
    return formatdate(wall_s, usegmt=True)
