"""`Listing`: one object for a list behind pages. Await it, iterate it, page it, count it, resume it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TypeVar

from testpress_async.errors import ConfigError, DecodeFailed
from testpress_async.http.caller import Caller
from testpress_async.http.events import PageRead
from testpress_async.http.message import Target, shown
from testpress_async.listing.frames import Framed
from testpress_async.listing.links import warn_of_foreign_next
from testpress_async.listing.page import Page, RawPage
from testpress_async.listing.stream import PageStream, decoded
from testpress_async.listing.token import Position, fingerprint, read_token, write_token
from testpress_async.listing.walk import Walk
from testpress_async.models.frames import ArrowBuilder, BadRecords
from testpress_async.models.pages import Head, PageReader, RawReading, Reading
from testpress_async.models.record import Record

R = TypeVar("R", bound=Record)
T = TypeVar("T")
P = TypeVar("P")
MAX_WINDOW = 256


class Listing(Framed[R]):
    """A list of records behind numbered pages.

    Making one sends nothing. It holds no state of an iteration, so it can be iterated again, and by several
    tasks at once.

        page = await listing                          # first page
        async for record in listing: ...              # one page at a time
        async for record in listing.prefetch(8): ...  # up to 8 pages on the way
        async for page in listing.pages(window=8): ...
        frame = await listing.to_polars(window=8)     # or to_arrow, to_pandas

    Records come in the server's order. An error raised while iterating has a `resume_token`. Leaving the
    loop with `break` stops the traffic in the next turn of the event loop; to have it stopped before going
    on, write ``async with contextlib.aclosing(listing.prefetch(8)) as records:`` around the loop.
    """

    def __init__(
        self,
        caller: Caller,
        target: str,
        reader: PageReader[R],
        *,
        bad_records: BadRecords = "raise",
        start: Position | None = None,
        parent_id: int | None = None,
    ) -> None:
        self._bad_records: BadRecords = bad_records
        if bad_records not in ("raise", "skip"):
            raise ConfigError("bad_records", 'expected "raise" or "skip"')
        self._caller, self._target, self._reader = caller, Target(target), reader
        self._name = fingerprint(target)
        self._start = start or Position(self._name, 1)
        self._parent_id = parent_id  # of what the records belong to, if they do not say it themselves

    def __repr__(self) -> str:
        return f"Listing({shown(self._target)!r})"

    def __await__(self) -> Generator[object, None, Page[R]]:
        """The first page. One request."""
        return self._first().__await__()

    def __aiter__(self) -> AsyncGenerator[R, None]:
        return self._records(window=1)

    def prefetch(self, window: int) -> AsyncGenerator[R, None]:
        """Iterate the records with up to *window* pages requested and not yet taken."""
        return self._records(window)

    def pages(self, window: int = 1) -> PageStream[Page[R]]:
        """Iterate the pages, in order, with up to *window* of them requested and not yet taken.

        The first page comes alone, as its `count` and `per_page` tell how many there are. With
        `bad_records="raise"` a page with a bad record raises and is not handed out; iterate records to get
        its neighbours, or resume with `bad_records="skip"`.
        """
        return self._stream(self._reader.read, self._take_page, window)

    def raw_pages(self, window: int = 1) -> PageStream[RawPage]:
        """Iterate the pages undecoded: the server's own bytes of every record, side-loads included."""
        return self._stream(self._reader.split, self._take_raw_page, window)

    async def raw_page(self, number: int) -> RawPage:
        """Page *number* undecoded. One request.

        Raises:
            NotFound: The listing ends before it.
        """
        response = await self._caller.get(self._target_of(number))
        split = await decoded(partial(self._located, self._reader.split), number, response.body)
        return self._take_raw_page(Walk(shown(self._target), start=number), number, split)

    async def count(self) -> int:
        """The server's own total for this listing. One request.

        Raises:
            DecodeFailed: The answer holds no usable `count`.
        """
        response = await self._caller.get(self._target_of(1))
        count = self._reader.split(response.body).head.count
        if count is None:
            raise DecodeFailed(
                "$.count", "expected a number of at least 0", source=f"GET {shown(self._target)}"
            )
        return count

    async def collect(self, max_items: int | None = None, *, window: int = 1) -> list[R]:
        """All records as a list, or the first *max_items*. No page beyond those is asked for."""
        found: list[R] = []
        async with contextlib.aclosing(self._batches(max_items, window)) as batches:
            async for items in batches:
                found.extend(items)
        return found

    def resume(self, token: str) -> Listing[R]:
        """The same listing from where *token* was taken: `page.token` or an error's `resume_token`.

        A page number is only as stable as the collection: records deleted meanwhile shift the rest.

        Raises:
            ConfigError: The token is damaged or belongs to another path or other filters.
        """
        start = read_token(token, self._name)
        return Listing(
            self._caller,
            self._target,
            self._reader,
            bad_records=self._bad_records,
            start=start,
            parent_id=self._parent_id,
        )

    # --- inside ------------------------------------------------------------------------------------

    async def _first(self) -> Page[R]:
        async with contextlib.aclosing(self.pages()) as pages:
            async for page in pages:
                return page
        # Only a resumed listing can be without a page: it has ended meanwhile, nothing is left.
        return Page(self._start.page, [], None, None, True, self._token(self._start.page), {}, ())

    async def _batches(self, max_items: int | None, window: int) -> AsyncGenerator[Sequence[R], None]:
        """The items of each page, up to *max_items* of them. No page beyond those is asked for."""
        if max_items is not None and max_items < 0:
            raise ConfigError("max_items", "expected a number of at least 0")
        left = sys.maxsize if max_items is None else max_items
        if not left:
            return
        async with contextlib.aclosing(self.pages(window)) as pages:
            async for page in pages:
                yield page.items[:left] if left < len(page.items) else page.items
                left -= len(page.items)
                if left <= 0:
                    return

    def _builder(self) -> ArrowBuilder:
        return ArrowBuilder(self._reader.table, bad_records=self._bad_records, parent_id=self._parent_id)

    async def _records(self, window: int) -> AsyncGenerator[R, None]:
        async with contextlib.aclosing(self._stream(self._reader.read, self._take, window)) as stream:
            async for number, reading in stream:
                skip = self._skip(number)
                if not reading.rejected:
                    for record in reading.items[skip:] if skip else reading.items:
                        yield record
                    continue
                for index, record in _in_place(reading):
                    if index < skip:
                        continue
                    if not isinstance(record, DecodeFailed):
                        yield record
                    elif self._bad_records == "raise":
                        record.resume_token = self._token(number, index + 1)
                        raise record
                if self._bad_records == "raise" and len(reading.rejected) > len(reading.rejected_at):
                    error = reading.rejected[-1]  # a bad side-load: this page's records are out already
                    error.resume_token = self._token(number + 1)
                    raise error

    def _stream(
        self, read: Callable[[bytes], T], take: Callable[[Walk, int, T], P], window: int
    ) -> PageStream[P]:
        if not 1 <= window <= MAX_WINDOW:
            raise ConfigError("window", f"expected a number from 1 to {MAX_WINDOW}")
        return PageStream(
            self._caller,
            Walk(shown(self._target), start=self._start.page, window=window),
            target_of=self._target_of,
            read=partial(self._located, read),
            take=take,
            token_of=lambda number: self._token(number, self._skip(number)),
            window=window,
        )

    def _target_of(self, page: int) -> str:
        if page == 1:
            return str(self._target)
        return f"{self._target}{'&' if '?' in self._target else '?'}page={page}"

    def _skip(self, page: int) -> int:
        return self._start.offset if page == self._start.page else 0

    def _token(self, page: int, offset: int = 0) -> str:
        return write_token(Position(self._name, page, offset))

    def _take(self, walk: Walk, number: int, reading: Reading[R]) -> tuple[int, Reading[R]]:
        walk.took(number, reading.head, reading.items)
        self._report(number, len(reading.items), len(reading.rejected), reading.head)
        for error in reading.rejected:
            error.source = f"GET {shown(self._target_of(number))}"
        return number, reading

    def _located(self, read: Callable[[bytes], T], number: int, body: bytes) -> T:
        """What *read* makes of *body*; its error says which listing and page it is about. Any thread."""
        try:
            return read(body)
        except DecodeFailed as error:
            error.source = f"GET {shown(self._target_of(number))}"
            raise

    def _report(self, number: int, records: int, rejected: int, head: Head) -> None:
        warn_of_foreign_next(self._caller.session, self._reader.table, head.next)
        if emit := self._caller.emit:
            url, count = shown(self._target), head.count
            emit(PageRead(url=url, page=number, records=records, rejected=rejected, count=count))

    def _take_page(self, walk: Walk, number: int, reading: Reading[R]) -> Page[R]:
        self._take(walk, number, reading)
        items: Sequence[R] = reading.items
        rejected = reading.rejected
        if skip := self._skip(number):
            rejected = rejected[sum(i < skip for i, _ in reading.rejected_at) :]  # those before are known
            items = [r for i, r in _in_place(reading) if i >= skip and not isinstance(r, DecodeFailed)]
        if rejected and self._bad_records == "raise":
            raise rejected[0]
        head = reading.head
        return Page(
            number,
            items,
            head.count,
            head.per_page,
            head.next is None,
            self._token(number + 1),
            reading.tables,
            rejected,
        )

    def _take_raw_page(self, walk: Walk, number: int, raw: RawReading) -> RawPage:
        head, rows = raw.head, raw.rows
        primary = rows[self._reader.table]
        walk.took(number, head, primary)
        self._report(number, len(primary), len(raw.rejected), head)
        token = self._token(number + 1)
        return RawPage(number, rows, head.count, head.per_page, head.next is None, token, raw.rejected)


def _in_place(reading: Reading[R]) -> Iterator[tuple[int, R | DecodeFailed]]:
    """Records and rejections with their index on the page, in the server's order."""
    rejected = dict(reading.rejected_at)
    records = iter(reading.items)
    for index in range(len(reading.items) + len(rejected)):
        yield index, rejected[index] if index in rejected else next(records)
