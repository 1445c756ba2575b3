"""The event loop on which hours pass in milliseconds."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine

import aiohttp
import pytest
from aiohttp import web

import testpress_async as tp
from testpress_async.sandbox import RateLimit, Sandbox
from tests.support.virtual_time import WALL_START_S, Stuck, run

HOUR_S = 3_600.0


async def serve(
    handler: Callable[[web.Request], Coroutine[object, object, web.StreamResponse]],
) -> web.AppRunner:
    """A web server on loopback; its address is in `addresses`."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


def url_of(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}/"


# --- time --------------------------------------------------------------------------------------------


def test_hours_pass_at_once() -> None:
    """A sleep of hours moves both clocks by exactly that and takes no time."""

    async def scenario() -> tuple[float, float]:
        await asyncio.sleep(100 * HOUR_S)
        return asyncio.get_running_loop().time(), time.time()

    began_s = time.monotonic()
    now_s, wall_s = run(scenario())
    assert (now_s, wall_s) == (100 * HOUR_S, WALL_START_S + 100 * HOUR_S)
    assert time.monotonic() - began_s < HOUR_S
    assert abs(time.time() - WALL_START_S) > 1, "the real clock is back"


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """Timers go off one by one at their own times, however they were set."""

    async def scenario() -> list[tuple[int, float]]:
        woken: list[tuple[int, float]] = []

        async def sleeper(duration_s: int) -> None:
            await asyncio.sleep(duration_s)
            woken.append((duration_s, asyncio.get_running_loop().time()))

        await asyncio.gather(*map(sleeper, (30, 1, 20, 7_200, 3)))
        return woken

    assert run(scenario()) == [(n, float(n)) for n in (1, 3, 20, 30, 7_200)]


def test_the_random_module_is_seeded_and_given_back() -> None:
    """The same seed gives the same draws, another seed others, and the caller's own sequence goes on."""

    async def draw() -> float:
        return random.random()

    random.seed(5)
    expected = random.random()
    random.seed(5)
    first, again, other = run(draw(), seed=1), run(draw(), seed=1), run(draw(), seed=2)
    assert first == again != other
    assert random.random() == expected


# --- sockets -----------------------------------------------------------------------------------------


def test_answers_arrive_before_time_moves() -> None:
    """Requests over real sockets take no virtual time, with timeouts armed and large bodies too."""
    body = os.urandom(1 << 20) * 12

    async def scenario() -> float:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=body if request.path == "/large" else b"small")

        runner = await serve(answer)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5, sock_read=1)) as session:
            for path in ("small", "large", "small", "large"):
                async with session.get(url_of(runner) + path) as response:
                    assert await response.read() == (body if path == "large" else b"small")
        now_s = asyncio.get_running_loop().time()
        await runner.cleanup()
        return now_s

    assert run(scenario()) == 0.0


def test_latency_and_timeouts_are_virtual() -> None:
    """A server that thinks for an hour costs an hour; a client that waits a minute gives up after one."""

    async def scenario() -> tuple[float, float]:
        async def answer(request: web.Request) -> web.Response:
            await asyncio.sleep(HOUR_S)
            return web.Response()

        runner, loop = await serve(answer), asyncio.get_running_loop()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2 * HOUR_S)) as session:
            async with session.get(url_of(runner)):
                answered_s = loop.time()
            with pytest.raises(TimeoutError):
                await session.get(url_of(runner), timeout=aiohttp.ClientTimeout(total=60))
            gave_up_s = loop.time() - answered_s
        await runner.cleanup()
        return answered_s, gave_up_s

    assert run(scenario()) == (HOUR_S, 60.0)


def test_idle_connections_age_in_virtual_time() -> None:
    """A pooled connection that has been idle for longer than its keep-alive is not used again."""

    async def scenario() -> list[object]:
        peers: list[object] = []

        async def answer(request: web.Request) -> web.Response:
            assert request.transport is not None
            peers.append(request.transport.get_extra_info("peername"))
            return web.Response()

        runner = await serve(answer)
        async with aiohttp.ClientSession() as session:
            for idle_s in (0, 1, 60):
                await asyncio.sleep(idle_s)
                await (await session.get(url_of(runner))).read()
        await runner.cleanup()
        return peers

    first, soon, late = run(scenario())
    assert first == soon != late


def test_a_reader_that_stops_reading_does_not_stop_time() -> None:
    """Bytes that do not fit stay where they are while the clock goes on."""

    async def scenario() -> tuple[int, float]:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(1 << 24))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.sleep(HOUR_S)
        received = len(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()
        return received, asyncio.get_running_loop().time()

    assert run(scenario()) == (1 << 24, HOUR_S)


# --- threads -----------------------------------------------------------------------------------------


def test_time_waits_for_work_in_threads() -> None:
    """Work sent to a thread takes no virtual time, whatever it takes of the real, and runs in order."""

    async def scenario() -> tuple[list[int], bool, float]:
        order: list[int] = []
        alarm = asyncio.ensure_future(asyncio.sleep(0.001))

        def work(number: int) -> int:
            time.sleep(0.01 / number)
            order.append(number)
            return threading.get_ident()

        idents = await asyncio.gather(*(asyncio.to_thread(work, number) for number in (1, 2, 3)))
        assert threading.get_ident() not in idents
        rang = alarm.done()
        await alarm
        return order, rang, asyncio.get_running_loop().time()

    assert run(scenario()) == ([1, 2, 3], False, 0.001)


def test_errors_and_cancelling_of_work_in_threads() -> None:
    """An error comes out where it is awaited; work whose owner was cancelled is done all the same."""

    async def scenario() -> bool:
        done = threading.Event()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        task = asyncio.ensure_future(asyncio.to_thread(done.set))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1)
        return done.is_set()

    assert run(scenario())


# --- programs that would never end -------------------------------------------------------------------


def test_a_program_that_can_never_go_on_is_named() -> None:
    """Where all wait and no timer is set, the run ends with the places that wait."""

    async def scenario() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match=r"no timer is set, at 0\.000 s\n.*test_virtual_time\.py:\d+ scenario"):
        run(scenario())


def test_a_program_that_sleeps_for_ever_is_stopped() -> None:
    """A loop around a sleep ends at the limit of virtual time."""

    async def scenario() -> None:
        for _ in itertools.count():
            await asyncio.sleep(600)

    with pytest.raises(Stuck, match="not finished after 7800 virtual seconds"):
        run(scenario(), limit_s=2 * HOUR_S)


def test_a_program_that_never_waits_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that polls the clock without ever sleeping ends after many turns."""
    monkeypatch.setattr("tests.support.virtual_time.STUBBORN_TURNS", 1_000)

    async def scenario() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="nobody waits"):
        run(scenario())


# --- the real client ---------------------------------------------------------------------------------


def read_slowly(seed: int) -> tuple[list[int], list[int], list[float]]:
    """What a plain client reads of a slow, limited, failing sandbox; the truth; when requests came."""

    async def scenario() -> tuple[list[int], list[int], list[float]]:
        institute = Sandbox(
            attempts=400,
            exams=2,
            per_page=10,
            seed=seed,
            latency_ms=700,
            fail_rate=0.2,
            token_ttl_s=86_400,
            rate=RateLimit(20, HOUR_S),
        )
        timeouts = tp.Timeouts(total_s=3 * HOUR_S)
        async with (
            institute,
            tp.Client(
                institute.url, timeouts=timeouts, username=institute.username, password=institute.password
            ) as client,
        ):
            ids = [attempt.id async for attempt in client.attempts.list().prefetch(4)]
        return ids, institute.truth.ids("attempts"), [seen.at_s for seen in institute.log]

    return run(scenario(), seed=seed)


def test_client_and_sandbox_live_hours_in_virtual_time() -> None:
    """A plain client reads a plain sandbox for hours; the same seed gives the same moments."""
    ids, truth, moments_s = read_slowly(seed=3)
    assert ids == truth
    assert len(ids) == 400
    assert moments_s[-1] > 2 * HOUR_S
    assert read_slowly(seed=3)[2] == moments_s
    assert read_slowly(seed=4)[2] != moments_s
