"""The clocks and the shim that `testpress_async.testing` gives to users."""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp
import pytest

import testpress_async as tp
from testpress_async import testing
from testpress_async.testing import FastClock, ManualClock, Sandbox, mocked_aiohttp, mocked_class


async def test_an_hour_takes_no_time() -> None:
    """A sleep on the fast clock moves it by what was asked, and both its times alike."""
    clock = FastClock()
    began_s, wall_s = clock.now_s(), clock.wall_s()
    await asyncio.wait_for(clock.sleep(3600.0), 10)
    assert clock.now_s() - began_s >= 3600
    assert clock.wall_s() - wall_s == pytest.approx(clock.now_s() - began_s, abs=60)
    assert clock.slept_s == [3600.0]


async def test_sleeps_side_by_side_overlap_and_end_in_order() -> None:
    """A thousand sleepers of 10 s are 10 s together; who sleeps shorter wakes first, whoever began."""
    clock = FastClock()
    began_s, woken = clock.now_s(), list[float]()

    async def sleeper(duration_s: float) -> None:
        await clock.sleep(duration_s)
        woken.append(duration_s)

    await asyncio.gather(*(sleeper(10.0) for _ in range(1_000)), sleeper(1.0), sleeper(0.0))
    assert woken[:2] == [0.0, 1.0]
    assert 10 <= clock.now_s() - began_s < 20


async def test_a_cancelled_sleeper_keeps_nobody() -> None:
    """Who is cancelled while asleep neither moves the clock nor holds up those due later."""
    clock = FastClock()
    began_s = clock.now_s()
    early = asyncio.ensure_future(clock.sleep(1.0))
    late = asyncio.ensure_future(clock.sleep(50.0))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.wait_for(late, 10)
    assert early.cancelled()
    assert 50 <= clock.now_s() - began_s < 60


def test_time_goes_on_by_itself() -> None:
    """Whoever counts on real time, such as a limit of requests in another thread, is not kept for ever."""
    clock = FastClock()
    began_s, real_s = clock.now_s(), time.monotonic()
    while time.monotonic() == real_s:
        pass
    assert clock.now_s() > began_s


async def test_an_outage_is_sat_out_at_once() -> None:
    """With one fast clock for both, an institute that asks for an hour's pause is read within the test."""
    clock = FastClock()
    async with (
        Sandbox(attempts=60, rate=testing.RateLimit(2, 3600.0), per_page=20, clock=clock) as institute,
        tp.Client(
            institute.url,
            username=institute.username,
            password=institute.password,
            clock=clock,
            timeouts=tp.Timeouts(total_s=8000.0),
        ) as client,
    ):
        assert len(await client.attempts.list().collect()) == 60
        assert 429 in [seen.status for seen in institute.log]


async def test_a_hand_moved_clock_expires_a_token() -> None:
    """A token of an hour is renewed when the hour has been moved by hand."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=60, clock=clock) as institute,
        tp.Client(
            institute.url, username=institute.username, password=institute.password, clock=clock
        ) as client,
    ):
        await client.attempts.get(1)
        await clock.advance(3600.0)
        await client.attempts.get(1)
        assert [seen.method for seen in institute.log].count("POST") == 2


async def test_the_shim_keeps_what_is_given() -> None:
    """A response class of one's own is not replaced."""

    class Own(aiohttp.ClientResponse):
        def __init__(self, *given: object, **more: object) -> None:
            raise LookupError("own")

    with mocked_aiohttp() as web:
        web.get("https://institute.example/", response_class=Own)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(LookupError, match="own"):
                await session.get("https://institute.example/")


def test_a_missing_aioresponses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed it reads what to install."""
    mocked_class.cache_clear()
    monkeypatch.setitem(sys.modules, "aioresponses", None)
    with pytest.raises(tp.ConfigError, match="pip install aioresponses"):
        mocked_aiohttp()


def test_all_names_exist() -> None:
    """`from testpress_async.testing import *` works."""
    assert all(hasattr(testing, name) for name in testing.__all__)
