"""A client that starts while somebody else has just used up the limit."""

from __future__ import annotations

import asyncio

import testpress_async as tp
from testpress_async.sandbox import RateLimit, Sandbox
from tests.support.virtual_time import run


def test_a_restart_does_not_take_what_was_left_over_for_the_limit() -> None:
    """A predecessor's last second leaves room for a login; 50 requests a second are found all the same."""
    assert run(answered_after_a_restart(seconds=10)) > 300


async def answered_after_a_restart(seconds: int) -> int:
    async with Sandbox(attempts=2_000, rate=RateLimit(50, 1.0), latency_ms=20) as institute:
        login = {"username": institute.username, "password": institute.password}
        async with (
            tp.Client(institute.url, **login) as before,
            before.fan_out(range(1, 201), before.attempts.get) as found,
        ):
            assert len([1 async for _ in found]) == 200
        answers = 0
        async with tp.Client(institute.url, **login) as client:
            try:
                async with (
                    asyncio.timeout(seconds),
                    client.fan_out(range(1, 2_000), client.attempts.get) as found,
                ):
                    async for _ in found:
                        answers += 1
            except TimeoutError:
                return answers
    raise AssertionError("everything was read in no time")
