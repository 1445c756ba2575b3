"""The floor with aiohttp-retry's client in place of aiohttp's: what retries alone cost there."""

from __future__ import annotations

import aiohttp_retry

from benchmarks.contenders import floor


def session() -> aiohttp_retry.RetryClient:
    return aiohttp_retry.RetryClient(headers=floor.HEADERS)


async def attempts(url: str) -> int:
    return await floor.attempts(url, session)


async def answers(url: str, count: int) -> int:
    return await floor.answers(url, count, session)
