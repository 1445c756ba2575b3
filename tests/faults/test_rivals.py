"""What other clients do, measured, and this one must not: each test is a failure seen in a released library.

Over real sockets, through the public `Client`. Said of each: what went wrong elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

import testpress_async as tp
from testpress_async.http.pipeline import Handler
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock, ManualClock, settle
from tests.support.pages import book, other_tasks, page
from tests.support.raw_server import HOLD, RawServer, http

ATTEMPTS = "/api/v2.5/admin/attempts/"
SECRET = "s3cret-token"
OK = http(page([1], count=1))


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[Sandbox, tp.Client]]:
    """An institute with 200 attempts on 40 pages, and its client; *options* of the client."""
    async with (
        Sandbox(attempts=200, per_page=5, users=5, courses=2, conferences=2) as institute,
        tp.Client(institute.url, **({"token": institute.token()} | options)) as client,
    ):
        yield institute, client


async def until(holds: Callable[[], bool]) -> None:
    """Let sockets and tasks go on until *holds*."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it becomes true in the server's own tasks
            await asyncio.sleep(0)


def answers(*bodies: bytes) -> list[bytes]:
    return [http(body) for body in bodies]


# --- paging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 4])
async def test_a_reader_that_stands_still_stops_the_pages(window: int) -> None:
    """Elsewhere 200 of 200 pages were buffered behind a reader that had paused after the first record."""
    async with (
        opened() as (institute, client),
        contextlib.aclosing(client.attempts.list().pages(window)) as it,
    ):
        await anext(it)
        await until(lambda: institute.in_flight == 0)
        await settle(200)
        assert institute.requests <= 1 + window


async def test_break_ends_the_traffic() -> None:
    """Elsewhere 199 more requests were sent after `break`."""
    async with opened() as (institute, client):
        async with contextlib.aclosing(client.attempts.list().prefetch(4)) as records:
            async for _ in records:
                break
        asked = client.requests_sent
        await until(lambda: institute.in_flight == 0)
        await settle(200)
        assert client.requests_sent == asked <= 1 + 4
        assert other_tasks_of_ours() == set()


def other_tasks_of_ours() -> set[str]:
    """Tasks beside the test's own and the servers'."""
    names = {task.get_coro().__qualname__ for task in other_tasks()}  # type: ignore[union-attr]
    return {name for name in names if "RequestHandler" not in name and "RawServer" not in name}


async def test_an_abandoned_iteration_ends_in_any_task() -> None:
    """Elsewhere a generator dropped after `break` ended in "cancel scope in a different task"."""
    async with opened() as (_, client):

        async def first() -> int:
            async for attempt in client.attempts.list().prefetch(4):
                return attempt.id
            return 0

        ids = await asyncio.gather(*(asyncio.create_task(first()) for _ in range(5)))
        assert len(set(ids)) == 1
        await settle(200)
        assert other_tasks_of_ours() == set()


@pytest.mark.parametrize("window", [1, 8])
async def test_hundreds_of_empty_pages_do_not_end_it_or_the_stack(window: int) -> None:
    """Elsewhere an empty page in the middle ended the list (two clients), or 600 of them the stack (one)."""
    pages = [page([], next_page=number + 1, count=1, per_page=1) for number in range(1, 701)]
    scripts = answers(*pages, page([7], count=1))
    async with RawServer(*scripts, keep=True) as server, tp.Client(server.origin, token="t") as client:
        assert [attempt.id async for attempt in client.attempts.list().prefetch(window)] == [7]


@pytest.mark.parametrize("window", [1, 4])
async def test_the_same_list_can_be_read_twice_and_by_two(window: int) -> None:
    """Elsewhere the second pass began at the last page, and threads mixed up their pages' parameters."""
    async with opened() as (institute, client):
        listing = client.attempts.list()

        async def read() -> list[int]:
            return [attempt.id async for attempt in listing.prefetch(window)]

        assert await read() == await read() == institute.truth.ids("attempts")
        assert await asyncio.gather(read(), read(), read()) == [institute.truth.ids("attempts")] * 3


async def test_pages_are_values_of_their_own() -> None:
    """Elsewhere collecting the pages gave the last one, N times."""
    async with opened() as (institute, client):
        pages = [each async for each in client.attempts.list().pages(4)]
    assert [attempt.id for each in pages for attempt in each.items] == institute.truth.ids("attempts")
    assert [each.number for each in pages] == list(range(1, 41))


async def test_a_server_that_repeats_itself_is_named() -> None:
    """Elsewhere a page that named itself as the next one was read for ever."""
    again = page([1, 2], next_page=2)
    async with RawServer(*answers(again), keep=True) as server:
        async with tp.Client(server.origin, token="t") as client:
            with pytest.raises(tp.ListingChanged):
                await client.attempts.list().collect()
        assert len(server.heads) == 2


async def test_a_failed_page_is_resumed_not_the_whole_list() -> None:
    """Elsewhere a failure in mid-paging meant starting again, or gave records a second time."""
    async with opened(retry=tp.RetryPolicy(max_tries=1)) as (institute, client):
        institute.script(Fault(path=ATTEMPTS, query="page=21", status=503))
        listing, ids = client.attempts.list(), list[int]()

        async def read() -> None:
            async for attempt in listing:
                ids.append(attempt.id)

        with pytest.raises(tp.ServerFault) as caught:
            await read()
        assert caught.value.resume_token
        ids += [attempt.id async for attempt in listing.resume(caught.value.resume_token)]
        assert ids == institute.truth.ids("attempts")
        assert institute.requests == 41


# --- decoding --------------------------------------------------------------------------------------------


async def test_one_bad_record_costs_one_record() -> None:
    """Elsewhere one wrong value failed the whole page, or passed unchecked into the program."""
    rows = [{"id": number, "score": "1.00"} for number in range(100)]
    rows[40] = {"id": 40, "score": ["not", "a", "number"]}
    body = msgspec.json.encode({"count": 100, "next": None, "per_page": 100, "results": rows})
    async with RawServer(http(body)) as server, tp.Client(server.origin, token="t") as client:
        kept = [attempt.id async for attempt in client.attempts.list(bad_records="skip")]
        with pytest.raises(tp.DecodeFailed) as caught:
            await client.attempts.list().collect()
    assert kept == [number for number in range(100) if number != 40]
    assert (caught.value.record_id, "results[40]" in caught.value.path) == (40, True)
    assert b"not" in caught.value.raw


async def test_a_new_word_in_an_enum_breaks_nothing() -> None:
    """Elsewhere a value added by the server raised in every client."""
    body = msgspec.json.encode(
        {"next": None, "results": [{"id": 1, "state": "Evaluating by Moon", "new": 5}]}
    )
    async with RawServer(http(body)) as server, tp.Client(server.origin, token="t") as client:
        [attempt] = await client.attempts.list().collect()
    assert "Evaluating by Moon" in f"{attempt.state!s} {attempt.state!r}"


@pytest.mark.parametrize(
    "script",
    [
        http(page([1]), length=999),
        http(gzip.compress(page([1]))[:-9], headers={"Content-Encoding": "gzip"}),
        http(page([1])[:-1], length=None),
        http(b"<html>login</html>"),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cou\r\n',
        b"",
    ],
    ids=["short", "gzip cut", "no length, cut", "html", "chunks cut", "closed"],
)
async def test_broken_bodies_are_our_errors_and_never_data(script: bytes) -> None:
    """Elsewhere the HTTP library's errors came out raw, and cut bodies as success."""
    once = tp.RetryPolicy(max_tries=1)
    async with RawServer(script) as server, tp.Client(server.origin, token="t", retry=once) as client:
        with pytest.raises((tp.AnswerLost, tp.NotJSON)):
            await client.attempts.list()


# --- retries ---------------------------------------------------------------------------------------------


async def waits_for(*scripts: bytes) -> list[float]:
    """What a client slept, in seconds, while these answers came before a good one."""
    clock = AutoClock()
    async with RawServer(*scripts, OK) as server, tp.Client(server.origin, token="t", clock=clock) as client:
        assert await client.attempts.list().count() == 1
        assert len(server.heads) == len(scripts) + 1
    return [wait_s for wait_s in clock.slept_s if wait_s]


@pytest.mark.parametrize("script", [http(b"", status="503 No"), http(page([1]), length=999), b""])
async def test_retries_wait_and_scatter(script: bytes) -> None:
    """Elsewhere they came 1 ms apart, without jitter, and at once after a cut body."""
    random.seed(5)
    waits_s = [wait_s for _ in range(6) for wait_s in await waits_for(script, script)]
    assert len(waits_s) == len(set(waits_s)) == 12
    assert sum(waits_s) / 12 > 0.1


async def test_a_429_is_retried_and_its_wait_never_shortened() -> None:
    """Elsewhere 429 was never retried, a date crashed the client, or a long wait was cut to a shorter one."""
    busy = {"Retry-After": "45"}
    dated = {"Retry-After": "Sun, 06 Nov 1994 08:50:22 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    for headers in (busy, dated):
        assert sum(await waits_for(http(b"", status="429 No", headers=headers))) >= 45


@pytest.mark.parametrize("status", [400, 409, 501])
async def test_what_will_not_change_is_not_sent_again(status: int) -> None:
    """Elsewhere 501 and 409 were retried, and any error with Retry-After, four times even a POST's 400."""
    refusal = http(b"{}", status=f"{status} No", headers={"Retry-After": "1"})
    async with RawServer(refusal) as server:
        async with tp.Client(server.origin, username="admin", password="p", clock=AutoClock()) as client:
            with pytest.raises(tp.StatusError):
                await client.attempts.list()
        if status != 501:
            assert server.targets == ["/api/v2.5/auth-token/"]
        assert len(server.heads) == 1


async def test_settings_are_not_used_up() -> None:
    """Elsewhere a handler changed the shared options, and later calls had no retries left."""
    async with opened(clock=AutoClock()) as (institute, client):
        for _ in range(10):
            institute.script(Fault(path=ATTEMPTS, status=503, times=4))
            assert await client.attempts.list().count() == 200


async def test_a_bug_in_the_program_is_not_a_connection_error() -> None:
    """Elsewhere a TypeError became a connection error, and was retried."""
    calls = Counter[str]()

    async def buggy(request: tp.Request, handler: Handler) -> tp.Response:
        calls[request.method] += 1
        return await handler(None)  # type: ignore[arg-type]

    async with opened(middleware=[buggy]) as (institute, client):
        with pytest.raises(AttributeError):
            await client.attempts.list()
        assert (calls["GET"], institute.requests) == (1, 0)


@pytest.mark.parametrize("size", [200_000, 3_000_000])
async def test_a_pool_of_two_survives_large_503s(size: int) -> None:
    """Elsewhere retries kept the connections of unread 503 bodies: a pool of two locked up for good."""
    fault, quick = (
        http(b"x" * size, status="503 Busy"),
        tp.RetryPolicy(max_tries=50, first_s=0.001, max_s=0.002),
    )
    async with (
        RawServer(*[fault] * 24, OK, keep=True) as server,
        tp.Client(server.origin, token="t", max_connections=2, retry=quick) as client,
    ):
        assert await asyncio.gather(*(client.attempts.list().count() for _ in range(6))) == [1] * 6
        assert await client.users.list().count() == 1


async def test_one_deadline_covers_all_tries() -> None:
    """Elsewhere 30 s became 91 s: every try had all of it again, or the last one did."""
    clock = AutoClock()
    async with (
        RawServer(http(b"", status="503 No"), keep=True) as server,
        tp.Client(
            server.origin,
            token="t",
            clock=clock,
            timeouts=tp.Timeouts(total_s=30),
            retry=tp.RetryPolicy(max_tries=1_000),
        ) as client,
    ):
        began_s = clock.now_s()
        with pytest.raises(tp.ServerFault):
            await client.attempts.list()
        assert clock.now_s() - began_s <= 30


async def test_a_deadline_ends_a_try_in_the_middle() -> None:
    """Elsewhere the time left was not the last try's limit."""
    async with RawServer([OK[:60], HOLD]) as server, tp.Client(server.origin, token="t") as client:
        with pytest.raises(tp.TimedOut) as caught:
            await client.with_options(timeout_s=0.05).attempts.list()
    assert caught.value.limit == "total_s"


@pytest.mark.parametrize("wait", ["retry", "gate"])
async def test_cancelling_a_wait_cancels_it_and_leaves_nothing(wait: str) -> None:
    """Elsewhere "retry on anything but" swallowed a cancellation and ran to the end."""
    clock = ManualClock()
    answer = http(b"", status="503 No" if wait == "retry" else "429 No", headers={"Retry-After": "9"})
    async with (
        RawServer(answer, OK, keep=True) as server,
        tp.Client(server.origin, token="t", clock=clock) as client,
    ):
        call = asyncio.create_task(client.attempts.list().count())
        await until(lambda: clock.sleepers == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await settle()
        assert clock.sleepers == 0
        await clock.advance(60)
        assert len(server.heads) == 1
        assert await client.attempts.list().count() == 1


# --- pacing ----------------------------------------------------------------------------------------------


async def test_waiters_are_let_go_one_by_one() -> None:
    """Elsewhere all twenty tasks that waited for the limit were released in the same instant."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=10, clock=clock) as institute,
        tp.Client(
            institute.url, token=institute.token(), rate=tp.RatePolicy(requests=1, per_s=1), clock=clock
        ) as client,
    ):
        calls = [asyncio.create_task(client.attempts.list().count()) for _ in range(20)]
        while not all(call.done() for call in calls):
            await until(lambda: institute.in_flight == 0 and client._session.gate.in_flight == 0)
            await clock.advance(0.25)
        times_s = [seen.at_s for seen in institute.log]
    assert len(times_s) == 20
    assert all(later_s - earlier_s >= 1 for earlier_s, later_s in itertools.pairwise(times_s))


async def test_a_limit_on_connections_is_the_clients_not_the_iterations() -> None:
    """Elsewhere every iteration had four requests of its own in flight."""
    async with opened(max_connections=3) as (institute, client):
        answer = asyncio.Event()
        institute.script(Fault(path=ATTEMPTS, hold=answer, times=None))
        reads = [asyncio.create_task(client.attempts.list().collect(window=8)) for _ in range(5)]
        await until(lambda: institute.in_flight == 3)
        await settle(200)
        answer.set()
        assert [len(found) for found in await asyncio.gather(*reads)] == [200] * 5
        assert institute.most_in_flight == 3


# --- tokens ----------------------------------------------------------------------------------------------


async def test_twenty_expired_calls_are_one_login() -> None:
    """Elsewhere twenty calls were twenty logins, and a late 401 threw the fresh token away."""
    async with Sandbox(attempts=5) as institute:
        async with tp.Client(
            institute.url, username=institute.username, password=institute.password, max_connections=20
        ) as client:
            await client.attempts.list()
            institute.revoke_tokens()
            assert await asyncio.gather(*(client.attempts.list().count() for _ in range(20))) == [5] * 20
        assert Counter(seen.method for seen in institute.log)["POST"] == 2


@pytest.mark.parametrize("link", ["https://evil.example/?page=2", "//evil.example/?page=2", "{}/x?page=2"])
async def test_a_next_link_elsewhere_gets_no_token(link: str) -> None:
    """Elsewhere the token went to whatever host `next` or `Link` named."""
    async with RawServer(OK) as foreign:
        first = page([1], next_url=link.format(foreign.origin))
        scripts = [http(first, headers={"Link": f'<{foreign.origin}/?page=2>; rel="next"'}), http(page([2]))]
        async with RawServer(*scripts, keep=True) as server:
            async with tp.Client(server.origin, token=SECRET) as client:
                assert [attempt.id async for attempt in client.attempts.list()] == [1, 2]
            assert server.targets == [ATTEMPTS, f"{ATTEMPTS}?page=2"]
        assert foreign.connections == 0


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Same", "308 Same"])
@pytest.mark.parametrize("signed", [True, False])
async def test_a_redirect_elsewhere_gets_neither_token_nor_password(status: str, signed: bool) -> None:
    """Elsewhere a middleware put the token back on every hop, and 307 sent the login's body along."""
    async with RawServer(OK) as foreign:
        hop = http(b"", status=status, headers={"Location": f"{foreign.origin}/api/"})
        async with RawServer(hop) as server:
            login = {"token": SECRET} if signed else {"username": "admin", "password": SECRET}
            async with tp.Client(server.origin, **login) as client:
                with pytest.raises(tp.ForeignOrigin) as caught:
                    await client.attempts.list()
        assert foreign.connections == 0
        assert SECRET not in f"{caught.value!r}"


# --- sessions --------------------------------------------------------------------------------------------


async def test_ten_calls_from_ten_tasks_are_one_connection() -> None:
    """Elsewhere each call made a session of its own, or each task that had not entered the client."""
    async with RawServer(OK, keep=True) as server, tp.Client(server.origin, token="t") as client:
        for number in range(10):
            each = client if number % 2 else client.with_options(timeout_s=9)
            assert await asyncio.create_task(each.attempts.list().count()) == 1
        assert (server.connections, len(server.heads)) == (1, 10)


async def test_a_borrowed_session_stays_open() -> None:
    """Elsewhere a client closed the session it had been lent."""
    async with RawServer(OK, keep=True) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with tp.Client(server.origin, token="t", session=session) as client:
                assert await client.attempts.list().count() == 1
        assert not session.closed


async def test_cancelled_calls_give_their_connections_back() -> None:
    """Elsewhere cancelled tasks ate the pool."""
    async with opened(max_connections=2) as (institute, client):
        institute.script(Fault(path=ATTEMPTS, hold=asyncio.Event(), times=30))
        for _ in range(15):
            calls = [asyncio.create_task(client.attempts.list().count()) for _ in range(2)]
            await until(lambda: institute.in_flight == 2)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: institute.in_flight == 0)
        assert await client.attempts.list().count() == 200


async def test_filters_belong_to_one_call() -> None:
    """Elsewhere pages fetched at once shared one dictionary of parameters, and lost or doubled rows."""
    pages = book(*([number] for number in range(1, 7)), count=6, per_page=1)
    async with RawServer(*answers(*pages.values()), keep=False) as server:
        async with tp.Client(server.origin, token="t", max_connections=1) as client:
            ids = [attempt.id async for attempt in client.attempts.list(exams=[5, 6]).prefetch(4)]
        assert ids == [1, 2, 3, 4, 5, 6]
        first, *rest = server.targets
        assert rest == [f"{first}&page={number}" for number in range(2, 7)]
