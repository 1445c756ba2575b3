"""A server that sends scripted bytes, true HTTP or not, and remembers what reached it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

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


class RawServer:
    """One script for each connection, in order; the last one serves all further ones.

    A script is bytes, or a list of pieces: bytes are sent, HOLD stays silent. After
    its script a connection is closed, unless *keep* says that further requests get further scripts on it.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, keep: bool = False) -> None:
        self._scripts = list(scripts)
        self._tls, self._keep = tls, keep
        self.heads: list[bytes] = []
        self.connections = 0
        self._arrivals: asyncio.Queue[bytes] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        """Targets of the requests that came."""
        return [head.split(b" ")[1].decode() for head in self.heads]

    async def arrival(self) -> bytes:
        """Head of the next request that nobody has waited for yet."""
        return await self._arrivals.get()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            await self._answer(reader, writer)
            while self._keep:
                await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            self._serving.discard(task)
            writer.close()

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
