"""Large pages are decoded beside the event loop, small ones on it; nothing else changes by that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import pytest

import testpress_async as tp
from testpress_async.http.caller import Caller, Options
from testpress_async.listing.listing import Listing
from testpress_async.listing.stream import OFF_LOOP_BYTES
from testpress_async.models.attempts import Attempt
from testpress_async.models.pages import PageReader, RawReading, Reading
from tests.support.pages import NO_RETRIES, other_tasks, page
from tests.support.raw_server import RawServer, http

pytestmark = pytest.mark.row(100)

TARGET = "/api/v2.5/admin/attempts/"
Read = Callable[[Listing[Attempt]], Any]


async def by_record(listing: Listing[Attempt]) -> list[int]:
    return [record.id async for record in listing]


async def by_page(listing: Listing[Attempt]) -> list[int]:
    return [record.id async for each in listing.pages(window=2) for record in each.items]


async def raw(listing: Listing[Attempt]) -> list[int]:
    return [int(bytes(row)[6:-1]) async for each in listing.raw_pages() for row in each.rows["attempts"]]


every_read = pytest.mark.parametrize("read", [by_record, by_page, raw])


class Watched(PageReader[Attempt]):
    """A reader that remembers in which thread it worked, and can be made to wait there."""

    def __init__(self) -> None:
        super().__init__("attempts", Attempt)
        self.threads: list[threading.Thread] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def read(self, body: bytes) -> Reading[Attempt]:
        self._note()
        return super().read(body)

    def split(self, body: bytes) -> RawReading:
        self._note()
        return super().split(body)

    def _note(self) -> None:
        self.threads.append(threading.current_thread())
        assert self.may_go_on.wait(20), "the loop stood still while a page was decoded"


def body(ids: Iterable[object], *, size: int, next_page: int | None = None) -> bytes:
    """A page of exactly *size* bytes, white space included."""
    short = page(ids, next_page=next_page)
    return short[:-1] + b" " * (size - len(short)) + b"}"


LARGE, SMALL = OFF_LOOP_BYTES, OFF_LOOP_BYTES - 1


def listing_of(client: tp.Client, reader: PageReader[Attempt], **options: Any) -> Listing[Attempt]:
    return Listing(Caller(client._session, Options()), TARGET, reader, **options)


@every_read
@pytest.mark.parametrize(("size", "beside"), [(LARGE, True), (SMALL, False)], ids=["large", "small"])
async def test_large_pages_are_decoded_in_another_thread(read: Read, size: int, beside: bool) -> None:
    """From `OFF_LOOP_BYTES` on beside the loop, below on it; the records are the same, in order."""
    reader = Watched()
    pages = [http(body([1, 2], size=size, next_page=2)), http(body([3], size=size))]
    async with RawServer(*pages, keep=True) as server, tp.Client(server.origin, token="t") as client:
        assert await read(listing_of(client, reader)) == [1, 2, 3]
    assert len(reader.threads) == 2
    assert [thread is not threading.current_thread() for thread in reader.threads] == [beside, beside]


@every_read
async def test_the_loop_goes_on_meanwhile(read: Read) -> None:
    """Other tasks run, and finish requests of their own, while a large page is being decoded."""
    reader = Watched()
    reader.may_go_on.clear()
    answers = [http(body([1], size=LARGE)), http(page([7]))]
    async with RawServer(*answers, keep=True) as server, tp.Client(server.origin, token="t") as client:
        reading = asyncio.create_task(read(listing_of(client, reader)))
        while not reader.threads:  # noqa: ASYNC110 - it happens in another thread
            await asyncio.sleep(0.001)
        assert [record.id for record in await client.attempts.list()] == [7]
        assert not reading.done()
        reader.may_go_on.set()
        assert await reading == [1]


async def test_a_cancelled_reader_does_not_wait_for_the_decoder() -> None:
    """The cancellation comes out at once, nothing stays behind, and the client goes on."""
    reader = Watched()
    reader.may_go_on.clear()
    answers = [http(body([1], size=LARGE, next_page=2)), http(page([7]))]
    async with RawServer(*answers, keep=True) as server, tp.Client(server.origin, token="t") as client:
        before = other_tasks()
        reading = asyncio.create_task(by_page(listing_of(client, reader)))
        while not reader.threads:  # noqa: ASYNC110 - it happens in another thread
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert {task for task in other_tasks() - before if "_serve" not in repr(task)} == set()
        assert [record.id for record in await client.attempts.list()] == [7]
        reader.may_go_on.set()


async def test_a_stream_closed_while_a_page_is_decoded_ends_after_it() -> None:
    """The page that was on its way is handed out, the next one never asked for."""
    reader = Watched()
    reader.may_go_on.clear()
    async with (
        RawServer(http(body([1], size=LARGE, next_page=2)), keep=True) as server,
        tp.Client(server.origin, token="t") as client,
        aclosing(listing_of(client, reader).pages(window=2)) as pages,
    ):
        coming = asyncio.create_task(anext(pages))  # type: ignore[arg-type]
        while not reader.threads:  # noqa: ASYNC110 - it happens in another thread
            await asyncio.sleep(0.001)
        await pages.aclose()
        reader.may_go_on.set()
        assert [record.id for record in await coming] == [1]
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
        assert len(server.heads) == 1


@every_read
async def test_what_a_large_page_breaks_on_is_told_as_for_a_small_one(read: Read) -> None:
    """Place, listing and resume token of the error do not depend on the thread."""
    told: list[tuple[str, str | None]] = []
    for size in (SMALL, LARGE):
        answers = [http(body([1], size=size, next_page=2)), http(b"{" + b" " * size + b'"results": 3}')]
        async with (
            RawServer(*answers, keep=True) as server,
            tp.Client(server.origin, token="t", retry=NO_RETRIES) as client,
        ):
            with pytest.raises(tp.DecodeFailed) as caught:
                await read(client.attempts.list())
        told.append((str(caught.value), caught.value.resume_token))
    assert told[0] == told[1]
    assert f"GET {TARGET}?page=2" in told[0][0]
    assert told[0][1] is not None


async def test_one_raw_page_is_taken_apart_beside_the_loop_too() -> None:
    """`raw_page` keeps the same rule."""
    reader = Watched()
    async with (
        RawServer(http(body([1], size=LARGE)), keep=True) as server,
        tp.Client(server.origin, token="t") as client,
    ):
        got = await listing_of(client, reader).raw_page(1)
    assert len(got.rows["attempts"]) == 1
    assert reader.threads[0] is not threading.current_thread()
