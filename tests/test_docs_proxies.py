"""`docs/proxies.md` tells the truth: its programs go through a proxy, to a certificate of an own CA."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.faults.proxy import FaultProxy
from tests.support.markdown import ROOT, Block, blocks_of, opened

pytestmark = pytest.mark.timeout(300)
HOST = "institute.invalid"  # a name that only the proxy knows
PAGE = (ROOT / "docs/proxies.md").read_text()
PROGRAMS = {block.section: block for block in blocks_of(PAGE) if block.language == "python"}


@contextlib.asynccontextmanager
async def tunnels_to(port: int) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that takes every tunnel to *port* of this machine: its address, and the hosts asked for."""
    asked: list[str] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


@pytest.mark.parametrize("section", PROGRAMS)
async def test_a_program_of_the_page_runs(section: str, tmp_path: Path) -> None:
    """Through the proxy, to a certificate of the company's; the last one without either fails as shown."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(tmp_path / "company-ca.pem"))
    authority.issue_cert(HOST).configure_cert(tls)
    async with opened(tmp_path, "docs/proxies.md") as run:
        async with FaultProxy(run.institute.url, tls=tls) as front, tunnels_to(front.port) as (proxy, asked):
            run.env |= {"TESTPRESS_BASE_URL": f"https://{HOST}", "HTTPS_PROXY": proxy}
            if section == "A proxy":
                run.env["SSL_CERT_FILE"] = str(tmp_path / "company-ca.pem")
            await run.run(PROGRAMS[section])
        through = set() if section == "What goes wrong" else {f"CONNECT {HOST}:443 HTTP/1.1"}
        assert set(asked) == through
        assert bool(run.institute.log) is bool(through)


async def test_the_command_line_takes_an_own_authority(tmp_path: Path) -> None:
    """As the page says: by `SSL_CERT_FILE`."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(tmp_path / "company-ca.pem"))
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    command = Block(language="sh", code="testpress get attempt 1 > attempt.json\n", line=0)
    async with opened(tmp_path, "docs/proxies.md") as run, FaultProxy(run.institute.url, tls=tls) as front:
        run.env["TESTPRESS_BASE_URL"] = front.origin
        with pytest.raises(AssertionError, match="certificate was refused"):
            await run.run(command)
        run.env["SSL_CERT_FILE"] = str(tmp_path / "company-ca.pem")
        await run.run(command)
