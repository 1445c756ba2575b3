"""One way to read all pages, in a process of its own; prints what it took as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec

import testpress_async as tp
from testpress_async.models import ATTEMPTS

PATH = "/api/v2.5/admin/attempts/"


class Envelope(msgspec.Struct):
    count: int
    per_page: int
    next: str | None
    results: list[tp.Attempt]


async def by_hand(url: str, workers: int) -> int:
    """aiohttp and msgspec as one would write them for this one job: unordered, no retry, no checks."""
    decoder, seen = msgspec.json.Decoder(Envelope), 0
    async with aiohttp.ClientSession(headers={"Authorization": "JWT a.b.c"}) as session:

        async def read(number: int) -> Envelope:
            async with session.get(f"{url}{PATH}?page={number}") as answer:
                return decoder.decode(await answer.read())

        first = await read(1)
        numbers = iter(range(2, -(-first.count // first.per_page) + 1))
        seen = len(first.results)

        async def work() -> None:
            nonlocal seen
            for number in numbers:
                for _ in (await read(number)).results:
                    seen += 1

        await asyncio.gather(*(work() for _ in range(workers)))
    return seen


async def stream(url: str, window: int) -> int:
    """This library, record by record."""
    seen = 0
    async with tp.Client(url, token="a.b.c") as client:
        async for _ in client.attempts.list().prefetch(window):
            seen += 1
    return seen


async def pages(url: str, window: int) -> int:
    """This library, page by page."""
    seen = 0
    async with tp.Client(url, token="a.b.c") as client:
        async for page in client.attempts.list().pages(window=window):
            for _ in page.items:
                seen += 1
    return seen


CONTENDERS: dict[str, Callable[[str], Awaitable[int]]] = {
    "aiohttp + msgspec by hand, 8 workers, unordered": lambda url: by_hand(url, 8),
    "testpress_async, records, one page at a time": lambda url: stream(url, 1),
    "testpress_async, records, window 8": lambda url: stream(url, 8),
    "testpress_async, pages, window 8": lambda url: pages(url, 8),
}


def peak_mib() -> float:
    """Highest resident memory of this process so far. (`ru_maxrss` would start at the parent's.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def one_page(url: str) -> None:
    """Everything imported, connected and decoded once: the baseline of memory."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}{PATH}") as answer:
        ATTEMPTS.read(await answer.read())


def main(name: str, url: str) -> None:
    asyncio.run(one_page(url))
    base_mib = peak_mib()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    records = asyncio.run(CONTENDERS[name](url))
    print(
        json.dumps(
            {
                "records": records,
                "elapsed_s": time.perf_counter() - began_s,
                "cpu_s": time.process_time() - cpu_s,
                "grown_mib": peak_mib() - base_mib,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
