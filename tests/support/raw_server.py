"""A server that sends scripted bytes, true HTTP or not, and remembers what reached it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping

from tests.support.loopback import Loopback

HOLD = object()  # step of a script: say nothing more until the client goes or the server ends
Piece = bytes | object
Script = bytes | list[Piece]


def http(
    body: bytes = b"{}",
    *,
    status: str = "200 OK",
    headers: Mapping[str, str] | None = None,
    length: int | None = -1,
) -> bytes:
    """An HTTP/1.1 answer; *length* -1 is the true one, None leaves it out."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json"]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class RawServer(Loopback):
    """One script for each connection, in order; the last one serves all further ones.

    A script is bytes, or a list of pieces: bytes are sent, HOLD stays silent. After
    its script a connection is closed, unless *keep* says that further requests get further scripts on it.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, keep: bool = False) -> None:
        super().__init__(tls=tls)
        self._scripts, self._keep = list(scripts), keep
        self.heads: list[bytes] = []
        self.connections = 0
        self._arrivals: asyncio.Queue[bytes] = asyncio.Queue()

    @property
    def targets(self) -> list[str]:
        """Targets of the requests that came."""
        return [head.split(b" ")[1].decode() for head in self.heads]

    async def arrival(self) -> bytes:
        """Head of the next request that nobody has waited for yet."""
        return await self._arrivals.get()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._answer(reader, writer)
        while self._keep:
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        self._arrivals.put_nowait(self.heads[-1])
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        pieces: Iterable[Piece] = [script] if isinstance(script, bytes) else script
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await reader.read()
