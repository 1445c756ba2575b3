"""aiohttp by hand, bodies read and thrown away: what the server and the transfer allow."""

from __future__ import annotations

import asyncio

from benchmarks.api import ATTEMPTS_PATH, PER_PAGE
from benchmarks.contenders import floor

_COUNT = b'"count":'


async def attempts(url: str) -> int:
    seen = 0
    async with floor.session() as http:

        async def read(number: int) -> bytes:
            async with http.get(f"{url}{ATTEMPTS_PATH}?page={number}") as response:
                return await response.read()

        first = await read(1)
        count = int(first[first.index(_COUNT) + len(_COUNT) :].partition(b",")[0])
        numbers = iter(range(2, -(-count // PER_PAGE) + 1))

        async def work() -> None:
            nonlocal seen
            for number in numbers:
                await read(number)
                seen += PER_PAGE

        seen = PER_PAGE
        await asyncio.gather(*(work() for _ in range(floor.WORKERS)))
    return seen
