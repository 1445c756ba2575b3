"""Identical requests that run at the same time share one call; each caller stays its own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import testpress_async as tp
from testpress_async.http.coalesce import Coalesce
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.sandbox import Fault, Sandbox
from tests.faults.test_cancellation import (
    LOGIN,
    MOMENTS,
    MOST_AWAITS,
    Cut,
    Moment,
    connect,
    every_task_watched,
    run_cut,
    sockets_to,
)
from tests.support.clock import settle
from tests.support.exporting import ATTEMPTS, served, until
from tests.support.handlers import reply
from tests.support.pages import NO_RETRIES, ORIGIN, Pages, book, other_tasks
from tests.support.virtual_time import run

ATTEMPT = reply(body=b'{"id": 7}')


class Upstream:
    """Middleware that answers every GET when told to, and counts what is asked and what is running."""

    def __init__(self, answer: Response | BaseException = ATTEMPT) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.go = asyncio.Event()

    async def __call__(self, request: Request, handler: Handler) -> Response:
        self.asked[request.target] += 1
        self.running[request.target] += 1
        try:
            await self.go.wait()
        finally:
            self.running[request.target] -= 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def client(self, **options: Any) -> tp.Client:
        given: dict[str, Any] = {"token": "t", "retry": NO_RETRIES, "coalesce": True, **options}
        return tp.Client(ORIGIN, middleware=[self], **given)


def several(client: tp.Client, number: int = 3) -> list[asyncio.Task[tp.AttemptDetail]]:
    """So many tasks that ask for the same attempt."""
    return [asyncio.create_task(client.attempts.get(7)) for _ in range(number)]


async def ended(tasks: list[asyncio.Task[tp.AttemptDetail]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


# --- sharing -----------------------------------------------------------------------------------------


async def test_a_hundred_tasks_make_one_call(institute: Sandbox) -> None:
    """All get the attempt, over real sockets; the institute saw one login and one request."""
    wanted = institute.truth.ids("attempts")[0]
    login = {"username": institute.username, "password": institute.password}
    async with tp.Client(institute.url, **login, coalesce=True) as client:
        found = await asyncio.gather(*(client.attempts.get(wanted) for _ in range(100)))
        assert client.requests_sent == 2
    assert {detail.id for detail in found} == {wanted}
    assert Counter(seen.method for seen in institute.log) == {"POST": 1, "GET": 1}


async def test_without_it_each_call_is_its_own(institute: Sandbox) -> None:
    """The default, and what a clone can go back to."""
    wanted = institute.truth.ids("attempts")[0]
    async with tp.Client(institute.url, token=institute.token()) as client:
        await asyncio.gather(*(client.attempts.get(wanted) for _ in range(5)))
        assert client.requests_sent == 5
    async with tp.Client(institute.url, token=institute.token(), coalesce=True) as client:
        alone = client.with_options(coalesce=False)
        await asyncio.gather(*(alone.attempts.get(wanted) for _ in range(5)))
        assert client.requests_sent == 5


async def test_a_clone_can_share_by_itself() -> None:
    """`with_options(coalesce=True)` is enough, and its clones inherit it."""
    upstream = Upstream()
    async with upstream.client(coalesce=False) as client:
        sharing = client.with_options(coalesce=True).with_options(timeout_s=9)
        tasks = several(sharing)
        await settle()
        upstream.go.set()
        await ended(tasks)
    assert upstream.asked.total() == 1


async def test_nothing_is_kept() -> None:
    """Who asks after the answer asks anew, and no answer is held."""
    upstream = Upstream()
    upstream.go.set()
    async with upstream.client() as client:
        body = bytearray(b'{"id": 7}')
        answer = upstream.answer = Answer(status=200, headers={}, body=bytes(body))
        gone = weakref.ref(answer)
        await client.attempts.get(7)
        del answer
        upstream.answer = ATTEMPT
        gc.collect()
        assert gone() is None
        await client.attempts.get(7)
    assert upstream.asked.total() == 2


class Answer(Response, frozen=True, kw_only=True, weakref=True):
    """A response whose end can be seen."""


async def test_pages_are_shared_too() -> None:
    """Listings read the same pages once while they go side by side, and give the same records."""
    pages = Pages(book([1, 2], [3, 4], [5]))
    async with pages.client(coalesce=True) as client:
        listing = client.attempts.list()
        found = await asyncio.gather(*(listing.collect() for _ in range(10)))
    assert [[record.id for record in records] for records in found] == [[1, 2, 3, 4, 5]] * 10
    assert pages.asked == [1, 2, 3]


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": 5}, {"priority": "interactive"}, {"max_wait_s": 5}],
    ids=lambda options: str(*options),
)
async def test_only_calls_with_the_same_options_share(options: dict[str, Any]) -> None:
    """Another deadline, lane or patience is another call: nobody gets less than was asked for."""
    upstream = Upstream()
    async with upstream.client() as client:
        tasks = [*several(client), *several(client.with_options(**options))]
        await settle()
        upstream.go.set()
        await ended(tasks)
    assert upstream.asked.total() == 2


async def test_another_target_is_another_call() -> None:
    """Filters count."""
    upstream = Upstream(reply(body=b'{"count": 0, "next": null, "results": []}'))
    upstream.go.set()
    async with upstream.client() as client:
        await asyncio.gather(*(client.attempts.list(exams=exam).collect() for exam in (1, 2, 1, 2)))
    assert sorted(upstream.asked.values()) == [1, 1]


async def test_clients_never_share() -> None:
    """Another client may be another account."""
    upstream = Upstream()
    async with upstream.client() as client, upstream.client(token="other") as other:
        tasks = [*several(client), *several(other)]
        await settle()
        upstream.go.set()
        await ended(tasks)
    assert upstream.asked.total() == 2


async def test_events_tell_of_each_call() -> None:
    """Every caller's call begins and ends; `requests_sent` counts what went upstream."""
    upstream, events = Upstream(), list[tp.Event]()
    async with upstream.client(on_event=events.append) as client:
        tasks = several(client)
        await settle()
        upstream.go.set()
        await ended(tasks)
        assert client.requests_sent == 1
    assert Counter(type(event).__name__ for event in events) == {"RequestStarted": 3, "RequestFinished": 3}


async def test_an_export_never_shares(institute: Sandbox) -> None:
    """Two plans side by side ask twice: a proof rests on answers to its own questions."""
    async with tp.Client(institute.url, token=institute.token(), coalesce=True) as client:
        await tp.plan(client)
        alone = client.requests_sent
        await asyncio.gather(tp.plan(client), tp.plan(client))
        assert client.requests_sent == 3 * alone


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_harvest_never_shares(institute: Sandbox, tmp_path: Any, streamed: bool) -> None:
    """The same for both ways to harvest."""

    async def one(name: int) -> None:
        if streamed:
            async with tp.harvest_stream(client, plan) as shards:
                assert [shard async for shard in shards]
        else:
            await tp.harvest(client, plan, into=tp.Dataset(tmp_path / str(name)), formats="none")

    async with tp.Client(institute.url, token=institute.token(), coalesce=True) as client:
        plan = await tp.plan(client, ["exams", "attempts"])
        before = client.requests_sent
        await one(0)
        alone = client.requests_sent - before
        await asyncio.gather(one(1), one(2))
        assert client.requests_sent - before == 3 * alone


# --- errors ------------------------------------------------------------------------------------------


async def test_each_caller_gets_a_copy_of_the_error() -> None:
    """What one writes into its error the others do not see; facts, cause and trace are there."""
    cause = ValueError("why")
    failure = tp.DecodeFailed("$.id", "expected a number", record_id=7, raw=b"raw")
    failure.__cause__ = cause
    upstream = Upstream(failure)
    upstream.go.set()
    async with upstream.client() as client:
        errors = await ended(several(client))
    assert len({id(error) for error in [*errors, failure]}) == 4
    errors[0].resume_token = "mine"
    assert errors[1].resume_token is errors[2].resume_token is None
    for error in errors:
        assert type(error) is tp.DecodeFailed
        assert (error.path, error.record_id, error.raw, error.tries) == ("$.id", 7, b"raw", 1)
        assert error.__cause__ is cause
        assert Upstream.__call__.__code__ in codes(error)
    assert upstream.asked.total() == 1


def codes(error: BaseException) -> Iterator[object]:
    """The functions in its trace."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code
        trace = trace.tb_next


async def test_an_error_that_cannot_be_copied_reaches_all() -> None:
    """It is a middleware's own, and better shared than lost."""

    class Odd(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one)

    upstream = Upstream(Odd("a", "b"))
    upstream.go.set()
    async with upstream.client() as client:
        errors = await ended(several(client))
    assert [type(error) for error in errors] == [Odd] * 3


async def test_after_an_error_the_next_call_is_a_new_one() -> None:
    """Failures are not kept."""
    upstream = Upstream(tp.NotFound("GET", "/", 404))
    upstream.go.set()
    async with upstream.client() as client:
        assert [type(error) for error in await ended(several(client))] == [tp.NotFound] * 3
        upstream.answer = ATTEMPT
        assert (await client.attempts.get(7)).id == 7
    assert upstream.asked.total() == 2


async def test_a_middleware_that_is_cancelled_by_somebody_else_is_seen() -> None:
    """As without sharing: its CancelledError comes out, and does not pass for a closed client."""
    upstream = Upstream(asyncio.CancelledError())
    upstream.go.set()
    async with upstream.client() as client:
        errors = await ended(several(client))
    assert [type(error) for error in errors] == [asyncio.CancelledError] * 3


# --- cancellation and closing ------------------------------------------------------------------------


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_cancelling_one_leaves_the_others(leaver: int) -> None:
    """Whoever leaves, the first too, the call goes on for the rest."""
    upstream = Upstream()
    async with upstream.client() as client:
        tasks = several(client)
        await settle()
        tasks.pop(leaver).cancel()
        await settle()
        assert upstream.running.total() == 1
        upstream.go.set()
        assert [detail.id for detail in await ended(tasks)] == [7, 7]
    assert upstream.asked.total() == 1


async def test_cancelling_all_cancels_the_call(institute: Sandbox) -> None:
    """When the last has left, the institute sees the request end, and the connection serves another."""
    wanted = institute.truth.ids("attempts")[0]
    held = institute.script(Fault(path=ATTEMPTS, hold=asyncio.Event()))[0]
    async with tp.Client(institute.url, token=institute.token(), coalesce=True, max_connections=1) as client:
        tasks = [asyncio.create_task(client.attempts.get(wanted)) for _ in range(100)]
        await until(lambda: held.hits == 1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert client._session.gate.in_flight == 0
        await until(lambda: not institute.in_flight)
        assert (await client.attempts.get(wanted)).id == wanted
    assert (institute.requests, institute.log[0].status) == (2, 0)


async def test_when_a_cancelled_call_ends_nothing_is_left_of_it() -> None:
    """The cancellation comes out after the call upstream has cleaned up."""
    cleaned: list[str] = []

    async def slow_to_end(request: Request, handler: Handler) -> Response:
        try:
            return await asyncio.Event().wait() and ATTEMPT
        finally:
            await settle()
            cleaned.append(request.target)

    async with tp.Client(ORIGIN, token="t", middleware=[slow_to_end], coalesce=True) as client:
        task = asyncio.create_task(client.attempts.get(7))
        await settle()
        task.cancel()
        await asyncio.wait([task])
        assert len(cleaned) == 1
        assert other_tasks() == set()


async def test_who_comes_while_an_abandoned_call_ends_starts_another() -> None:
    """A call that is being cancelled is nobody's."""
    cleaned = asyncio.Event()

    async def slow_to_end(request: Request, handler: Handler) -> Response:
        asked.append(request.target)
        try:
            await asyncio.Event().wait() if len(asked) == 1 else None
        finally:
            await cleaned.wait()
        return ATTEMPT

    asked: list[str] = []
    async with tp.Client(ORIGIN, token="t", middleware=[slow_to_end], coalesce=True) as client:
        first = asyncio.create_task(client.attempts.get(7))
        await settle()
        first.cancel()
        await settle()
        second = asyncio.create_task(client.attempts.get(7))
        await settle()
        assert len(asked) == 2
        cleaned.set()
        assert (await second).id == 7
        assert first.cancelled()


async def test_closing_the_client_tells_all() -> None:
    """They learn that the client was closed, as a call that is not shared does; nothing runs on."""
    upstream = Upstream()
    async with upstream.client() as client:
        tasks = several(client)
        await settle()
    errors = await ended(tasks)
    assert [type(error) for error in errors] == [tp.ConfigError] * 3
    assert "was closed while a request was on its way" in str(errors[0])
    assert upstream.running.total() == 0
    assert other_tasks() == set()


async def test_a_failure_that_nobody_waits_for_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """All leave in the moment in which the call fails."""

    async def fails(request: Request, handler: Handler) -> Response:
        await asyncio.sleep(0)
        tasks[0].cancel()
        raise tp.NotFound("GET", "/", 404)

    async with tp.Client(ORIGIN, token="t", middleware=[fails], coalesce=True) as client:
        tasks = several(client, 1)
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        tasks.clear()
        gc.collect()
    assert caplog.text == ""


# --- deadlines ---------------------------------------------------------------------------------------


def test_each_caller_keeps_its_own_deadline() -> None:
    """The first gives up at its deadline, the second gets the answer after that; one call upstream."""

    async def scenario() -> None:
        upstream, loop = Upstream(), asyncio.get_running_loop()
        async with upstream.client() as client:
            hasty = client.with_options(timeout_s=5)
            first = asyncio.create_task(hasty.attempts.get(7))
            await asyncio.sleep(4)
            second = asyncio.create_task(hasty.attempts.get(7))
            with pytest.raises(tp.TimedOut, match="total_s=5"):
                await first
            assert loop.time() == 5
            await asyncio.sleep(2)
            upstream.go.set()
            assert (await second).id == 7
        assert upstream.asked.total() == 1

    run(scenario())


def test_a_deadline_of_the_last_ends_the_call() -> None:
    """Then it is cancelled as by any other cancellation."""

    async def scenario() -> None:
        upstream = Upstream()
        async with upstream.client() as client:
            hasty = client.with_options(timeout_s=5)
            errors = await ended(several(hasty))
            assert [type(error) for error in errors] == [tp.TimedOut] * 3
            assert upstream.running.total() == 0

    run(scenario())


# --- at every await ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_institute() -> Iterator[Sandbox]:
    """An institute in a thread of its own, so that every task seen here is the client's."""
    with served(attempts=40, per_page=10) as opened:
        yield opened


async def asking(client: tp.Client, institute: Sandbox) -> int:
    return (await client.attempts.get(institute.truth.ids("attempts")[0])).id


SHARING = [{"coalesce": True}, {"coalesce": True, **LOGIN}]


@pytest.mark.parametrize("options", SHARING, ids=["token", "login"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_all_cancelled_at_every_await(
    small_institute: Sandbox, moment: Moment, options: dict[str, Any]
) -> None:
    """The cancellation comes out, no task, connection or slot stays, and the same call then works."""
    port = int(small_institute.url.rpartition(":")[2])

    async def work() -> list[int]:
        return await asyncio.gather(*(asking(client, small_institute) for _ in range(3)))

    was_cut, at = True, 0
    while was_cut:
        at += 1
        assert at < MOST_AWAITS
        async with connect(small_institute, options) as client:
            was_cut, found = await run_cut(work(), at, moment)
            await settle(2)
            assert other_tasks() == set(), at
            assert client._session.gate.in_flight == client._session.gate.waiting == 0, at
            assert len(set(await work() if was_cut else found)) == 1
        await settle(2)
        assert sockets_to(port) == 0, at
    assert at > 5, "the calls were never cut: the test does not watch them"


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_one_cancelled_at_every_await(small_institute: Sandbox, moment: Moment, victim: int) -> None:
    """The others get the attempt from one request, whoever is cut and when."""
    reached, at, fallen = True, 0, 0
    while reached:
        at += 1
        assert at < MOST_AWAITS
        async with connect(small_institute, {"coalesce": True}) as client:
            cut = Cut(at, moment)
            with every_task_watched(cut):
                tasks = [asyncio.create_task(asking(client, small_institute)) for _ in range(3)]
                cut.victim = tasks[victim]
                await asyncio.wait(tasks)
            reached = cut._awaits >= at
            fallen += cut.fell
            assert tasks[victim].cancelled() == cut.fell, at
            del tasks[victim]
            assert len({task.result() for task in tasks}) == 1, at
            assert client.requests_sent == 1, at
            await settle(2)
            assert other_tasks() == set(), at
    assert at > 5
    assert fallen > 0, "it was never cut"


# --- any story ---------------------------------------------------------------------------------------

KEYS = ("a", "b")
STEP = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(KEYS)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["answer", "fail"]), st.sampled_from(KEYS)),
)


@given(st.lists(st.tuples(STEP, st.integers(0, 2)), max_size=25))
def test_any_story(steps: list[tuple[tuple[str, Any], int]]) -> None:
    """Whatever happens in whatever turn of the loop: one call per key somebody waits for, and no other."""
    asyncio.run(told(steps))


async def told(steps: list[tuple[tuple[str, Any], int]]) -> None:
    calls: list[tuple[str, asyncio.Future[Response]]] = []

    async def upstream(request: Request) -> Response:
        call = (request.target, asyncio.get_running_loop().create_future())
        calls.append(call)
        return await call[1]

    def running(key: str) -> list[asyncio.Future[Response]]:
        return [future for target, future in calls if target == key and not future.done()]

    coalesce = Coalesce(asyncio.create_task, lambda: False)
    askers: list[tuple[str, asyncio.Task[Response]]] = []
    for (action, what), turns in steps:
        if action == "ask":
            askers.append((what, asyncio.create_task(coalesce(Request(target=what), upstream))))
        elif action == "cancel" and askers:
            askers[what % len(askers)][1].cancel()
        elif action == "answer":
            for future in running(what):
                future.set_result(reply(body=msgspec.json.encode(what)))
        elif action == "fail":
            for future in running(what):
                future.set_exception(ZeroDivisionError())
        await settle(turns)
    await settle()
    waiting = {key for key, asker in askers if not asker.done()}
    assert {key for key in KEYS if running(key)} == waiting
    assert all(len(running(key)) <= 1 for key in KEYS)
    assert len(coalesce._flights) == len(waiting)
    for key, asker in askers:
        if asker.done() and not asker.cancelled() and asker.exception() is None:
            assert msgspec.json.decode(asker.result().body) == key
        asker.cancel()
    await settle()
    assert other_tasks() == set()
    assert coalesce._flights == {}
