"""Another kind of limiter: nginx's `limit_req`, a leaky bucket. Its 429 is a page of HTML and names no time.

The real thing, started on a free loopback port before a sandbox. These few tests take real seconds, as nginx
has a clock of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import testpress_async as tp
from testpress_async.sandbox import Sandbox

NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
PER_S, BURST = 25, 10

pytestmark = [
    pytest.mark.row(83),
    pytest.mark.row(89),
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)"),
]

CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 128; }}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    limit_req_zone $binary_remote_addr zone=all:1m rate={per_s}r/s;
    limit_req_status 429;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            limit_req zone=all burst={burst} nodelay;
            proxy_pass {institute};
        }}
    }}
}}
"""


class Proxy:
    """A running nginx."""

    def __init__(self, port: int, access_log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._access_log = access_log

    def statuses(self) -> Counter[int]:
        """What nginx says it answered. Complete once it has ended."""
        return Counter(
            int(line.split('" ')[1].split()[0]) for line in self._access_log.read_text().splitlines()
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        return True
    return False


@asynccontextmanager
async def nginx(folder: Path, institute: Sandbox) -> AsyncIterator[Proxy]:
    """nginx in front of *institute*, its files in *folder*."""
    assert NGINX is not None
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(CONFIG.format(per_s=PER_S, burst=BURST, port=port, institute=institute.url))
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-p", f"{folder}", "-c", f"{config}", "-e", "error.log"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not await accepts(port):
                if process.returncode is not None:
                    pytest.skip(f"nginx does not start: {(folder / 'error.log').read_text()[-300:]}")
                await asyncio.sleep(0.01)
        yield Proxy(port, folder / "access.log")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def read(institute: Sandbox, proxy: Proxy, **options: Any) -> tuple[list[int], list[tp.Event]]:
    """Ids of all attempts, read eight pages at a time, and what was reported meanwhile."""
    events = list[tp.Event]()
    async with tp.Client(proxy.url, token=institute.token(), on_event=events.append, **options) as client:
        return [attempt.id async for attempt in client.attempts.list().prefetch(8)], events


async def test_a_bucket_that_names_no_time_is_learned_and_nothing_is_lost(tmp_path: Path) -> None:
    """50 pages in a row against 25 a second: every record once, hardly more 429s than workers, and nginx
    refused exactly what was reported."""
    async with Sandbox(attempts=250, per_page=5) as institute:
        async with nginx(tmp_path, institute) as proxy:
            ids, events = await read(institute, proxy)
        assert ids == institute.truth.ids("attempts")
        statuses = proxy.statuses()
    throttled = [event for event in events if isinstance(event, tp.Throttled)]
    assert statuses[200] == 50
    assert 1 <= statuses[429] == len(throttled) <= 2 * 8
    assert {event.retry_after_s for event in throttled} == {None}


async def test_a_bucket_whose_size_is_given_never_overflows(tmp_path: Path) -> None:
    """As many at once as its burst, as many a second as its rate: not one 429 in 50 pages."""
    async with Sandbox(attempts=250, per_page=5) as institute:
        async with nginx(tmp_path, institute) as proxy:
            ids, events = await read(
                institute, proxy, rate=tp.RatePolicy(requests=BURST, per_s=BURST / PER_S)
            )
        assert ids == institute.truth.ids("attempts")
        assert proxy.statuses() == {200: 50}
    assert not any(isinstance(event, tp.Throttled) for event in events)


async def test_its_html_refusal_is_a_429_like_any_other(tmp_path: Path) -> None:
    """A call that may not wait gets `RateLimited` with the page's words, without markup."""
    settings = {"max_connections": 64, "retry": tp.RetryPolicy(max_throttles=0)}
    async with (
        Sandbox(attempts=5) as institute,
        nginx(tmp_path, institute) as proxy,
        tp.Client(proxy.url, token=institute.token(), **settings) as client,
    ):
        calls = (client.attempts.list().count() for _ in range(64))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, tp.RateLimited)]
    assert outcomes.count(5) + len(refused) == 64
    assert outcomes.count(5) >= BURST
    for error in refused:
        assert (error.status, error.sent, error.retry_after_s) == (429, True, None)
        assert "429 Too Many Requests" in error.detail
        assert "<" not in error.detail
