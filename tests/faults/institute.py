"""A client of an institute that answers with scripted bytes, and a listener nobody may ever reach."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import socket
import ssl
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

import testpress_async as tp
from tests.support.clock import AutoClock
from tests.support.pages import NO_RETRIES
from tests.support.raw_server import RawServer, Script, http

SECRET = "asha.rao" + "@example.org"  # stands in records where it does not belong; no error may repeat it

Call = Callable[[tp.Client], Awaitable[object]]


@contextlib.asynccontextmanager
async def opened(
    *scripts: Script, keep: bool = False, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncGenerator[tuple[RawServer, tp.Client]]:
    """A server with *scripts* and an open client of it: no retries, and no real waiting."""
    given = {"token": "t", "retry": NO_RETRIES, "clock": AutoClock(), **options}
    async with RawServer(*scripts, keep=keep, tls=tls) as server, tp.Client(server.origin, **given) as client:
        yield server, client


async def attempts(client: tp.Client) -> list[tp.Attempt]:
    """All attempts, one page after the other."""
    return await client.attempts.list().collect()


async def attempt(client: tp.Client) -> tp.AttemptDetail:
    """One attempt."""
    return await client.attempts.get(1)


async def refusal(*scripts: Script, call: Call = attempts, keep: bool = False, **options: Any) -> tp.Error:
    """The error that *call* ends with. Its texts hold nothing of what was in the answer."""
    async with opened(*scripts, keep=keep, **options) as (_, client):
        with pytest.raises(tp.Error) as caught:
            await call(client)
    require_discreet(caught.value)
    return caught.value


def require_discreet(error: BaseException, *secrets: str) -> None:
    """Fail if *error* repeats SECRET or *secrets* in its text, repr, pickle or traceback."""
    texts = [str(error), repr(error), pickle.dumps(error).decode("latin-1")]
    texts += traceback.format_exception(error)
    for secret in (SECRET, *secrets):
        assert not any(secret in text for text in texts)


def rows(*records: object, **head: object) -> bytes:
    """A page of a plain list with *records*."""
    return raw_rows(*(json.dumps(record).encode() for record in records), **head)


def raw_rows(*records: bytes, **head: object) -> bytes:
    """A page of a plain list with the bytes of *records*."""
    around = json.dumps({"next": None, "previous": None, **head}).encode()
    return around[:-1] + b', "results": [' + b", ".join(records) + b"]}"


async def page_of(body: bytes) -> tp.Page[tp.Attempt]:
    """The page of attempts that *body* is, bad records left out."""
    async with opened(http(body)) as (_, client):
        return await client.attempts.list(bad_records="skip")


async def raw_page_of(body: bytes) -> Any:
    """The same, as the server's own bytes."""
    async with opened(http(body)) as (_, client):
        async for page in client.attempts.list().raw_pages():
            return page
    raise AssertionError("there is always a first page")


class Loopback(AbstractResolver):
    """Every host name is this machine: what is sent to a foreign host arrives where a test can see it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


class Foreign:
    """A listener that is not the institute. It would answer as one, and counts what reaches it.

    Attributes:
        connections: Connections it saw.
        received: Bytes that came, the first bytes of a TLS handshake included.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                self.received += piece
                writer.write(http(rows({"id": 666})))
                await writer.drain()
        writer.close()

    def require_untouched(self) -> None:
        """Fail unless not a byte, not even a connection, came."""
        assert (self.connections, self.received) == (0, b"")


def ids(records: Iterable[tp.Attempt]) -> list[int]:
    """Their ids."""
    return [record.id for record in records]
