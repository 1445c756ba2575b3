"""Readers that are slow, leave or fail; loops, threads and processes that are not the client's; hooks."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

import testpress_async as tp
from testpress_async.http.events import Event, PageRead, RequestFinished, RequestStarted, TryFailed, guarded
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import settle
from tests.support.exporting import served, until
from tests.support.pages import NO_RETRIES, other_tasks, page
from tests.support.raw_server import HOLD, RawServer, http

ATTEMPTS = "/api/v2.5/admin/attempts/"
ANSWERS = "/api/v3/admin/attempts/{}/user_answers/"
ANSWER = http(page([1]))


class Boom(Exception):
    """What a consumer raises."""


# --- 93 to 95: readers that are slow, leave or fail ---------------------------------------------------

Reading = Callable[[tp.Client], AsyncIterator[Any]]
READINGS: dict[str, Reading] = {
    "records": lambda client: aiter(client.attempts.list()),
    "prefetch": lambda client: client.attempts.list().prefetch(3),
    "pages": lambda client: client.attempts.list().pages(window=3),
    "raw pages": lambda client: client.attempts.list().raw_pages(window=3),
}
every_reading = pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
both_orders = pytest.mark.parametrize("ordered", [False, True], ids=["as completed", "in order"])


@pytest.mark.row(93)
@pytest.mark.parametrize("window", [1, 2, 5])
async def test_a_reader_that_stands_still_is_waited_for(
    institute: Sandbox, client: tp.Client, window: int
) -> None:
    """Pages asked for and not yet taken never exceed the window, however slow the reader is."""
    taken = 0
    async with aclosing(client.attempts.list().pages(window)) as pages:
        async for _ in pages:
            taken += 1
            ahead = min(11 - taken, window if window > 1 else 0)
            await until(lambda: gets(institute) >= taken + ahead)  # noqa: B023
            await settle(50)
            assert gets(institute) == taken + ahead
    assert taken == 11


def gets(institute: Sandbox) -> int:
    """Pages the institute was asked for."""
    return institute.requests - 1  # the login


@pytest.mark.row(93)
@both_orders
async def test_a_fan_out_nobody_reads_stands_still(
    institute: Sandbox, client: tp.Client, ordered: bool
) -> None:
    """At most `concurrency` pages are read ahead of a reader that has taken one record."""
    parents = institute.truth.ids("attempts")[:20]
    call = client.attempts.user_answers
    async with client.fan_out(parents, call, concurrency=4, ordered=ordered) as results:
        await anext(aiter(results))
        await until(lambda: institute.in_flight == 0 and gets(institute) >= 4)
        await settle(200)
        assert institute.in_flight == 0
        assert gets(institute) <= 1 + 4


@pytest.mark.row(94)
@every_reading
async def test_break_hangs_up(institute: Sandbox, client: tp.Client, reading: Reading) -> None:
    """After `break` what was on the way is cancelled, at the institute too, and the client goes on."""
    hold_later_pages(institute)
    async for _ in reading(client):
        break
    await settle(5)
    assert other_client_tasks() == set()
    await until(lambda: institute.in_flight == 0)
    assert await client.courses.list().count() == 3


@pytest.mark.row(95)
@every_reading
async def test_an_error_of_the_consumer_comes_out_as_it_is(
    institute: Sandbox, client: tp.Client, reading: Reading
) -> None:
    """The very object, with nothing put around or before it; the traffic ends."""
    hold_later_pages(institute)
    boom = Boom()

    async def consume() -> None:
        async for _ in reading(client):
            raise boom

    with pytest.raises(Boom) as caught:
        await consume()
    assert caught.value is boom
    assert boom.__context__ is boom.__cause__ is None
    await until(lambda: institute.in_flight == 0)
    assert await client.courses.list().count() == 3


@pytest.mark.row(94, 95)
@both_orders
@pytest.mark.parametrize("leave", ["break", "raise"])
async def test_leaving_a_fan_out_hangs_up(
    institute: Sandbox, client: tp.Client, ordered: bool, leave: str
) -> None:
    """However its block is left, no parent is read any further; an error goes through unchanged."""
    first, *rest = institute.truth.ids("attempts")[:6]
    institute.script(*[Fault(path=ANSWERS.format(parent), hold=asyncio.Event()) for parent in rest])
    boom, raised = Boom(), None
    try:
        async with client.fan_out(
            [first, *rest], client.attempts.user_answers, concurrency=4, ordered=ordered
        ) as results:
            async for _ in results:
                await until(lambda: institute.in_flight >= 3)
                if leave == "break":
                    break
                raise boom
    except Boom as error:
        raised = error
    assert raised is (boom if leave == "raise" else None)
    assert boom.__context__ is boom.__cause__ is None
    assert other_client_tasks() == set()
    await until(lambda: institute.in_flight == 0)
    assert await client.courses.list().count() == 3


def hold_later_pages(institute: Sandbox) -> None:
    institute.script(*[Fault(query=f"page={number}", hold=asyncio.Event()) for number in (2, 3, 4)])


def other_client_tasks() -> set[asyncio.Task[object]]:
    """Tasks besides the caller's and those of the institute, which lives in the same loop."""
    serving = ("RequestHandler.", "BaseSelectorEventLoop._accept_connection2")
    return {task for task in other_tasks() if not task.get_coro().__qualname__.startswith(serving)}


# --- 96: several fail at once -------------------------------------------------------------------------


@pytest.mark.row(96)
@both_orders
async def test_siblings_that_fail_together_raise_one_error(
    institute: Sandbox, client: tp.Client, ordered: bool
) -> None:
    """The first failure comes out as itself, never in a group; none of the others is left behind."""
    parents = institute.truth.ids("attempts")[:6]
    for parent in parents:
        institute.script(Fault(path=ANSWERS.format(parent), status=404, body=b'{"detail": "gone"}'))

    async def consume() -> None:
        call = client.attempts.user_answers
        async with client.fan_out(parents, call, concurrency=6, ordered=ordered) as results:
            async for _ in results:
                raise AssertionError("every parent fails")

    with pytest.raises(tp.NotFound) as caught:
        await consume()
    assert any(f"/{parent}/" in caught.value.url for parent in parents)
    assert other_client_tasks() == set()


@pytest.mark.row(96)
@both_orders
async def test_collect_loses_no_sibling(institute: Sandbox, client: tp.Client, ordered: bool) -> None:
    """Each failed parent is in `errors` with its own error; all records of the others come."""
    parents = institute.truth.ids("attempts")[:6]
    failing = {parents[0]: 404, parents[2]: 403, parents[5]: 400}
    for parent, status in failing.items():
        institute.script(Fault(path=ANSWERS.format(parent), status=status, body=b'{"detail": "no"}'))
    async with client.fan_out(
        parents, client.attempts.user_answers, concurrency=6, on_error="collect", ordered=ordered
    ) as results:
        found = sorted([(parent, answer.id) async for parent, answer in results])
    told = {parent: error.status for parent, error in results.errors if isinstance(error, tp.StatusError)}
    assert told == failing
    assert found == sorted(
        (parent, answer)
        for parent in parents
        if parent not in failing
        for answer in institute.truth.ids("user_answers", parent=parent)
    )


@pytest.mark.row(96)
@both_orders
async def test_an_error_of_the_body_wins_over_those_of_parents(
    institute: Sandbox, client: tp.Client, ordered: bool
) -> None:
    """Parents that fail while the body's own error is on its way do not turn it into a group."""
    first, *rest = institute.truth.ids("attempts")[:4]
    for parent in rest:
        institute.script(Fault(path=ANSWERS.format(parent), status=404, times=1))

    async def consume() -> None:
        call = client.attempts.user_answers
        async with client.fan_out([first, *rest], call, concurrency=4, ordered=ordered) as results:
            async for _ in results:
                await until(lambda: gets(institute) >= 4 and institute.in_flight == 0)
                raise Boom

    with pytest.raises(Boom):
        await consume()


# --- 97: closed loops, closed clients -----------------------------------------------------------------


@pytest.mark.row(97)
def test_a_loop_that_ends_before_the_client_is_named() -> None:
    """Nothing hangs: use and close from a later loop say what happened; what was forgotten is warned of."""
    with served(attempts=20) as institute:
        client = tp.Client(institute.url, token=institute.token())

        asyncio.run(opened_only(client))
        asked = institute.requests
        for use in (ask, tp.Client.aclose, read_ahead):
            with pytest.raises(tp.ConfigError, match="event loop that has ended; make one client per loop"):
                asyncio.run(use(client))
        assert institute.requests == asked
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client
            gc.collect()
    assert any("Unclosed" in str(warning.message) for warning in caught)


async def read_ahead(client: tp.Client) -> object:
    return await anext(client.attempts.list().pages(4))


async def opened_only(client: tp.Client) -> None:
    await client.__aenter__()
    await ask(client)


async def ask(client: tp.Client) -> object:
    return await client.courses.list().count()


@pytest.mark.row(97)
async def test_a_closed_client_sends_nothing(institute: Sandbox, client: tp.Client) -> None:
    """Closing twice is closing once; then every use, a clone's too, names the remedy before any I/O."""
    clone, listing = client.with_options(timeout_s=5), client.attempts.list()
    await ask(client)
    await client.aclose()
    await client.aclose()
    asked = institute.requests
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: ask(client),
        lambda: ask(clone),
        lambda: client.attempts.get(1),
        lambda: listing.collect(),
        lambda: anext(aiter(listing)),
        lambda: listing.prefetch(4).__anext__(),
        lambda: listing.pages(4).__anext__(),
        lambda: tp.plan(client, ["attempts"]),
        client.__aenter__,
    ]
    for use in uses:
        with pytest.raises(tp.ConfigError, match="is closed"):
            await use()
    assert institute.requests == asked


@pytest.mark.row(97)
async def test_closing_while_closing_and_while_a_request_runs() -> None:
    """A request that is on the way ends with an error that names the closing, whoever waits for it."""
    async with RawServer([HOLD]) as server:
        client = tp.Client(server.origin, token="t")
        async with client:
            running = asyncio.create_task(client.attempts.get(1))
            await server.arrival()
            await asyncio.gather(client.aclose(), client.aclose())
            with pytest.raises(tp.ConfigError, match=r"client: was closed while a request was on its way"):
                await running


@pytest.mark.row(97)
async def test_an_answer_that_came_before_the_closing_is_kept(institute: Sandbox) -> None:
    """What the institute said is not replaced by the closing of the client."""
    closing: list[asyncio.Task[None]] = []

    async def close_late(request: tp.Request, handler: tp.Handler) -> tp.Response:
        response = await handler(request)
        closing.append(asyncio.create_task(client.aclose()))
        await asyncio.sleep(0)
        return response

    client = tp.Client(institute.url, token=institute.token(), middleware=[close_late])
    async with client:
        with pytest.raises(tp.NotFound):
            await client.attempts.get(999_999_999)
        await closing[0]


# --- 98: other loops and threads ----------------------------------------------------------------------


@pytest.mark.row(98)
async def test_a_second_loop_or_thread_is_refused_before_any_byte() -> None:
    """Each use from a thread with a loop of its own fails at once; the owner is not disturbed."""
    async with (
        RawServer(ANSWER, keep=True) as server,
        tp.Client(server.origin, token="t") as client,
    ):
        await ask_one(client)
        problems: list[str] = []
        uses: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: ask_one(client),
            lambda: client.attempts.list().prefetch(3).__anext__(),
            lambda: client.with_options(timeout_s=1).attempts.get(1),
            client.aclose,
        ]

        def elsewhere() -> None:
            for use in uses:
                try:
                    asyncio.run(use())
                except tp.ConfigError as error:
                    problems.append(str(error))

        await asyncio.to_thread(elsewhere)
        assert problems == ["client: belongs to another event loop; make one client per loop"] * len(uses)
        assert len(server.heads) == 1
        assert await ask_one(client) == [1]
        assert server.connections == 1


async def ask_one(client: tp.Client) -> list[int]:
    return [record.id for record in await client.attempts.list()]


@pytest.mark.row(98)
async def test_calls_from_threads_can_be_handed_to_the_clients_loop(
    institute: Sandbox, client: tp.Client
) -> None:
    """`asyncio.run_coroutine_threadsafe` is the way to one client from many threads."""
    loop = asyncio.get_running_loop()
    found: list[object] = []

    def elsewhere() -> None:
        found.append(asyncio.run_coroutine_threadsafe(ask(client), loop).result(20))

    threads = [threading.Thread(target=elsewhere) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert found == [3, 3, 3, 3]


@pytest.mark.row(98)
def test_no_loop_at_all_is_named() -> None:
    """A coroutine driven by something else than asyncio is refused with the remedy."""
    opening = tp.Client("https://institute.test", token="t").__aenter__()
    with pytest.raises(tp.ConfigError, match="needs a running asyncio event loop"):
        opening.send(None)


# --- 99: fork ------------------------------------------------------------------------------------------

FORKING = """
    import asyncio, os, sys
    import testpress_async as tp

    async def ask(client):
        return [record.id for record in await client.attempts.list()]

    def child(client):
        for use in (lambda: ask(client), client.aclose, lambda: anext(client.attempts.list().prefetch(3))):
            try:
                asyncio.run(as_coroutine(use))
            except tp.ConfigError as error:
                print("child:", error, flush=True)

    async def as_coroutine(use):
        return await use()

    async def main(origin):
        async with tp.Client(origin, token="t") as client:
            print("parent:", await ask(client), flush=True)
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)  # as a forked worker that starts its own loop
                child(client)
                os._exit(0)
            os.waitpid(pid, 0)
            print("parent:", await ask(client), flush=True)

    asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.row(99)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
async def test_a_forked_child_sends_no_byte() -> None:
    """The child of a client that holds a live connection is refused; the parent's answers stay its own."""
    async with RawServer(ANSWER, keep=True) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(FORKING), server.origin),
            stdout=subprocess.PIPE,
        )
        said = (await process.communicate())[0].decode().splitlines()
    refusal = "child: client: belongs to the parent process; make a new one after a fork"
    assert said == ["parent: [1]", refusal, refusal, refusal, "parent: [1]"]
    assert len(server.heads) == 2
    assert server.connections == 1


# --- 101: hooks ----------------------------------------------------------------------------------------


@pytest.mark.row(101)
@pytest.mark.parametrize("kind", [ValueError, tp.NotFound, StopIteration, StopAsyncIteration, RecursionError])
async def test_a_hook_that_raises_changes_nothing(
    institute: Sandbox, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    """Whatever it raises, at whatever event: all records come, each failure of the hook is logged."""
    seen: list[str] = []

    def broken(event: Event) -> None:
        seen.append(type(event).__name__)
        raise kind("GET", "/", 404) if issubclass(kind, tp.NotFound) else kind("hook")

    institute.script(Fault(path=ATTEMPTS, status=503, headers={"Retry-After": "0"}))
    async with tp.Client(
        institute.url,
        username=institute.username,
        password=institute.password,
        on_event=broken,
        retry=tp.RetryPolicy(first_s=0.001),
    ) as client:
        found = [record.id async for record in client.attempts.list().prefetch(4)]
        with pytest.raises(tp.NotFound):
            await client.attempts.get(999_999_999)
    assert found == institute.truth.ids("attempts")
    assert {"RequestStarted", "TryFailed", "LoggedIn", "PageRead", "RequestFinished"} <= set(seen)
    assert sum(record.name == "testpress_async.events" for record in caplog.records) == len(seen)
    assert "the request goes on" in caplog.text


@pytest.mark.row(101)
def test_a_hook_that_blocks_loses_no_answer() -> None:
    """Answers that come while a hook stands in the way are read after it, also beyond the idle limit."""
    events: list[Event] = []
    with served(attempts=120, per_page=20) as institute:

        def slow(event: Event) -> None:
            events.append(event)
            if isinstance(event, PageRead) and event.page == 2 and events.count(event) == 2:
                wait_for(lambda: len(institute.log) == 6 + 4)  # 3 and 4 are answered by the other thread
                time.sleep(0.25)  # longer than read_idle_s

        async def main() -> list[int]:
            async with tp.Client(
                institute.url,
                token=institute.token(),
                on_event=slow,
                timeouts=tp.Timeouts(read_idle_s=0.1),
                retry=NO_RETRIES,
            ) as client:
                await client.attempts.list().collect(window=3)  # opens the connections
                return [record.id async for record in client.attempts.list().prefetch(3)]

        assert asyncio.run(main()) == institute.truth.ids("attempts")
    kinds = [type(event) for event in events]
    assert kinds.count(RequestStarted) == kinds.count(RequestFinished) == 12
    assert TryFailed not in kinds


def wait_for(holds: Callable[[], bool]) -> None:
    """Block this thread until another one has made *holds* true."""
    for _ in range(10_000):
        if holds():
            return
        time.sleep(0.001)
    raise AssertionError("never happened")


@pytest.mark.row(101)
async def test_a_coroutine_function_is_no_hook() -> None:
    """Nobody would await it, so it is refused when the client is made."""

    async def hook(event: Event) -> None:
        """Never called."""

    with pytest.raises(tp.ConfigError, match="expected a plain function"):
        tp.Client("https://institute.test", token="t", on_event=hook)
    with pytest.raises(tp.ConfigError, match="expected a plain function"):
        guarded(hook)


@pytest.mark.row(101)
async def test_a_log_handler_that_raises_changes_nothing(institute: Sandbox) -> None:
    """Not even when what it is to log is a hook that raises."""
    asked: list[str] = []

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            asked.append(record.getMessage())
            raise ZeroDivisionError

    def hook(event: Event) -> None:
        raise Boom

    handler, log = Broken(), logging.getLogger("testpress_async.events")
    log.addHandler(handler)
    try:
        async with tp.Client(institute.url, token=institute.token(), on_event=hook) as client:
            assert await ask(client) == 3
    finally:
        log.removeHandler(handler)
    assert len(asked) >= 2


# --- a borrowed session --------------------------------------------------------------------------------


def fields(head: bytes) -> CIMultiDict[str]:
    """Header fields of a request."""
    lines = head.decode().split("\r\n")[1:-2]
    return CIMultiDict([(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])


async def test_a_lent_session_brings_its_cookies_and_headers() -> None:
    """As documented: what its jar and its defaults hold is sent, the token is the client's own."""
    with_cookie = http(page([1]), headers={"Set-Cookie": "kept=1"})
    jar = aiohttp.CookieJar(unsafe=True)
    defaults = {"X-Tenant": "7", "Authorization": "Basic theirs"}
    async with RawServer(with_cookie, keep=True) as server:
        async with aiohttp.ClientSession(cookie_jar=jar, headers=defaults) as session:
            session.cookie_jar.update_cookies({"mine": "2"})
            async with tp.Client(server.origin, token="t", session=session) as client:
                await ask_one(client)
                await ask_one(client)
        first, second = (fields(head) for head in server.heads)
    assert first["Cookie"] == "mine=2"
    assert set(second["Cookie"].split("; ")) == {"mine=2", "kept=1"}
    assert first["X-Tenant"] == "7"
    assert first.getall("Authorization") == ["JWT t"]


async def test_a_session_of_ones_own_keeps_no_cookies() -> None:
    """Neither does a lent one with a jar that keeps none."""
    with_cookie = http(page([1]), headers={"Set-Cookie": "kept=1"})
    async with (
        RawServer(with_cookie, keep=True) as server,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        tp.Client(server.origin, token="t", session=session) as lent,
        tp.Client(server.origin, token="t") as own,
    ):
        for client in (own, own, lent, lent):
            await ask_one(client)
        assert len(server.heads) == 4
        assert not any("Cookie" in fields(head) for head in server.heads)


async def test_a_lent_session_brings_its_proxy() -> None:
    """As documented: requests go to the proxy the session was made with."""
    async with (
        RawServer(ANSWER, keep=True) as proxy,
        aiohttp.ClientSession(proxy=proxy.origin) as session,
        tp.Client("http://institute.test", token="t", session=session, allow_http=True) as client,
    ):
        assert await ask_one(client) == [1]
        assert proxy.targets == [f"http://institute.test{ATTEMPTS}"]


@pytest.mark.filterwarnings("ignore:.*(BasicAuth|'auth' parameter) is deprecated:DeprecationWarning")
@pytest.mark.parametrize("setting", ["auth", "raise_for_status"])
async def test_a_session_that_cannot_be_lent_is_refused(setting: str) -> None:
    """Settings that would break every request are named when the client is made."""
    settings: dict[str, Any] = {"auth": aiohttp.BasicAuth("u", "p")} if setting == "auth" else {setting: True}
    async with aiohttp.ClientSession(**settings) as session:
        with pytest.raises(tp.ConfigError, match=f"`{setting}`.*lend one without") as caught:
            tp.Client("https://institute.test", token="t", session=session)
    assert caught.value.parameter == "session"
