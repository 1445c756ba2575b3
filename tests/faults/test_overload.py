"""Rows 83 to 90 of the fault matrix, and what the limiter and the retry budget promise: over real sockets,
on a clock that tests move. Only where thousands of calls matter the server is a function.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

import testpress_async as tp
from testpress_async.http.pipeline import Handler
from testpress_async.http.window import MAX_PAUSE_S, Limit
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.rate_simulator import DRFServer
from tests.support.clock import AutoClock, ManualClock, settle
from tests.support.pages import ORIGIN, page
from tests.support.raw_server import RawServer, Script, http

ATTEMPTS = "/api/v2.5/admin/attempts/"
USERS = "/api/v2.5/admin/users/"
PAGE = page([1], count=1)
OK = http(PAGE)


def refusal(status: str = "429 Too Many Requests", body: bytes = b"", **headers: str) -> bytes:
    return http(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def throttled(retry_after: str | None, **headers: str) -> bytes:
    return refusal(**({} if retry_after is None else {"Retry_After": retry_after}), **headers)


@asynccontextmanager
async def served(
    *scripts: Script, clock: ManualClock | None = None, **options: Any
) -> AsyncIterator[tuple[RawServer, tp.Client, ManualClock]]:
    """A raw server, and a client whose waits take no time."""
    clock = clock or AutoClock()
    async with (
        RawServer(*scripts, keep=True) as server,
        tp.Client(server.origin, token="t", clock=clock, **options) as client,
    ):
        yield server, client, clock


async def until(holds: Callable[[], bool]) -> None:
    """Let sockets and tasks go on until *holds*."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - it becomes true in the server's own tasks
            await asyncio.sleep(0)


def slept_s(clock: ManualClock) -> float:
    return sum(clock.slept_s)


def gate_of(client: tp.Client) -> Any:
    return client._session.gate


def quota_of(client: tp.Client) -> int:
    return client._session.quota.available


# --- 83: a 429 says when ---------------------------------------------------------------------------------

NOW = "Sun, 06 Nov 1994 08:49:37 GMT"  # long ago: only the server's own clock can make sense of it
THEN = {
    "IMF-fixdate": "Sun, 06 Nov 1994 08:50:07 GMT",
    "rfc850": "Sunday, 06-Nov-94 08:50:07 GMT",
    "asctime": "Sun Nov  6 08:50:07 1994",
}
SAID = b'{"detail": "Request was throttled. Expected available in %s."}'


@pytest.mark.row(83)
@pytest.mark.parametrize(
    ("answer", "waits_s"),
    [
        (throttled("7"), 7.0),
        *((throttled(then, Date=NOW), 30.0) for then in THEN.values()),
        (refusal(body=SAID % b"12 seconds"), 12.0),
        (refusal(body=SAID % b"1 second"), 1.0),
        (refusal(body=SAID % b"2.5 seconds", Content_Type="text/html"), 2.5),
        (refusal(body=SAID % b"60 seconds", Retry_After="3"), 3.0),
        (throttled(None), 1.0),
        (throttled(THEN["IMF-fixdate"]), 1.0),
    ],
    ids=["seconds", *THEN, "words", "one", "html", "header first", "nothing", "a date without Date"],
)
async def test_a_429_is_waited_out_as_long_as_it_says(answer: bytes, waits_s: float) -> None:
    """In seconds, in any of the three date forms by the server's own `Date`, in words, or not at all."""
    async with served(answer, OK) as (server, client, clock):
        assert await client.attempts.list().count() == 1
        assert len(server.heads) == 2
    assert waits_s <= slept_s(clock) <= waits_s + 0.1


@pytest.mark.row(83)
async def test_a_429_holds_everybody_at_one_gate() -> None:
    """Seven others wait with the refused call; not one request leaves early, then all get through."""
    clock = ManualClock()
    async with served(throttled("30"), OK, clock=clock) as (server, client, _):
        calls = [asyncio.create_task(client.attempts.list().count())]
        await until(lambda: clock.sleepers == 1)
        calls += [asyncio.create_task(client.users.list().count()) for _ in range(7)]
        await clock.advance(29.9)
        assert len(server.heads) == client.requests_sent == 1
        await clock.advance(0.2)
        assert await asyncio.gather(*calls) == [1] * 8
        assert client.requests_sent == 9


# --- 84: a 429 says nonsense -----------------------------------------------------------------------------

NONSENSE = [
    *("-1", "0", "1.5", "nan", "inf", "-inf", "1e3", "+5", "1_000", "0x10", "5s", "5, 30", "soon"),
    *("100000000000000000000", "١٢", "９", "99999999999", "Sun, 99 Nov 1994 08:50:07 GMT"),
    *("Sun, 06 Nov 1994 08:49:07 GMT", "Mon, 01 Jan 99999 00:00:00 GMT"),  # past, impossible
]


@pytest.mark.row(84)
@pytest.mark.parametrize("said", NONSENSE)
async def test_nonsense_is_answered_with_a_pause_of_our_own(said: str) -> None:
    """Neither a busy loop nor a sleep of days: one second, then again."""
    async with served(throttled(said, Date=NOW), OK) as (server, client, clock):
        assert await client.attempts.list().count() == 1
        assert len(server.heads) == 2
    assert 1.0 <= slept_s(clock) <= 1.1


@pytest.mark.row(84)
@pytest.mark.parametrize("said", [None, "0", "-1", "100000000000000000000"])
async def test_nonsense_without_end_ends_with_the_deadline(said: str | None) -> None:
    """Pauses double to a minute; the call ends within its 300 s, with few requests."""
    async with served(throttled(said)) as (server, client, clock):
        with pytest.raises(tp.RateLimited):
            await client.attempts.list()
        assert len(server.heads) <= 12
    naps_s = [nap_s for nap_s in clock.slept_s if nap_s]
    assert min(naps_s) >= 1.0
    assert max(naps_s) <= 60.1
    assert sum(naps_s) <= 300.0


FAR = {
    "five minutes": ("301", 301.0),
    "a day": ("86400", 86_400.0),
    "30 years": ("999999999", MAX_PAUSE_S),
    "year 9999": ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_PAUSE_S),
}


@pytest.mark.row(84)
@pytest.mark.parametrize(("said", "told_s"), FAR.values(), ids=FAR)
async def test_a_wait_beyond_the_deadline_is_refused_at_once(said: str, told_s: float) -> None:
    """`RateLimited` says when to ask again; nobody slept, and nothing else was sent."""
    async with served(throttled(said, Date=NOW)) as (server, client, clock):
        with pytest.raises(tp.RateLimited) as caught:
            await client.attempts.list()
        assert caught.value.retry_after_s == pytest.approx(told_s, rel=0.01)
        assert len(server.heads) == 1
    assert slept_s(clock) == 0


@pytest.mark.row(84)
@pytest.mark.parametrize(("said", "waits"), [("4", True), ("6", False), ("3600", False)])
async def test_a_person_does_not_wait_longer_than_five_seconds(said: str, waits: bool) -> None:
    """Interactive calls sit out a short pause, and hear of a long one at once."""
    async with served(throttled(said), OK) as (server, client, clock):
        person = client.with_options(priority="interactive").attempts.list()
        if waits:
            assert await person.count() == 1
            assert slept_s(clock) >= 4
            return
        with pytest.raises(tp.RateLimited) as caught:
            await person
        assert caught.value.retry_after_s == pytest.approx(float(said), abs=0.1)
        assert slept_s(clock) == 0
        assert len(server.heads) == 1


@pytest.mark.row(84)
async def test_of_two_headers_the_first_counts() -> None:
    """A second one, some proxy's, changes nothing."""
    async with served(throttled("5\r\nRetry-After: 900"), OK) as (_, client, clock):
        assert await client.attempts.list().count() == 1
    assert 5.0 <= slept_s(clock) <= 5.1


# --- 85: bursts of faults --------------------------------------------------------------------------------

FAULTS = ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]


@pytest.mark.row(85)
@pytest.mark.parametrize("status", [*FAULTS, "408 Request Timeout"])
async def test_a_burst_of_faults_is_sat_out_and_paid_for(status: str) -> None:
    """Three faults and an answer: four requests with pauses between, and only the last retry is refunded."""
    fault = refusal(status, b"<h1>oops</h1>", Content_Type="text/html")
    async with served(fault, fault, fault, OK) as (server, client, clock):
        assert await client.attempts.list().count() == 1
        assert len(server.heads) == 4
        assert quota_of(client) == 500 - 2 * 14
    assert 0 < slept_s(clock) <= 0.5 + 1 + 2


@pytest.mark.row(85)
async def test_faults_without_end_cost_five_tries() -> None:
    """Then the fault itself is raised, with the number of tries."""
    async with served(refusal(FAULTS[2])) as (server, client, clock):
        with pytest.raises(tp.ServerFault, match="after 5 tries") as caught:
            await client.attempts.list()
        assert (caught.value.status, caught.value.tries, len(server.heads)) == (503, 5, 5)
    assert slept_s(clock) <= 0.5 + 1 + 2 + 4


@pytest.mark.row(85)
@pytest.mark.parametrize("status", [FAULTS[0], FAULTS[2]])
async def test_a_fault_that_says_when_is_not_asked_earlier(status: str) -> None:
    """Retry-After and a little more at random, so that not everybody comes in the same instant."""
    async with served(refusal(status, Retry_After="7"), OK) as (_, client, clock):
        assert await client.attempts.list().count() == 1
    assert 7.0 < slept_s(clock) <= 7.5


@pytest.mark.row(85)
async def test_a_fault_that_says_too_late_is_raised_at_once() -> None:
    """A maintenance window longer than the deadline is the caller's business: told, not slept through."""
    async with served(refusal(FAULTS[2], Retry_After="900")) as (server, client, clock):
        with pytest.raises(tp.ServerFault) as caught:
            await client.attempts.list()
        assert (caught.value.retry_after_s, len(server.heads)) == (900.0, 1)
    assert slept_s(clock) == 0


# --- 86 and 87: servers that come and go -----------------------------------------------------------------


class Function:
    """Middleware that stands in for the server: `answer` decides, requests are counted by second."""

    def __init__(self, answer: Callable[[], Awaitable[tp.Response]], clock: ManualClock) -> None:
        self._answer, self._clock = answer, clock
        self.requests = 0
        self.per_second = Counter[int]()

    async def __call__(self, request: tp.Request, handler: Handler) -> tp.Response:
        self.requests += 1
        self.per_second[math.floor(self._clock.now_s())] += 1
        return await self._answer()


GOOD = tp.Response(status=200, headers={}, body=PAGE)


def bad(**headers: str) -> tp.Response:
    return tp.Response(status=503, headers=headers, body=b"")


FAILURES: dict[str, Callable[[], tp.Response]] = {
    "503": bad,
    "429": lambda: tp.Response(status=429, headers={}, body=b""),
    "html": lambda: tp.Response(status=200, headers={}, body=b"<html>"),
}


def raising(kind: Callable[..., tp.Error], *facts: object) -> Callable[[], tp.Response]:
    def fail() -> tp.Response:
        raise kind("GET", "/", *facts)

    return fail


FAILURES |= {
    "refused": raising(tp.ConnectionFailed, "refused"),
    "reset": raising(tp.AnswerLost, "reset"),
    "silence": raising(tp.TimedOut, "read_idle_s", 30.0),
}


@pytest.mark.row(86)
async def test_a_server_that_fails_every_second_call_once_serves_all() -> None:
    """Flapping, half of the calls hit: all 3,000 succeed, with one and a half requests for each."""
    clock, state = AutoClock(), iter(range(10**6))

    async def answer() -> tp.Response:
        return bad() if next(state) % 3 == 0 else GOOD

    server = Function(answer, clock)
    async with tp.Client(ORIGIN, token="t", middleware=[server], clock=clock) as client:
        for _ in range(3_000):
            assert await client.attempts.list().count() == 1
        assert quota_of(client) == 500
    assert server.requests <= 1.5 * 3_000


@pytest.mark.row(86)
async def test_the_same_over_a_socket_with_every_kind_of_fault() -> None:
    """503, a body cut short, a silent close, a page of HTML: 120 calls, 120 answers, 180 requests."""
    kinds: list[Script] = [
        refusal(FAULTS[2]),
        http(PAGE, length=999),
        b"",
        http(b"<html>"),
    ]
    scripts = [script for n in range(60) for script in (kinds[n % len(kinds)], OK, OK)]
    async with RawServer(*scripts) as server:
        async with tp.Client(server.origin, token="t", clock=AutoClock()) as client:
            for _ in range(120):
                assert await client.attempts.list().count() == 1
        # aiohttp itself sends a GET again when a kept connection turns out dead; here none is kept
        assert len(server.heads) == 180


async def load(
    clock: ManualClock, call: Callable[[], Coroutine[Any, Any, object]], *, per_s: int, seconds: int
) -> list[object]:
    """Callers who do not wait for each other, *per_s* of them a second; what became of their calls."""
    calls = list[asyncio.Task[object]]()
    for _ in range(seconds * per_s):
        calls.append(asyncio.create_task(call()))
        await clock.advance(1 / per_s)
    while not all(each.done() for each in calls):
        await clock.advance(1.0)
    return list(await asyncio.gather(*calls, return_exceptions=True))


@pytest.mark.row(86)
async def test_a_server_down_half_of_the_time_that_says_how_long_loses_no_call() -> None:
    """Two seconds up, two down with Retry-After: every call succeeds; those in between are sent twice."""
    clock = ManualClock()

    async def answer() -> tp.Response:
        down_for_s = clock.now_s() % 4 - 2
        await clock.sleep(0.02)
        return GOOD if down_for_s < 0 else bad(**{"Retry-After": f"{math.ceil(2 - down_for_s)}"})

    server = Function(answer, clock)
    async with tp.Client(ORIGIN, token="t", middleware=[server], clock=clock) as client:
        outcomes = await load(clock, lambda: client.attempts.list().count(), per_s=10, seconds=120)
    assert outcomes.count(1) >= 0.999 * len(outcomes)
    assert server.requests <= 1.5 * len(outcomes) + 1


@pytest.mark.row(86)
@pytest.mark.parametrize("period_s", [0.4, 2.0, 10.0])
async def test_however_a_server_flaps_the_budget_bounds_the_requests(period_s: float) -> None:
    """Down half of the time, of any length, without a word: never more than 1.5 requests for a call."""
    clock = ManualClock()

    async def answer() -> tp.Response:
        up = clock.now_s() % period_s < period_s / 2
        await clock.sleep(0.02)
        return GOOD if up else bad()

    server = Function(answer, clock)
    async with tp.Client(ORIGIN, token="t", middleware=[server], clock=clock) as client:
        outcomes = await load(clock, lambda: client.attempts.list().count(), per_s=10, seconds=100)
    assert server.requests <= 1.5 * len(outcomes)
    assert outcomes.count(1) >= 0.5 * len(outcomes)


@pytest.mark.row(87)
@pytest.mark.parametrize("kind", FAILURES)
async def test_a_total_outage_is_not_made_worse(kind: str) -> None:
    """However many calls go into nothing, a hundred requests more at most: of 10,000 one in a hundred."""
    failure, calls = FAILURES[kind], 10_000 if kind == "503" else 1_500
    clock = AutoClock()

    async def answer() -> tp.Response:
        return failure()

    server = Function(answer, clock)
    async with tp.Client(ORIGIN, token="t", middleware=[server], clock=clock) as client:
        listing = client.attempts.list()
        for _ in range(calls):
            with pytest.raises(tp.Error):
                await listing.count()
    assert server.requests <= calls + 0.01 * 10_000


@pytest.mark.row(87)
async def test_a_closed_port_is_not_hammered() -> None:
    """The same with real connections that are refused."""
    async with RawServer(OK) as server:
        origin = server.origin
    clock, events = AutoClock(), list[tp.Event]()
    async with tp.Client(origin, token="t", clock=clock, on_event=events.append) as client:
        for _ in range(1_000):
            with pytest.raises(tp.ConnectionFailed):
                await client.attempts.list().count()
        assert client.requests_sent <= 1_000 + 35
    repeats = [event for event in events if isinstance(event, tp.TryFailed)]
    assert len(repeats) == 35  # what a full budget of 500 allows at 14 each


@pytest.mark.row(87)
async def test_after_ten_minutes_down_all_is_well_at_once_and_no_herd_comes() -> None:
    """Three callers a second throughout: the first call after the end succeeds, and no second of what follows
    sees more than 1.2 times the usual requests."""
    clock, down = ManualClock(start_s=0.0), range(60, 660)

    async def answer() -> tp.Response:
        up = math.floor(clock.now_s()) not in down
        await clock.sleep(0.03)
        return GOOD if up else bad()

    server = Function(answer, clock)
    healed_s = list[float]()
    async with tp.Client(ORIGIN, token="t", middleware=[server], clock=clock) as client:

        async def call() -> None:
            began_s = clock.now_s()
            await client.attempts.list().count()
            if began_s >= down.stop:
                healed_s.append(clock.now_s())

        outcomes = await load(clock, call, per_s=3, seconds=720)
    assert healed_s[0] - down.stop <= 2.0
    assert max(server.per_second[second] for second in range(down.stop, 720)) <= 1.2 * 3
    failed = sum(outcome is not None for outcome in outcomes)
    assert sum(server.per_second[second] for second in down) <= 1.01 * len(down) * 3 + 35
    assert failed >= 0.99 * len(down) * 3


@pytest.mark.row(87)
async def test_patient_calls_come_back_in_order_not_in_a_herd() -> None:
    """Sixteen exports with tries without end sit out ten minutes; then they are served within seconds of the
    next probe, and in no second more of them than when all was well."""
    clock, down = ManualClock(start_s=0.0), range(30, 630)

    async def answer() -> tp.Response:
        up = math.floor(clock.now_s()) not in down
        await clock.sleep(0.1)
        return GOOD if up else bad()

    server = Function(answer, clock)
    policy = tp.RetryPolicy(max_tries=10_000, quota=10**9, max_s=20)
    async with tp.Client(
        ORIGIN,
        token="t",
        middleware=[server],
        clock=clock,
        retry=policy,
        timeouts=tp.Timeouts(total_s=3_600),
    ) as client:
        served_s = list[float]()

        async def export() -> None:
            while clock.now_s() < 680:
                await client.attempts.list().count()
                served_s.append(clock.now_s())

        exports = [asyncio.create_task(export()) for _ in range(16)]
        while not all(each.done() for each in exports):
            await clock.advance(1.0)
        await asyncio.gather(*exports)
    steady = max(server.per_second[second] for second in range(5, 30))
    assert max(server.per_second[second] for second in range(down.stop, 680)) <= 1.2 * steady
    probe_s = min(second for second in server.per_second if second >= down.stop)
    assert min(at_s for at_s in served_s if at_s >= down.stop) - probe_s <= 2.0
    assert sum(server.per_second[second] for second in down) <= len(down) * 16 / 5


# --- 88: a server that slows down ------------------------------------------------------------------------


class Slow:
    """An institute behind a socket whose latency can change, and 16 tasks that call it without end."""

    def __init__(self, institute: Sandbox, client: tp.Client, clock: ManualClock) -> None:
        self.institute, self.client, self.clock = institute, client, clock
        self.served = 0
        self._stop = False
        self._tasks = [asyncio.create_task(self._call()) for _ in range(16)]

    async def _call(self) -> None:
        while not self._stop:
            await self.client.courses.list().count()
            self.served += 1

    def _quiet(self) -> bool:
        """Everything in flight has arrived and sleeps at the server."""
        flying = gate_of(self.client).in_flight
        return flying == self.institute.in_flight and self.clock.sleepers >= flying

    async def serve(self, count: int, *, latency_ms: float) -> None:
        """Go on until so many more were served."""
        self.institute.settings = replace(self.institute.settings, latency_ms=latency_ms)
        aim = self.served + count
        while self.served < aim:
            await until(self._quiet)
            await self.clock.advance(latency_ms / 1_000)

    async def end(self) -> None:
        self._stop = True
        while not all(task.done() for task in self._tasks):
            await until(self._quiet)
            await self.clock.advance(2.0)
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def slow(**options: Any) -> AsyncIterator[Slow]:
    clock = ManualClock()
    async with (
        Sandbox(attempts=5, courses=2, clock=clock) as institute,
        tp.Client(institute.url, token=institute.token(), clock=clock, **options) as client,
    ):
        under_load = Slow(institute, client, clock)
        yield under_load
        await under_load.end()


@pytest.mark.row(88)
async def test_ten_times_the_latency_gets_a_quarter_of_the_requests() -> None:
    """Sixteen at a time while all is well, four while answers take ten times as long, then sixteen again;
    no call fails and none is sent twice."""
    async with slow() as load_:
        await load_.serve(160, latency_ms=120)
        assert load_.institute.most_in_flight == 16
        await load_.serve(110, latency_ms=1_200)
        load_.institute.most_in_flight = 0
        await load_.serve(12, latency_ms=1_200)
        assert load_.institute.most_in_flight == 4
        await load_.serve(160, latency_ms=120)
        assert load_.institute.most_in_flight == 16
    assert load_.institute.requests == load_.served
    assert {seen.status for seen in load_.institute.log} == {200}


@pytest.mark.row(88)
async def test_503s_shrink_it_to_one_and_good_answers_bring_all_back() -> None:
    """The server's own words weigh more than its latency."""
    policy = tp.RetryPolicy(max_tries=1_000, quota=10**9)
    async with slow(retry=policy) as load_:
        await load_.serve(100, latency_ms=20)
        load_.institute.script(Fault(status=503, times=60))
        await load_.serve(2, latency_ms=20)
        assert gate_of(load_.client).max_in_flight <= 2
        await load_.serve(300, latency_ms=20)
        assert gate_of(load_.client).max_in_flight == 16


# --- 89: limits that change ------------------------------------------------------------------------------


@asynccontextmanager
async def limited(
    server: DRFServer,
    clock: ManualClock,
    before: Callable[[float], None] = lambda now_s: None,
    **options: Any,
) -> AsyncIterator[tuple[tp.Client, Counter[int]]]:
    """A client of a real server that counts by *server*'s rules, and the statuses it gave."""
    statuses = Counter[int]()

    async def answer(request: web.Request) -> web.Response:
        await clock.sleep(0.05)
        before(clock.now_s())
        retry_after_s = server.refusal(clock.now_s())
        status = 200 if retry_after_s is None else 429
        headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s}"}
        statuses[status] += 1
        return web.Response(status=status, headers=headers, body=PAGE, content_type="application/json")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with tp.Client(
            f"http://127.0.0.1:{port}", token="t", clock=clock, timeouts=tp.Timeouts(total_s=3_600), **options
        ) as client:
            yield client, statuses
    finally:
        await runner.cleanup()


async def read_for(client: tp.Client, clock: ManualClock, duration_s: float) -> None:
    end_s = clock.now_s() + duration_s
    while clock.now_s() < end_s:
        await client.attempts.list().count()


@pytest.mark.row(89)
async def test_a_limit_lowered_in_mid_run_is_learned_from_one_429() -> None:
    """From 60 to 20 a minute: all of the new budget is used, and hardly anything more is asked."""
    clock, server = AutoClock(), DRFServer((60, 60.0))
    async with limited(server, clock) as (client, statuses):
        await read_for(client, clock, 180)
        assert gate_of(client).learned == (Limit(60, 60.0),)
        assert statuses[429] == 1
        server.limits[0][0] = 20
        await read_for(client, clock, 300)
        assert gate_of(client).learned == (Limit(20, 60.0),)
        statuses.clear()
        await read_for(client, clock, 600)
        assert statuses[200] >= 0.97 * 200
        assert statuses[429] <= 1


@pytest.mark.row(89)
async def test_a_limit_raised_in_mid_run_is_found() -> None:
    """From 60 to 180 a minute: probing finds it, at a 429 now and then."""
    clock, server = AutoClock(), DRFServer((60, 60.0))
    async with limited(server, clock, rate=tp.RatePolicy(probe_after=60)) as (client, statuses):
        await read_for(client, clock, 180)
        server.limits[0][0] = 180
        await read_for(client, clock, 1_080)
        statuses.clear()
        await read_for(client, clock, 600)
        assert statuses[200] >= 0.97 * 1_800
        assert statuses[429] <= 0.01 * 1_800


@pytest.mark.row(89)
async def test_a_stranger_who_eats_thirty_percent_costs_few_429s() -> None:
    """200 a minute shared with somebody careless: at most 0.5 % of our requests are refused, and together
    we use at least 97 % of the budget."""
    clock, server, dice = AutoClock(), DRFServer((200, 60.0)), random.Random(3)
    strangers = Counter[bool]()
    next_s = clock.now_s()

    def stranger(now_s: float) -> None:
        nonlocal next_s
        while next_s <= now_s:
            strangers[server.refusal(next_s) is None] += 1
            next_s += dice.expovariate(1.0)

    async with limited(server, clock, stranger) as (client, statuses):
        await read_for(client, clock, 600)
        statuses.clear()
        strangers.clear()
        await read_for(client, clock, 600)
    assert statuses[429] <= 0.005 * statuses.total()
    assert statuses[200] + strangers[True] >= 0.97 * 2_000


# --- 90: answers that will not change --------------------------------------------------------------------


@pytest.mark.row(90)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, tp.BadRequest) for status in (400, 405, 409, 410, 413, 414, 415, 418, 422, 431, 451)),
        *((status, tp.ServerFault) for status in (501, 505, 507, 511)),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Retry_After": "1"}], ids=["", "with Retry-After"])
async def test_an_answer_that_will_not_change_is_asked_for_once(
    status: int, kind: type[tp.StatusError], headers: Mapping[str, str]
) -> None:
    """Typed, with status and words; no retry, whatever Retry-After it carries; the budget is untouched."""
    answer = refusal(f"{status} No", b'{"detail": "No."}', **headers)
    async with served(answer) as (server, client, clock):
        with pytest.raises(kind) as caught:
            await client.attempts.list()
        assert (caught.value.status, caught.value.detail, caught.value.tries) == (status, "No.", 1)
        assert len(server.heads) == 1
        assert quota_of(client) == 500
    assert slept_s(clock) == 0


# --- the limiter's promises, seen from the client --------------------------------------------------------


@asynccontextmanager
async def paced(*limits: RateLimit, **options: Any) -> AsyncIterator[tuple[Sandbox, tp.Client, ManualClock]]:
    """An institute with limits on a clock moved by hand, and its client."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=200, per_page=5, users=40, rate=limits or None, clock=clock) as institute,
        tp.Client(institute.url, token=institute.token(), clock=clock, **options) as client,
    ):
        yield institute, client, clock


async def drive(clock: ManualClock, client: tp.Client, tasks: list[asyncio.Task[Any]], step_s: float) -> None:
    """Move time, not while anything is on the way, until all *tasks* are done."""
    while not all(task.done() for task in tasks):
        await until(lambda: gate_of(client).in_flight == 0)
        await clock.advance(step_s)


async def test_a_person_passes_queued_exports() -> None:
    """Two lanes: of all that wait for the next slot the interactive call goes first, though it came last."""
    async with paced(rate=tp.RatePolicy(requests=1, per_s=4)) as (institute, client, clock):
        person = client.with_options(priority="interactive")
        tasks = [asyncio.create_task(client.attempts.list(exams=[n]).count()) for n in range(1, 5)]
        await until(lambda: len(institute.log) == 1)
        tasks.append(asyncio.create_task(person.users.list().count()))
        await settle()
        await drive(clock, client, tasks, 0.5)
        assert [seen.query or seen.path for seen in institute.log] == [
            *("exams=1", USERS, "exams=2", "exams=3", "exams=4")
        ]
        gaps_s = [b.at_s - a.at_s for a, b in zip(institute.log, list(institute.log)[1:], strict=False)]
        assert min(gaps_s) >= 4  # one by one


@pytest.mark.parametrize(("max_wait_s", "waits"), [(None, False), (61, True), (0, False)])
async def test_patience_is_five_seconds_unless_told(max_wait_s: float | None, waits: bool) -> None:
    """An interactive call that would wait longer is refused at once, unsent, with the time to come back."""
    async with paced(rate=tp.RatePolicy(requests=1, per_s=60)) as (institute, client, clock):
        await client.users.list().count()
        person = client.with_options(priority="interactive", max_wait_s=max_wait_s)
        call = asyncio.create_task(person.users.list().count())
        await settle()
        assert call.done() is not waits
        if waits:
            await drive(clock, client, [call], 5.0)
            assert await call == 40
            return
        with pytest.raises(tp.RateLimited) as caught:
            await call
        assert not caught.value.sent
        assert caught.value.retry_after_s == pytest.approx(60, rel=0.01)
        assert len(institute.log) == 1


@pytest.mark.parametrize(("total_s", "waits"), [(300, True), (50, False)])
async def test_an_export_waits_as_long_as_its_deadline(total_s: float, waits: bool) -> None:
    """And no longer: what cannot be served in time is told at once, not at the end."""
    limits = {"rate": tp.RatePolicy(requests=1, per_s=60), "timeouts": tp.Timeouts(total_s=total_s)}
    async with paced(**limits) as (_, client, clock):
        await client.users.list().count()
        call = asyncio.create_task(client.users.list().count())
        await settle()
        assert call.done() is not waits
        if waits:
            await drive(clock, client, [call], 5.0)
            assert await call == 40
        else:
            with pytest.raises(tp.RateLimited):
                await call


@pytest.mark.parametrize(
    "limits", [(RateLimit(20, 60.0),), (RateLimit(10, 1.0),), (RateLimit(10, 1.0), RateLimit(30, 60.0))]
)
async def test_a_given_limit_means_no_429_at_all(limits: tuple[RateLimit, ...]) -> None:
    """Forty pages, eight at a time: all come, in order, and the server never has to refuse."""
    policy = tp.RatePolicy(limits=tuple((limit.requests, limit.per_s) for limit in limits))
    async with paced(*limits, rate=policy) as (institute, client, clock):

        async def read() -> list[int]:
            return [attempt.id async for attempt in client.attempts.list().prefetch(8)]

        task = asyncio.create_task(read())
        await drive(clock, client, [task], limits[0].per_s / 8)
        assert await task == institute.truth.ids("attempts")
        assert Counter(seen.status for seen in institute.log) == {200: 40}


async def test_an_unknown_limit_costs_at_most_one_429_a_worker() -> None:
    """Then the window is known: all pages come, in order, without another refusal."""
    async with paced(RateLimit(15, 60.0)) as (institute, client, clock):

        async def read() -> list[int]:
            return [attempt.id async for attempt in client.attempts.list().prefetch(8)]

        task = asyncio.create_task(read())
        await drive(clock, client, [task], 5.0)
        assert await task == institute.truth.ids("attempts")
        assert gate_of(client).learned == (Limit(15, 60.0),)
        statuses = [seen.status for seen in institute.log]
        assert statuses.count(200) == 40
        assert 1 <= statuses.count(429) <= 8
        assert 429 not in statuses[30:]


async def test_cancelled_calls_lose_no_slot_and_keep_the_order() -> None:
    """Every second of twelve waiting calls goes; the rest are served first come, first served."""
    async with paced(rate=tp.RatePolicy(requests=2, per_s=10)) as (institute, client, clock):
        calls = [asyncio.create_task(client.attempts.list(exams=[n]).count()) for n in range(1, 13)]
        await until(lambda: len(institute.log) == 2)
        for call in calls[3::2]:
            call.cancel()
        await settle()
        await drive(clock, client, calls, 1.0)
        assert gate_of(client).waiting == 0
        assert [seen.query for seen in institute.log] == [
            f"exams={number}" for number in (1, 2, 3, 5, 7, 9, 11)
        ]


async def test_a_login_pays_the_limiter_too() -> None:
    """With one request a minute the login takes this minute's, the call the next one's."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=5, users=40, clock=clock) as institute,
        tp.Client(
            institute.url,
            username=institute.username,
            password=institute.password,
            rate=tp.RatePolicy(requests=1, per_s=60),
            clock=clock,
        ) as client,
    ):
        call = asyncio.create_task(client.users.list().count())
        await drive(clock, client, [call], 10.0)
        assert await call == 40
        first, second = institute.log
        assert (first.method, second.method) == ("POST", "GET")
        assert second.at_s - first.at_s >= 60


async def test_clones_share_the_limiter() -> None:
    """What one of them has used up, another cannot send."""
    async with paced(rate=tp.RatePolicy(requests=1, per_s=60)) as (institute, client, _):
        await client.with_options(timeout_s=3).users.list().count()
        for another in (client, client.with_options(priority="interactive")):
            with pytest.raises(tp.RateLimited):
                await another.with_options(max_wait_s=1).users.list()
        assert len(institute.log) == 1


async def test_clones_share_the_retry_budget() -> None:
    """When one has spent it on a failing server, none retries."""
    async with served(refusal(FAULTS[2]), retry=tp.RetryPolicy(quota=4 * 14)) as (server, client, _):
        with pytest.raises(tp.ServerFault):
            await client.with_options(timeout_s=60).attempts.list()
        assert len(server.heads) == 5
        for another in (client, client.with_options(priority="interactive")):
            with pytest.raises(tp.ServerFault) as caught:
                await another.attempts.list()
            assert caught.value.tries == 1
        assert len(server.heads) == 7
