"""`Listing`: one object for a list behind pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

import testpress_async as tp
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import settle
from tests.support.pages import NO_RETRIES, ORIGIN, Pages, book, other_tasks, page

ATTEMPTS = "/api/v2.5/admin/attempts/"
WINDOWS = [1, 2, 8, 50]
Read = Callable[[tp.Listing[tp.Attempt]], AsyncIterator[tp.Attempt]]


async def by_page(listing: tp.Listing[tp.Attempt], window: int = 1) -> AsyncIterator[tp.Attempt]:
    async with aclosing(listing.pages(window)) as pages:
        async for one in pages:
            for attempt in one:
                yield attempt


READERS: dict[str, Read] = {
    "plain": lambda listing: listing.__aiter__(),
    "prefetch": lambda listing: listing.prefetch(4),
    "pages": lambda listing: by_page(listing),
    "pages in a window": lambda listing: by_page(listing, 4),
}
every_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


async def ids_of(records: AsyncIterator[tp.Attempt]) -> list[int]:
    return [attempt.id async for attempt in records]


async def drain(records: AsyncIterator[tp.Attempt | tp.UserAnswer], seen: list[int]) -> None:
    """Read to the end or to an error; *seen* keeps what came before it."""
    async for record in records:
        seen.append(record.id)


# --- laziness ------------------------------------------------------------------------------------------


async def test_nothing_is_sent_until_awaited_or_iterated(institute: Sandbox, client: tp.Client) -> None:
    """A listing, its iterators and a resumed copy are only descriptions."""
    listing = client.attempts.list(exams=[1])
    iterators = [listing.__aiter__(), listing.prefetch(8), listing.pages(8), listing.raw_pages(8)]
    await settle()
    assert institute.requests == 0
    for iterator in iterators:
        await iterator.aclose()
    assert institute.requests == 0


async def test_awaiting_gives_the_first_page(institute: Sandbox, client: tp.Client) -> None:
    """With its number, the server's count and page size, and a token behind it."""
    first = await client.attempts.list(ordering="date")
    assert (first.number, first.count, first.per_page, first.is_last) == (1, 210, 20, False)
    assert [attempt.id for attempt in first] == institute.truth.ids("attempts", ordering="date")[:20]
    assert len(first) == 20
    assert repr(first) == "Page(number=1, records=20, count=210)"
    rest = await client.attempts.list(ordering="date").resume(first.token).collect()
    assert len(rest) == 190


async def test_count_is_the_servers_own(institute: Sandbox, client: tp.Client) -> None:
    """One request, whatever the size of the list."""
    await client.attempts.list().count()
    before = institute.requests
    assert await client.attempts.list(exams=2).count() == institute.truth.count("attempts", exams=2)
    assert institute.requests == before + 1


@pytest.mark.parametrize("count", [None, -1, "12", True, 1.5])
async def test_a_count_that_cannot_be_hurts_only_who_asks_for_it(count: object) -> None:
    """The records do not depend on it."""
    pages = Pages(book([1, 2], [3, 4], [5], count=count, per_page=2))
    async with pages.client() as client:
        listing = client.attempts.list()
        assert (await listing).count is None
        assert await ids_of(listing.prefetch(8)) == [1, 2, 3, 4, 5]
        with pytest.raises(tp.DecodeFailed) as caught:
            await listing.count()
    assert caught.value.path == "$.count"


# --- every record once, in order -----------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
async def test_prefetch_gives_every_record_once_in_order(
    institute: Sandbox, client: tp.Client, window: int
) -> None:
    """However many pages are on the way."""
    assert await ids_of(client.attempts.list(ordering="-date").prefetch(window)) == institute.truth.ids(
        "attempts", ordering="-date"
    )


@pytest.mark.parametrize("window", WINDOWS)
async def test_pages_and_raw_pages_come_once_in_order(
    institute: Sandbox, client: tp.Client, window: int
) -> None:
    """Decoded, or as the server's own bytes."""
    truth = institute.truth.ids("attempts")
    pages = [one async for one in client.attempts.list().pages(window)]
    raw_pages = [one async for one in client.attempts.list().raw_pages(window)]
    assert [one.number for one in pages] == [one.number for one in raw_pages] == list(range(1, 12))
    assert [one.is_last for one in raw_pages] == [False] * 10 + [True]
    assert [attempt.id for one in pages for attempt in one.items] == truth
    assert [json.loads(bytes(row))["id"] for one in raw_pages for row in one.rows["attempts"]] == truth
    assert repr(raw_pages[-1]) == "RawPage(number=11, attempts=10, count=210)"
    assert "user" not in repr(raw_pages[0])


@every_reader
async def test_a_listing_can_be_read_again(institute: Sandbox, client: tp.Client, read: Read) -> None:
    """It holds nothing of an iteration."""
    listing, truth = client.attempts.list(), institute.truth.ids("attempts")
    assert [await ids_of(read(listing)) for _ in range(2)] == [truth, truth]


@every_reader
async def test_several_tasks_may_read_one_listing(institute: Sandbox, client: tp.Client, read: Read) -> None:
    """Each gets every record."""
    listing, truth = client.attempts.list(), institute.truth.ids("attempts")
    assert await asyncio.gather(*(ids_of(read(listing)) for _ in range(3))) == [truth] * 3


@every_reader
async def test_an_empty_list_has_no_records(client: tp.Client, read: Read) -> None:
    """No record, no error."""
    assert await ids_of(read(client.attempts.list(exams=99))) == []


async def test_side_loads_come_along(institute: Sandbox, client: tp.Client) -> None:
    """Records of v3 lists find what was sent with them, on every page and with any window."""
    listing = client.content_attempts.list()
    assert [each.id async for each in listing.prefetch(2)] == institute.truth.ids("content_attempts")
    async for one in listing.pages(2):
        assert {course.id for course in one.tables["courses"] if isinstance(course, tp.Course)} == {
            record.course.id for record in one if record.course
        }
    raw = [one async for one in listing.raw_pages()]
    assert sum(len(one.rows["content_attempts"]) for one in raw) == 60
    assert raw[0].rows["users"]


# --- collect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_items", "requests"), [(0, 0), (1, 1), (20, 1), (21, 2), (40, 2), (205, 11), (999, 11), (None, 11)]
)
async def test_collect_asks_for_no_page_too_many(
    institute: Sandbox, client: tp.Client, max_items: int | None, requests: int
) -> None:
    """What is behind `max_items` is not asked for."""
    listing = client.attempts.list()
    await listing.count()  # the login is over
    before = institute.requests
    found = await listing.collect(max_items)
    assert [attempt.id for attempt in found] == institute.truth.ids("attempts")[:max_items]
    assert institute.requests == before + requests


async def test_unusable_numbers_are_refused() -> None:
    """Before anything is sent, naming the parameter."""
    pages = Pages(book([1]))
    async with pages.client() as client:
        listing = client.attempts.list()
        for window in (0, -1, 257):
            with pytest.raises(tp.ConfigError, match="window"):
                listing.pages(window)
            with pytest.raises(tp.ConfigError, match="window"):
                await ids_of(listing.prefetch(window))
        with pytest.raises(tp.ConfigError, match="max_items"):
            await listing.collect(-1)
    assert pages.asked == []


# --- where a listing ends ------------------------------------------------------------------------------


@every_reader
async def test_short_and_empty_pages_in_the_middle_go_on(read: Read) -> None:
    """The end is a missing `next`, nothing else."""
    async with Pages(book([1, 2, 3], [], [4], [], [5, 6], count=6, per_page=3)).client() as client:
        assert await ids_of(read(client.attempts.list())) == [1, 2, 3, 4, 5, 6]


@every_reader
async def test_a_thousand_empty_pages_pass(read: Read) -> None:
    """Without recursion, and the record behind them comes."""
    pages = Pages(
        lambda number: page([7] if number > 1000 else [], next_page=number + 1 if number < 1001 else None)
    )
    async with pages.client() as client:
        assert await ids_of(read(client.attempts.list())) == [7]
    assert len(pages.asked) == 1001


@every_reader
async def test_404_past_page_one_is_the_end(read: Read) -> None:
    """The list shrank while it was read."""
    pages = Pages({1: page([1, 2], next_page=2, count=6, per_page=2), 2: page([3, 4], next_page=3)})
    async with pages.client() as client:
        assert await ids_of(read(client.attempts.list())) == [1, 2, 3, 4]
    assert other_tasks() == set()


@every_reader
async def test_404_on_page_one_is_an_error(read: Read) -> None:
    """There is no such list."""
    async with Pages({}).client() as client:
        with pytest.raises(tp.NotFound):
            await ids_of(read(client.attempts.list()))


async def test_a_list_that_loses_records_while_read_ends(institute: Sandbox, client: tp.Client) -> None:
    """A real server answers 404 for the pages that are gone."""
    seen = list[int]()
    async for one in client.attempts.list().pages(3):
        seen += [attempt.id for attempt in one]
        if one.number == 1:
            institute.delete_attempts(institute.truth.ids("attempts")[-150:])
    assert seen[:20] == institute.truth.ids("attempts")[:20]
    assert len(seen) == len(set(seen))


@every_reader
async def test_the_same_page_twice_is_refused(read: Read) -> None:
    """A server that ignores `page` would be read for ever."""
    async with Pages(lambda number: page([1, 2], next_page=number + 1)).client() as client:
        with pytest.raises(tp.ListingChanged) as caught:
            await ids_of(read(client.attempts.list()))
    assert caught.value.page == 2


@pytest.mark.parametrize("next_page", [1, 2, 4, 99])
@every_reader
async def test_next_backwards_or_past_a_page_is_refused(read: Read, next_page: int) -> None:
    """From page 2 the only way is page 3."""
    pages = Pages({1: page([1], next_page=2), 2: page([2], next_page=next_page)})
    async with pages.client() as client:
        with pytest.raises(tp.ListingChanged, match=f"leads to page {next_page}"):
            await ids_of(read(client.attempts.list()))


@pytest.mark.parametrize("link", ["https://institute.test/a/", "/a/?cursor=x", "?page=two", "http://[broken"])
async def test_next_without_a_page_number_is_refused(link: str) -> None:
    """It cannot be followed, and it is not the end."""
    async with Pages({1: page([1], next_url=link)}).client() as client:
        with pytest.raises(tp.DecodeFailed) as caught:
            await ids_of(client.attempts.list().__aiter__())
    assert caught.value.path == "$.next"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/steal/?page=2",
        "http://institute.test/api/v2.5/admin/attempts/?page=2",
        "//evil.example:8000/?page=2",
        "?page=2&exams=7",
        "https://institute.test/?exams=9&page=2&ordering=-date",
    ],
)
@pytest.mark.parametrize("window", [1, 4])
async def test_only_the_page_number_is_taken_from_next(link: str, window: int) -> None:
    """Path, host and filters stay ours, and the token never leaves the institute."""
    pages = Pages({1: page([1], next_url=link), 2: page([2])})
    async with pages.client() as client:
        listing = client.attempts.list(exams=[5, 6], ordering="date")
        assert await ids_of(listing.prefetch(window)) == [1, 2]
    assert pages.targets == [
        f"{ATTEMPTS}?exams=5,6&ordering=date",
        f"{ATTEMPTS}?exams=5,6&ordering=date&page=2",
    ]


async def test_filters_hold_on_every_page_of_a_server_that_forgets_them() -> None:
    """The documentation's samples show a `next` without the other parameters."""
    async with (
        Sandbox(attempts=100, exams=2, per_page=10, next_keeps_filters=False) as institute,
        tp.Client(institute.url, token=institute.token()) as client,
    ):
        assert await ids_of(client.attempts.list(exams=2).prefetch(3)) == institute.truth.ids(
            "attempts", exams=2
        )


@pytest.mark.parametrize("per_page", [1, 3, 1000, 0, -4, None])
@pytest.mark.parametrize("window", [1, 3, 50])
async def test_a_page_size_that_lies_loses_nothing(per_page: int | None, window: int) -> None:
    """It only tells how far to ask ahead."""
    pages = Pages(book(*[range(n, n + 3) for n in range(1, 30, 3)], count=30, per_page=per_page))
    async with pages.client() as client:
        assert await ids_of(client.attempts.list().prefetch(window)) == list(range(1, 31))


# --- resuming ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 4])
async def test_a_pages_token_resumes_behind_it(institute: Sandbox, client: tp.Client, window: int) -> None:
    """Read up to it and resumed from it is the whole list."""
    listing, truth = client.attempts.list(exams=1), institute.truth.ids("attempts", exams=1)
    async for one in listing.pages(window):
        head = one.number * 20
        assert [each.id for each in await listing.resume(one.token).collect(window=window)] == truth[head:]


async def test_resuming_behind_the_last_page_gives_nothing(client: tp.Client) -> None:
    """Not an error: the list may have grown, it has not."""
    listing = client.courses.list()
    last = [one async for one in listing.pages()][-1]
    assert last.is_last
    assert await listing.resume(last.token).collect() == []
    nothing = await listing.resume(last.token)
    assert (nothing.items, nothing.is_last, nothing.count) == ([], True, None)


@pytest.mark.parametrize("failing", [1, 2, 5])
@every_reader
async def test_an_error_tells_where_to_resume(read: Read, failing: int) -> None:
    """What came before the failure and what comes after resuming is the whole list, once."""
    answers: dict[int, Any] = dict(book([1, 2], [3, 4], [5, 6], [7, 8], [9], count=9, per_page=2))
    whole, answers[failing] = answers[failing], (500, b"")
    async with Pages(answers).client() as client:
        listing, seen = client.attempts.list(), list[int]()
        with pytest.raises(tp.ServerFault) as caught:
            await drain(read(listing), seen)
        assert seen == list(range(1, 2 * failing - 1))
        answers[failing] = whole
        token = caught.value.resume_token
        assert token is not None
        assert seen + await ids_of(read(listing.resume(token))) == list(range(1, 10))


async def test_a_refusing_server_is_resumed(institute: Sandbox) -> None:
    """The same over a socket: page 4 fails for good, later it works again."""
    async with tp.Client(institute.url, token=institute.token(), retry=NO_RETRIES) as client:
        institute.script(Fault(query="page=4", status=503))
        listing, seen = client.attempts.list(), list[int]()
        with pytest.raises(tp.ServerFault) as caught:
            await drain(listing.prefetch(3), seen)
        token = caught.value.resume_token
        assert token is not None
        seen += await ids_of(listing.resume(token).prefetch(3))
        assert seen == institute.truth.ids("attempts")


async def test_a_token_of_another_listing_or_a_damaged_one_is_refused() -> None:
    """Before anything is sent."""
    pages = Pages(book([1], [2]))
    async with pages.client() as client:
        token = (await client.attempts.list(exams=5)).token
        for other in (client.attempts.list(exams=6), client.attempts.list(), client.users.list()):
            with pytest.raises(tp.ConfigError, match="another listing"):
                other.resume(token)
        with pytest.raises(tp.ConfigError, match="token"):
            client.attempts.list(exams=5).resume(token[:-3])
    assert pages.asked == [1]


# --- bad records ---------------------------------------------------------------------------------------

BAD = book([1, 2], [3, "bad", 4, "worse", 5], [6])


@pytest.mark.parametrize("window", [1, 3])
async def test_a_bad_record_is_raised_in_its_place(window: int) -> None:
    """Its neighbours before it are delivered, and the token goes on behind it, each time."""
    async with Pages(BAD).client() as client:
        listing, seen = client.attempts.list(), list[int]()
        for expected, path, raw in (
            ([1, 2, 3], "$.results[1].id", b'{"id": "bad"}'),
            ([1, 2, 3, 4], "$.results[3].id", b'{"id": "worse"}'),
        ):
            with pytest.raises(tp.DecodeFailed, match="attempts/") as caught:
                await drain(listing.prefetch(window), seen)
            assert seen == expected
            assert (caught.value.path, caught.value.raw) == (path, raw)
            assert "bad" not in str(caught.value)
            assert caught.value.resume_token is not None
            listing = listing.resume(caught.value.resume_token)
        await drain(listing.prefetch(window), seen)
    assert seen == [1, 2, 3, 4, 5, 6]


@every_reader
async def test_bad_records_can_be_skipped(read: Read) -> None:
    """All others come."""
    async with Pages(BAD).client() as client:
        assert await ids_of(read(client.attempts.list(bad_records="skip"))) == [1, 2, 3, 4, 5, 6]


async def test_a_page_keeps_what_it_rejected() -> None:
    """With the server's own bytes, for whoever wants to look."""
    async with Pages(BAD).client() as client:
        pages = [one async for one in client.attempts.list(bad_records="skip").pages()]
    assert [[error.raw for error in one.rejected] for one in pages] == [
        [],
        [b'{"id": "bad"}', b'{"id": "worse"}'],
        [],
    ]


async def test_pages_raise_a_bad_record_and_resume_at_its_page() -> None:
    """A page is delivered whole or not at all; skipping is the way past it."""
    async with Pages(BAD).client() as client:
        with pytest.raises(tp.DecodeFailed) as caught:
            await client.attempts.list().collect()
        token = caught.value.resume_token
        assert token is not None
        rest = client.attempts.list(bad_records="skip").resume(token)
        assert [attempt.id for attempt in await rest.collect()] == [3, 4, 5, 6]


@pytest.mark.parametrize("bad_records", ["raise", "skip"])
async def test_pages_resumed_inside_a_page_start_behind_the_bad_record(bad_records: Any) -> None:
    """A record that was reported once is not reported again by what comes after it."""
    async with Pages(book([1, "bad", 2], [3])).client() as client:
        with pytest.raises(tp.DecodeFailed) as caught:
            await ids_of(client.attempts.list().__aiter__())
        token = caught.value.resume_token
        assert token is not None
        rest = client.attempts.list(bad_records=bad_records).resume(token)
        assert [attempt.id for attempt in await rest.collect()] == [2, 3]
        assert [attempt.id for attempt in await rest] == [2]


async def test_a_bad_side_load_is_raised_after_its_page() -> None:
    """The page's records come first; the token goes on with the next page."""

    def body(ids: list[int], question: object, next_page: int | None) -> bytes:
        rows = {"user_answers": [{"id": each} for each in ids], "exam_questions": [{"id": question}]}
        link = f"{ORIGIN}/?page={next_page}" if next_page else None
        return json.dumps({"count": 3, "next": link, "results": rows}).encode()

    async with Pages({1: body([1, 2], "bad", 2), 2: body([3], 9, None)}).client() as client:
        listing, seen = client.attempts.user_answers(5), list[int]()
        with pytest.raises(tp.DecodeFailed) as caught:
            await drain(aiter(listing), seen)
        assert seen == [1, 2]
        assert caught.value.path == "$.results.exam_questions[0].id"
        token = caught.value.resume_token
        assert token is not None
        assert [answer.id async for answer in listing.resume(token)] == [3]
        skipping = client.attempts.user_answers(5, bad_records="skip")
        assert [answer.id async for answer in skipping] == [1, 2, 3]


async def test_a_page_that_is_no_list_is_named() -> None:
    """The error says which listing and which page."""
    async with Pages({1: page([1], next_page=2), 2: b'{"results": 5}'}).client() as client:
        for read in (client.attempts.list().__aiter__(), client.attempts.list().raw_pages()):
            with pytest.raises(tp.DecodeFailed, match=r"GET /api/v2\.5/admin/attempts/\?page=2"):
                async for _ in read:
                    pass


async def test_the_repr_shows_no_search_text() -> None:
    """A search text can be a person's name."""
    client = tp.Client(ORIGIN, token="t")
    assert repr(client.users.list(q="asha")) == "Listing('/api/v2.5/admin/users/?q=…')"
    assert repr(client.attempts.list(exams=5)) == f"Listing('{ATTEMPTS}?exams=5')"
