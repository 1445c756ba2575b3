"""httpx and pydantic, as many workers as the floor, straight from bytes to models."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from benchmarks.api import ANSWERS_PATH, ATTEMPTS_PATH
from benchmarks.contenders import floor
from benchmarks.contenders.pydantic_records import AnswerPage, AttemptPage

TLS = ssl.create_default_context()  # not needed here, and otherwise loaded for every client


async def attempts(url: str) -> int:
    async with httpx.AsyncClient(headers=floor.HEADERS, verify=TLS) as http:

        async def read(number: int) -> AttemptPage:
            response = await http.get(f"{url}{ATTEMPTS_PATH}?page={number}")
            return AttemptPage.model_validate_json(response.content)

        first = await read(1)
        seen = len(first.results)
        numbers = iter(range(2, -(-first.count // first.per_page) + 1))

        async def work() -> None:
            nonlocal seen
            for number in numbers:
                for _ in (await read(number)).results:
                    seen += 1

        await asyncio.gather(*(work() for _ in range(floor.WORKERS)))
    return seen


async def answers(url: str, count: int) -> int:
    seen, left = 0, iter(range(1, count + 1))
    async with httpx.AsyncClient(headers=floor.HEADERS, verify=TLS) as http:

        async def work() -> None:
            nonlocal seen
            for attempt_id in left:
                response = await http.get(url + ANSWERS_PATH.format(attempt_id))
                for _ in AnswerPage.model_validate_json(response.content).results.user_answers:
                    seen += 1

        await asyncio.gather(*(work() for _ in range(2 * floor.WORKERS)))
    return seen
