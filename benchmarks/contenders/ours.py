"""This library, all of its checks, retries and limits on."""

from __future__ import annotations

import tempfile

from benchmarks.api import TOKEN
from testpress_async import Client, Dataset, harvest, plan

WINDOW, CONCURRENCY = 8, 16


async def attempts(url: str, window: int = WINDOW) -> int:
    """Record by record."""
    seen = 0
    async with Client(url, token=TOKEN) as client:
        async for _ in client.attempts.list().prefetch(window):
            seen += 1
    return seen


def attempts_on_uvloop(url: str) -> int:
    import uvloop

    return uvloop.run(attempts(url))


async def attempts_by_page(url: str, window: int = WINDOW) -> int:
    """Page by page: an async generator per record is saved."""
    seen = 0
    async with Client(url, token=TOKEN) as client:
        async for page in client.attempts.list().pages(window=window):
            for _ in page.items:
                seen += 1
    return seen


async def answers(url: str, count: int) -> int:
    seen = 0
    async with (
        Client(url, token=TOKEN) as client,
        client.fan_out(range(1, count + 1), client.attempts.user_answers, concurrency=CONCURRENCY) as results,
    ):
        async for _ in results:
            seen += 1
    return seen


async def export(url: str, folder: str) -> int:
    """Landed, proved and durable parts; no finished tables."""
    directory = tempfile.mkdtemp(dir=folder)
    async with Client(url, token=TOKEN) as client:
        reads = await plan(client, ["attempts"])
        report = await harvest(client, reads, into=Dataset(directory), formats="none")
    assert not report.unproven
    return report.records
