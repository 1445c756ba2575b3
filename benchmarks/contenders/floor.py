"""aiohttp and msgspec as one would write them by hand for one job: no order, no retry, no limit, no check."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec

from benchmarks.api import ANSWERS_PATH, ATTEMPTS_PATH, TOKEN

HEADERS = {"Authorization": f"JWT {TOKEN}"}
WORKERS = 8


class Attempt(msgspec.Struct):
    """The documented fields."""

    id: int
    date: datetime | None
    exam_id: int
    user_id: int
    email: str | None
    name: str | None
    phone: str | None
    correct_answers_count: int
    incorrect_answers_count: int
    unanswered_count: int
    score: Decimal | None
    percentage: Decimal | None
    time_taken: str | None
    remaining_time: str | None
    result: str
    state: str
    last_started_time: datetime | None
    last_answer_updated_time: datetime | None
    speed: int | None
    exam_url: str
    user_url: str


class AttemptPage(msgspec.Struct):
    count: int
    per_page: int
    next: str | None
    results: list[Attempt]


class Choice(msgspec.Struct):
    id: int
    text_html: str


class Question(msgspec.Struct):
    id: int
    question_id: int
    section_id: int | None
    question_html: str
    type: str
    marks: Decimal | None
    negative_marks: Decimal | None
    partial_marks: Decimal | None
    direction: str | int | None
    answers: list[Choice] | None
    difficulty_level: str | int | None
    order: int
    is_bonus: bool
    exam_id: int


class UserAnswer(msgspec.Struct):
    id: int
    exam_question_id: int
    selected_answers: list[int] | None
    result: str
    duration: int | str | None
    review: bool | None
    guessed: bool | None


class AnswerTables(msgspec.Struct):
    user_answers: list[UserAnswer]
    exam_questions: list[Question]


class AnswerPage(msgspec.Struct):
    count: int
    next: str | None
    results: AnswerTables


def session() -> Any:
    return aiohttp.ClientSession(headers=HEADERS)


async def attempts(url: str, open_session: Any = session, decoder: Any = None) -> int:
    decode, seen = (decoder or msgspec.json.Decoder(AttemptPage)).decode, 0
    async with open_session() as http:

        async def read(number: int) -> AttemptPage:
            async with http.get(f"{url}{ATTEMPTS_PATH}?page={number}") as response:
                return decode(await response.read())

        first = await read(1)
        seen = len(first.results)
        numbers = iter(range(2, -(-first.count // first.per_page) + 1))

        async def work() -> None:
            nonlocal seen
            for number in numbers:
                for _ in (await read(number)).results:
                    seen += 1

        await asyncio.gather(*(work() for _ in range(WORKERS)))
    return seen


async def answers(url: str, count: int, open_session: Any = session) -> int:
    decode, seen, left = msgspec.json.Decoder(AnswerPage).decode, 0, iter(range(1, count + 1))
    async with open_session() as http:

        async def work() -> None:
            nonlocal seen
            for attempt_id in left:
                async with http.get(url + ANSWERS_PATH.format(attempt_id)) as response:
                    for _ in decode(await response.read()).results.user_answers:
                        seen += 1

        await asyncio.gather(*(work() for _ in range(2 * WORKERS)))
    return seen
