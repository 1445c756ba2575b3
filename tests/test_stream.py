"""How many pages are on the way, and that leaving stops the traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

import testpress_async as tp
from testpress_async.listing.stream import TURN_AFTER_S
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock, settle
from tests.support.pages import Pages, book, other_tasks

Stream = AsyncIterator[object]
STREAMS: dict[str, Callable[[tp.Listing[tp.Attempt]], Stream]] = {
    "plain": lambda listing: aiter(listing),
    "prefetch": lambda listing: listing.prefetch(4),
    "pages": lambda listing: listing.pages(),
    "pages in a window": lambda listing: listing.pages(4),
    "raw pages in a window": lambda listing: listing.raw_pages(4),
}
every_stream = pytest.mark.parametrize("start", STREAMS.values(), ids=STREAMS)


def twelve_pages() -> Pages:
    """12 pages of two attempts."""
    return Pages(book(*[[n, n + 1] for n in range(1, 25, 2)], count=24, per_page=2))


@pytest.mark.parametrize("window", [1, 2, 3, 8, 50])
async def test_at_most_window_pages_are_asked_for_and_not_taken(window: int) -> None:
    """A reader that stands still stops the traffic; each page it takes lets one more be asked for."""
    pages = twelve_pages()
    async with pages.client() as client:
        taken = 0
        async for _ in client.attempts.list().pages(window):
            taken += 1
            await settle(200)
            ahead = 0 if window == 1 else window
            assert pages.asked == list(range(1, min(12, taken + ahead) + 1))
    assert taken == 12


@pytest.mark.row(93)
async def test_prefetch_keeps_its_window_over_a_socket(institute: Sandbox, client: tp.Client) -> None:
    """Counted by the server: the page in hand and the window behind it, however long the reader stands."""
    async with aclosing(client.attempts.list().prefetch(3)) as attempts:
        await anext(attempts)
        # login, page 1, three ahead
        while institute.requests < 5 or institute.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await settle(500)
        assert institute.requests == 5
        assert institute.most_in_flight <= 3


@pytest.mark.parametrize(("page_s", "more"), [(2 * TURN_AFTER_S, True), (TURN_AFTER_S / 2, False)])
async def test_pages_that_are_here_do_not_hold_up_those_that_are_not(page_s: float, more: bool) -> None:
    """Taking one after the other gives the loop a turn now and then, so that the next request goes out."""
    pages, clock = twelve_pages(), AutoClock()
    async with pages.client(clock=clock) as client, aclosing(client.attempts.list().pages(4)) as stream:
        await anext(stream)
        await settle(500)
        assert pages.asked == [1, 2, 3, 4, 5]
        await anext(stream)
        clock.jump(page_s)
        await anext(stream)
        assert (6 in pages.asked) == more


async def test_a_window_is_on_the_way_at_once() -> None:
    """Pages are asked for together, and handed out in order however they come back."""
    pages = twelve_pages()
    pages.held = {number: asyncio.Event() for number in (2, 3, 4)}
    async with pages.client() as client, aclosing(client.attempts.list().pages(3)) as stream:
        assert (await anext(stream)).number == 1
        await settle()
        assert pages.running == 3
        following = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        for number in (4, 3):
            pages.held[number].set()
            await settle()
            assert not following.done()
        pages.held[2].set()
        assert (await following).number == 2
    assert pages.most_running <= 3


async def test_a_window_of_one_makes_no_task() -> None:
    """Whoever does not ask for concurrency does not pay for it."""
    pages = twelve_pages()
    async with pages.client() as client:
        async for _ in client.attempts.list():
            assert other_tasks() == set()
    assert pages.most_running == 1


@every_stream
async def test_break_stops_the_traffic(start: Callable[[tp.Listing[tp.Attempt]], Stream]) -> None:
    """No further request starts and no task is left, while the client stays open."""
    pages = twelve_pages()
    pages.held = {3: asyncio.Event()}
    async with pages.client() as client:
        async for _ in start(client.attempts.list()):
            break
        await settle()
        asked = list(pages.asked)
        assert other_tasks() == set()
        assert pages.running == 0
        pages.held[3].set()
        await settle(200)
        assert pages.asked == asked
        assert len(asked) <= 5
        assert await client.attempts.list().count() == 24


@every_stream
async def test_an_error_of_the_reader_stops_the_traffic(
    start: Callable[[tp.Listing[tp.Attempt]], Stream],
) -> None:
    """It goes through unchanged and leaves nothing behind."""
    pages = twelve_pages()

    async def read(client: tp.Client) -> None:
        async for _ in start(client.attempts.list()):
            raise ZeroDivisionError("mine")

    async with pages.client() as client:
        with pytest.raises(ZeroDivisionError, match="mine"):
            await read(client)
        await settle()
        asked = list(pages.asked)
        await settle(200)
        assert pages.asked == asked
        assert other_tasks() == set()


@every_stream
async def test_cancelling_the_reader_stops_the_traffic(
    start: Callable[[tp.Listing[tp.Attempt]], Stream],
) -> None:
    """While it waits for a page, with others on the way."""
    pages = twelve_pages()
    pages.held = {number: asyncio.Event() for number in range(2, 13)}

    async def read(client: tp.Client) -> None:
        async for _ in start(client.attempts.list()):
            pass

    async with pages.client() as client:
        reader = asyncio.create_task(read(client))
        await settle(60)
        assert pages.running >= 1
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await settle()
        assert pages.running == 0
        assert other_tasks() == set()
        assert max(pages.asked) <= 5


@every_stream
async def test_an_error_of_the_server_stops_the_traffic(
    start: Callable[[tp.Listing[tp.Attempt]], Stream],
) -> None:
    """The pages behind the failed one are given up before the error arrives."""
    answers: dict[int, bytes | tuple[int, bytes]] = dict(
        book(*[[n, n + 1] for n in range(1, 25, 2)], count=24, per_page=2)
    )
    answers[2] = (403, b"")
    pages = Pages(answers)
    pages.held = {number: asyncio.Event() for number in range(3, 13)}

    async def read(client: tp.Client) -> None:
        async for _ in start(client.attempts.list()):
            pass

    async with pages.client() as client:
        with pytest.raises(tp.PermissionDenied):
            await read(client)
        assert other_tasks() == set()
        assert pages.running == 0


async def test_a_closed_stream_has_ended() -> None:
    """Closing is the end, also twice, also before the first page."""
    pages = twelve_pages()
    async with pages.client() as client:
        for window in (1, 4):
            stream = client.attempts.list().pages(window)
            await anext(stream)
            await stream.aclose()
            await stream.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            unread = client.attempts.list().pages(window)
            await unread.aclose()
            assert [one async for one in unread] == []
        assert other_tasks() == set()


async def test_closing_the_client_ends_its_pages() -> None:
    """A stream that somebody keeps does not outlive the client."""
    pages = twelve_pages()
    pages.held = {number: asyncio.Event() for number in range(2, 13)}
    async with pages.client() as client:
        stream = client.attempts.list().pages(4)
        await anext(stream)
        await settle()
        assert pages.running == 4
    assert pages.running == 0
    assert other_tasks() == set()
    await stream.aclose()


@pytest.mark.row(94)
async def test_leaving_ends_requests_at_the_server(institute: Sandbox, client: tp.Client) -> None:
    """Over a socket: requests that were on the way are hung up, none follows."""
    hold = asyncio.Event()
    await client.attempts.list().count()
    institute.script(*[Fault(query=f"page={number}", hold=hold) for number in (2, 3, 4)])
    async for _ in client.attempts.list().prefetch(3):
        while institute.in_flight < 3:  # noqa: ASYNC110 - the institute has no event for it
            await asyncio.sleep(0.001)
        break
    while institute.in_flight:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert institute.requests == 6  # login, count, page 1, three that were hung up
