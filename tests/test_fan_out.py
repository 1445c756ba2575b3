"""Records of many parents, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import testpress_async as tp
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import settle
from tests.support.pages import NO_RETRIES, ORIGIN, other_tasks

every_order = pytest.mark.parametrize("ordered", [False, True])


def make_client() -> tp.Client:
    """A client whose listings are not used: the calls of these tests answer by themselves."""
    return tp.Client(ORIGIN, token="t")


async def three(parent: int) -> AsyncIterator[str]:
    """Three records of a parent; later parents are quicker."""
    for row in "abc":
        for _ in range(10 * max(1, 20 - parent)):
            await asyncio.sleep(0)
        yield row


class Counted:
    """A call that counts how many of it run; parent *bad* fails with *error* after its siblings began."""

    def __init__(self, bad: int | None = None, error: Exception | None = None) -> None:
        self.bad, self.error = bad, error
        self.running = self.most_running = 0
        self.started: list[int] = []
        self.cancelled: list[int] = []

    async def __call__(self, parent: int) -> int:
        self.started.append(parent)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await settle(60)
            if parent == self.bad and self.error is not None:
                raise self.error
            if self.bad is not None and parent > self.bad:
                await settle(400)
            return parent * 10
        except asyncio.CancelledError:
            self.cancelled.append(parent)
            raise
        finally:
            self.running -= 1


async def institute_is_idle(institute: Sandbox) -> None:
    while institute.in_flight:  # noqa: ASYNC110 - the institute has no event for it
        await asyncio.sleep(0.001)


async def drain(results: tp.FanOut[Any, Any], seen: list[Any]) -> None:
    async for pair in results:
        seen.append(pair)


# --- what comes ----------------------------------------------------------------------------------------


@every_order
async def test_every_answer_of_every_attempt_comes_once(
    institute: Sandbox, client: tp.Client, ordered: bool
) -> None:
    """Against the institute's own truth, several pages an attempt where it has them."""
    parents = institute.truth.ids("attempts")[:40]
    found: dict[int, list[int]] = {parent: [] for parent in parents}
    async with client.fan_out(
        parents, client.attempts.user_answers, concurrency=8, ordered=ordered
    ) as results:
        async for parent, answer in results:
            found[parent].append(answer.id)
    assert found == {parent: institute.truth.ids("user_answers", parent=parent) for parent in parents}
    assert any(found.values())
    assert institute.most_in_flight <= 8


async def test_ordered_keeps_the_parents_order() -> None:
    """Although later parents are quicker."""
    client = make_client()
    async with client.fan_out(range(20), three, concurrency=6, ordered=True) as results:
        assert [pair async for pair in results] == [(parent, row) for parent in range(20) for row in "abc"]


async def test_as_completed_lets_the_quick_pass() -> None:
    """Records of one parent still come in their own order."""
    async with make_client().fan_out(range(20), three, concurrency=20) as results:
        found = [pair async for pair in results]
    assert sorted(found) == [(parent, row) for parent in range(20) for row in "abc"]
    assert found[0][0] > 0
    assert all([row for each, row in found if each == parent] == list("abc") for parent in range(20))


@every_order
async def test_the_call_may_return_an_awaitable(institute: Sandbox, client: tp.Client, ordered: bool) -> None:
    """One record a parent, such as the single attempt."""
    parents = institute.truth.ids("attempts")[:10]
    async with client.fan_out(parents, client.attempts.get, ordered=ordered) as results:
        found = [(parent, detail.id) async for parent, detail in results]
    assert sorted(found) == [(parent, parent) for parent in parents]


@every_order
async def test_parents_may_come_from_an_async_iterable(client: tp.Client, ordered: bool) -> None:
    """A listing itself can be the source of parents."""

    async def records(exam: tp.Exam) -> str:
        await asyncio.sleep(0)
        return type(exam).__name__

    async with client.fan_out(client.exams.list(), records, ordered=ordered) as results:
        assert [record async for _, record in results] == ["Exam"] * 3


@every_order
async def test_no_parents_no_records(ordered: bool) -> None:
    """An empty fan-out ends at once."""
    async with make_client().fan_out([], three, ordered=ordered) as results:
        assert [pair async for pair in results] == []


# --- bounds --------------------------------------------------------------------------------------------


@every_order
@pytest.mark.parametrize("concurrency", [1, 3, 7])
async def test_concurrency_is_a_bound_and_is_used(concurrency: int, ordered: bool) -> None:
    """Never more at once, and as many where there are enough parents."""
    call = Counted()
    async with make_client().fan_out(range(30), call, concurrency=concurrency, ordered=ordered) as results:
        assert len([pair async for pair in results]) == 30
    assert call.most_running == concurrency


@every_order
async def test_a_reader_that_stands_still_stops_the_calls(ordered: bool) -> None:
    """At most `concurrency` records are held back, and parents are not read ahead of that."""
    call, read = Counted(), list[int]()

    def parents() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    async with make_client().fan_out(parents(), call, concurrency=4, ordered=ordered) as results:
        taken = 0
        async for _ in results:
            taken += 1
            await settle(300)
            assert len(call.started) <= taken + 4
            assert len(read) <= taken + 5
            if taken == 5:
                break


# --- failures ------------------------------------------------------------------------------------------

GONE = tp.NotFound("GET", "/a/", 404)


@every_order
async def test_the_first_error_is_raised_as_itself_and_cancels_the_siblings(ordered: bool) -> None:
    """No group around it; nothing runs on; what came before it was delivered."""
    call, seen = Counted(3, GONE), list[Any]()
    with pytest.raises(tp.NotFound) as caught:
        async with make_client().fan_out(range(100), call, concurrency=6, ordered=ordered) as results:
            await drain(results, seen)
    assert caught.value is GONE
    assert call.running == 0
    assert call.cancelled
    assert len(call.started) < 100
    assert other_tasks() == set()
    assert {parent for parent, _ in seen} >= {0, 1, 2} if ordered else len(seen) < 100


@every_order
async def test_skip_leaves_the_failed_parent_out(ordered: bool) -> None:
    """All others come; nothing is kept of it."""
    async with make_client().fan_out(
        range(10), Counted(3, GONE), concurrency=4, on_error="skip", ordered=ordered
    ) as results:
        found = sorted([pair async for pair in results])
    assert found == [(parent, parent * 10) for parent in range(10) if parent != 3]
    assert results.errors == []


@every_order
async def test_collect_keeps_parent_and_error(ordered: bool) -> None:
    """To be looked at when everything else is done."""
    async with make_client().fan_out(
        range(10), Counted(3, GONE), concurrency=4, on_error="collect", ordered=ordered
    ) as results:
        assert len([pair async for pair in results]) == 9
    assert results.errors == [(3, GONE)]


@pytest.mark.row(96)
async def test_a_parent_that_is_gone_is_collected_over_a_socket(
    institute: Sandbox, client: tp.Client
) -> None:
    """Each failed parent, and only those."""
    parents = institute.truth.ids("attempts")[:10]
    institute.delete_attempts([parents[2], parents[7]])
    async with client.fan_out(parents, client.attempts.get, on_error="collect") as results:
        found = {parent async for parent, _ in results}
    assert found == set(parents) - {parents[2], parents[7]}
    assert sorted(parent for parent, _ in results.errors) == [parents[2], parents[7]]
    assert all(isinstance(error, tp.NotFound) for _, error in results.errors)


@every_order
@pytest.mark.parametrize("on_error", ["raise", "skip", "collect"])
async def test_a_bug_in_the_call_is_raised_whatever_on_error_says(ordered: bool, on_error: Any) -> None:
    """A TypeError is no failure of a parent."""
    call, seen = Counted(2, TypeError("a bug")), list[Any]()
    with pytest.raises(TypeError, match="a bug"):
        async with make_client().fan_out(
            range(50), call, concurrency=4, on_error=on_error, ordered=ordered
        ) as results:
            await drain(results, seen)
    assert other_tasks() == set()


@every_order
async def test_a_bug_before_the_first_await_is_raised(ordered: bool) -> None:
    """The call itself raises, or gives something that is neither awaitable nor iterable."""
    for call in (lambda parent: 1 / 0, lambda parent: parent):
        with pytest.raises((ZeroDivisionError, TypeError)):
            async with make_client().fan_out([1], call, ordered=ordered) as results:  # type: ignore[arg-type]
                await drain(results, [])


@every_order
@pytest.mark.parametrize("on_error", ["raise", "skip", "collect"])
async def test_a_failing_source_of_parents_is_raised(ordered: bool, on_error: Any) -> None:
    """After the records of the parents it gave, whatever on_error says."""

    async def parents() -> AsyncIterator[int]:
        yield 1
        await settle(50)
        raise GONE

    seen = list[Any]()
    with pytest.raises(tp.NotFound) as caught:
        async with make_client().fan_out(parents(), three, on_error=on_error, ordered=ordered) as results:
            await drain(results, seen)
    assert caught.value is GONE
    assert other_tasks() == set()


@every_order
async def test_an_error_of_the_body_goes_through_unchanged(ordered: bool) -> None:
    """The reader's own exception is neither wrapped nor replaced."""
    call, mine = Counted(), ZeroDivisionError("mine")

    async def read() -> None:
        async with make_client().fan_out(range(100), call, ordered=ordered) as results:
            async for _ in results:
                raise mine

    with pytest.raises(ZeroDivisionError) as caught:
        await read()
    assert caught.value is mine
    assert call.running == 0
    assert other_tasks() == set()


# --- leaving -------------------------------------------------------------------------------------------


@every_order
async def test_break_leaves_no_task(ordered: bool) -> None:
    """When the block is left nothing runs, and no further parent starts."""
    call = Counted()
    async with make_client().fan_out(range(100), call, concurrency=5, ordered=ordered) as results:
        async for _ in results:
            break
    started = len(call.started)
    await settle(100)
    assert call.running == 0
    assert len(call.started) == started < 100
    assert other_tasks() == set()


@every_order
async def test_cancelling_the_reader_leaves_no_task(ordered: bool) -> None:
    """The cancellation arrives, and everything below has ended."""
    running = asyncio.Event()

    async def never(parent: int) -> int:
        running.set()
        await asyncio.Event().wait()
        return parent

    async def read() -> None:
        async with make_client().fan_out(range(9), never, concurrency=3, ordered=ordered) as results:
            await drain(results, [])

    reader = asyncio.create_task(read())
    await running.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert other_tasks() == set()


@pytest.mark.row(94)
async def test_break_stops_the_traffic_of_listings(institute: Sandbox) -> None:
    """Requests on the way are hung up, none follows."""
    parents = institute.truth.ids("attempts")
    hold = asyncio.Event()
    async with tp.Client(institute.url, token=institute.token(), retry=NO_RETRIES) as client:
        institute.script(Fault(path="/api/v3/admin/attempts/", skip=60, times=None, hold=hold))
        async with client.fan_out(parents, client.attempts.user_answers, concurrency=4) as results:
            async for _ in results:
                break
        await institute_is_idle(institute)
        before = institute.requests
        await settle(200)
        assert institute.requests == before


async def test_a_fan_out_that_is_never_iterated_calls_nothing() -> None:
    """Parents are read when the first record is asked for."""
    call = Counted()
    async with make_client().fan_out(range(9), call):
        await settle()
    assert call.started == []


# --- misuse --------------------------------------------------------------------------------------------


async def test_misuse_is_named() -> None:
    """Outside its block, iterated twice, unusable numbers."""
    client = make_client()
    unopened = client.fan_out([1], three)
    with pytest.raises(tp.ConfigError, match="async with"):
        aiter(unopened)
    await unopened.__aexit__(None, None, None)
    async with client.fan_out([1], three) as results:
        assert len([pair async for pair in results]) == 3
        with pytest.raises(tp.ConfigError, match="iterated once"):
            aiter(results)
    with pytest.raises(tp.ConfigError, match="concurrency"):
        client.fan_out([1], three, concurrency=0)
    with pytest.raises(tp.ConfigError, match="on_error"):
        client.fan_out([1], three, on_error="ignore")  # type: ignore[arg-type]


@every_order
async def test_closing_the_iterator_early_does_not_disturb_the_rest_of_the_block(ordered: bool) -> None:
    """Who has seen enough may go on working inside the block."""
    async with make_client().fan_out(range(50), three, concurrency=4, ordered=ordered) as results:
        iterator = aiter(results)
        await anext(iterator)
        await iterator.aclose()  # type: ignore[attr-defined]
        await settle(300)
    assert other_tasks() == set()
