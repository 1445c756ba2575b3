"""A proxy that breaks connections: late, slow, cut, reset, silent, or with bytes of its own.

    async with FaultProxy(institute.url, [Fault(cut_after=500, end=End.RST)]) as proxy:
        client = tp.Client(proxy.origin, …)      # the first connection breaks, all others are clean

It forwards bytes and knows no HTTP, so TLS goes through it too. What is random comes from one seed.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from tests.support.loopback import Loopback

CHUNK = 64 * 1024


class End(enum.Enum):
    """How a connection ends, or what a script does."""

    FIN = "fin"  # closed in order; under TLS with close_notify
    CUT = "cut"  # closed without close_notify; without TLS the same as FIN
    RST = "rst"  # reset: what is on the way is lost
    HALF = "half"  # nothing more to the client, but what it sends is still read
    HOLD = "hold"  # silence until the client goes: a black hole


class Read(enum.Enum):
    """The other thing a script does."""

    HEAD = "head"  # wait for one request head


Step = bytes | float | End | Read  # bytes are sent, a number of seconds is waited


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one connection. The default is nothing.

    Attributes:
        on_accept: Ends it before a byte is read.
        script: Plays these steps instead of the upstream.
        latency_s, jitter_s: Delay of each piece of the answer: latency_s + (0 … jitter_s).
        drip_bytes: Size of the pieces; None: as they come.
        cut_after: Bytes of all answers let through before `end`; None: all. 0: when the request has come.
    """

    on_accept: End | None = None
    script: Sequence[Step] | None = None
    latency_s: float = 0.0
    jitter_s: float = 0.0
    drip_bytes: int | None = None
    cut_after: int | None = None
    end: End = End.FIN


CLEAN = Fault()
Decide = Callable[[random.Random, int], Fault]


def in_order(faults: Iterable[Fault]) -> Decide:
    """The given faults, one for each connection; clean ones after the last."""
    left = iter(faults)
    return lambda rng, number: next(left, CLEAN)


def sometimes(share: float, *faults: Fault) -> Decide:
    """One of *faults* for a *share* of connections, cut at a random byte up to its `cut_after`."""

    def decide(rng: random.Random, number: int) -> Fault:
        if rng.random() >= share:
            return CLEAN
        fault = rng.choice(faults)
        return fault if fault.cut_after is None else replace(fault, cut_after=rng.randint(0, fault.cut_after))

    return decide


class FaultProxy(Loopback):
    """Listens on loopback and forwards to *upstream* (its address), breaking what *faults* say.

    Attributes:
        log: The fault of every connection so far, in order.
        received: What the client sent on each of them.
    """

    def __init__(
        self,
        upstream: str = "",
        faults: Iterable[Fault] | Decide = (),
        *,
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(tls=tls)
        self._upstream = urlsplit(upstream)
        self._decide = faults if callable(faults) else in_order(faults)
        self._random, self._sleep = random.Random(seed), sleep
        self.log: list[Fault] = []
        self.received: list[bytearray] = []
        self._arrived = asyncio.Condition()

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else self._upstream.scheme or 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.log)

    @property
    def requests(self) -> int:
        """Request heads that came, where they can be read."""
        return sum(each.count(b"\r\n\r\n") for each in self.received)

    async def until(self, requests: int) -> None:
        """Wait until so many request heads have come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.requests >= requests)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._decide(self._random, len(self.log))
        self.log.append(fault)
        self.received.append(bytearray())
        line = _Line(reader, writer, self.received[-1], self._notify)
        if fault.on_accept:
            await self._play([fault.on_accept], line)
        elif fault.script is not None:
            await self._play(fault.script, line)
        else:
            await self._forward(fault, line)

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def _play(self, script: Sequence[Step], line: _Line) -> None:
        for step in script:
            if isinstance(step, bytes):
                await line.send(step)
            elif isinstance(step, float | int):
                await self._sleep(step)
            elif isinstance(step, Read):
                await line.read_head()
            else:
                line.end(step)
                await line.until_gone()

    async def _forward(self, fault: Fault, line: _Line) -> None:
        reader, writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        upwards = asyncio.ensure_future(line.pump_to(writer))
        try:
            if await self._answer(fault, reader, line):
                line.end(fault.end)
                await upwards
        finally:
            upwards.cancel()
            await asyncio.gather(upwards, return_exceptions=True)
            writer.close()

    async def _answer(self, fault: Fault, reader: asyncio.StreamReader, line: _Line) -> bool:
        """Whether the connection is now to be ended; False if the upstream did."""
        left = CHUNK if fault.cut_after is None else fault.cut_after
        while left > 0:
            piece = await reader.read(min(fault.drip_bytes or CHUNK, left))
            if not piece:
                return False
            await self._delay(fault)
            await line.send(piece)
            left -= 0 if fault.cut_after is None else len(piece)
        await line.until_asked()
        return True

    async def _delay(self, fault: Fault) -> None:
        if fault.latency_s or fault.jitter_s:
            await self._sleep(fault.latency_s + self._random.random() * fault.jitter_s)


class _Line:
    """One client's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        received: bytearray,
        notify: Callable[[], Awaitable[None]],
    ) -> None:
        self._reader, self._writer, self._received, self._notify = reader, writer, received, notify
        self._asked = asyncio.Event()

    async def _keep(self, data: bytes) -> bytes:
        self._received += data
        self._asked.set()
        await self._notify()
        return data

    async def until_asked(self) -> None:
        """A cut before the first byte of an answer comes after the question."""
        await self._asked.wait()

    async def read_head(self) -> bytes:
        return await self._keep(await self._reader.readuntil(b"\r\n\r\n"))

    async def pump_to(self, upstream: asyncio.StreamWriter) -> None:
        while data := await self._keep(await self._reader.read(CHUNK)):
            upstream.write(data)
            await upstream.drain()
        upstream.close()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_gone(self) -> None:
        while not self._writer.is_closing() and await self._reader.read(CHUNK):
            pass

    def end(self, how: End) -> None:
        if how is End.RST:
            connection: socket.socket = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how in (End.RST, End.CUT):
            self._writer.transport.abort()
        elif how is End.FIN:
            self._writer.close()
        elif how is End.HALF:
            self._writer.write_eof()
