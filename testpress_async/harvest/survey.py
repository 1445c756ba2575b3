"""Asks the server how much there is, and cuts lists into shards small enough to be proved complete.

Attempts are cut into windows of days: of the list, ordered by date, one page out of every so many says where;
the day of its first record begins the next window. Content attempts have no filter by creation, so
they are cut by kind, course, state and days of completion as far as counts demand, and only where the parts
add up to the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import islice

import msgspec

from testpress_async.client import Client
from testpress_async.errors import ListingChanged, NotFound
from testpress_async.harvest.shard import DAY, Shard, Window
from testpress_async.listing.listing import Listing
from testpress_async.listing.page import RawPage
from testpress_async.listing.walk import says_past_the_end
from testpress_async.models.enums import ContentAttemptState, ContentType
from testpress_async.models.record import Record

OPEN_DAYS = 1  # before today: the server's day may not have ended where it is
AT_ONCE = 8
FIRST_COMPLETION = date(2015, 1, 1)  # about; what was completed before is in the first window all the same

IGNORED = "the server ignores the date filters, so the list is read as a whole"

UNORDERED = "the server ignores the ordering, so the list is read as a whole"


class _Dated(msgspec.Struct):
    date: object = None  # of attempts
    completed_on: object = None  # of content attempts


_dated = msgspec.json.Decoder(_Dated)


@dataclass(frozen=True, slots=True)
class Piece:
    """A shard and how many records the server says it has; None if it does not say."""

    shard: Shard
    records: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """One page of a shard: the list's *count* and *pages*, and of the page its *records* and their *days*."""

    count: int | None
    pages: int
    records: int
    days: tuple[date, ...]
    row_bytes: float


async def probe(client: Client, shard: Shard, page: int = 1) -> Probe:
    """Ask for one page of *shard*. One request.

    Raises:
        NotFound: The list ends before *page*.
    """
    raw = await listing_of(client, shard).raw_page(page)
    rows = raw.rows[shard.table]
    size = page_size(raw, len(rows))
    pages = max(1, -(-(raw.count or 0) // size))
    row_bytes = sum(map(len, rows)) / max(1, len(rows))
    return Probe(raw.count, pages, len(rows), tuple(days_of(rows)), row_bytes)


async def probed(client: Client, shard: Shard, page: int = 1) -> Probe | None:
    """The same; None if the list ends before *page*, or contradicts itself."""
    try:
        return await probe(client, shard, page)
    except ListingChanged:
        return None
    except NotFound as error:
        if page == 1 or not says_past_the_end(error):
            raise
        return None


def page_size(raw: RawPage, rows: int) -> int:
    """Records on a full page: those that are there, if another page follows; else what the server says."""
    return max(1, rows + len(raw.rejected) if not raw.is_last else raw.per_page or rows)


def days_of(rows: Sequence[bytes]) -> Iterator[date]:
    """The days of the rows that have one, which date filters look at; in the zone each is written in."""
    for row in rows:
        try:
            found = _dated.decode(row)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if (day := day_of(found.date or found.completed_on)) is not None:
            yield day


def day_of(text: object) -> date | None:
    """The day at the beginning of a date as the server writes it; None if there is none."""
    try:
        return _day(text[:10]) if isinstance(text, str) else None
    except ValueError:
        return None


@lru_cache(maxsize=4_096)
def _day(text: str) -> date:
    return date.fromisoformat(text)  # one object for all the records of a day


def today_of(client: Client) -> date:
    """Today in UTC, by the client's clock."""
    return date(1970, 1, 1) + timedelta(days=client.clock.wall_s() // 86_400)


class Surveyor:
    """Cuts shards of one institute. `notes` says what was found odd.

    Args:
        max_pages: Largest shard wanted, in pages.
        today: Its last days are kept apart, as they still grow.
    """

    def __init__(self, client: Client, *, max_pages: int, today: date) -> None:
        self._client, self._max_pages = client, max_pages
        self._open_day = today - OPEN_DAYS * DAY
        self.notes: list[str] = []

    async def attempts(self, shard: Shard, first: Probe, settled: Sequence[Shard] = ()) -> list[Piece]:
        """*shard* cut into windows of days, and what has no date; without windows that are *settled*."""
        if first.count is None or first.pages <= self._max_pages:
            return [Piece(shard, first.count)]
        if settled:
            return await self._unsettled(shard, first, settled)
        calibrated = await self.calibrated(shard, first)
        if calibrated is None:
            self.notes.append(f"{shard.table}: {IGNORED}")
            return [Piece(shard, first.count)]
        whole = calibrated.window
        closed = calibrated.over(whole.meet(Window(None, self._open_day - DAY)))
        still_open = calibrated.over(whole.meet(Window(self._open_day, None)))
        pieces = [] if closed.window.is_empty else await self.windows(closed)
        if not still_open.window.is_empty:
            pieces.append(Piece(still_open, (await probe(self._client, still_open)).count))
        undated = first.count - sum(piece.records or 0 for piece in pieces)
        if whole == Window():
            timeless, reverse = await self._undated(calibrated, first)
            if timeless is not None:
                pieces.append(Piece(timeless, max(1, undated)))
            elif undated > 0 and reverse is not None and reverse.days[:1] <= first.days[:1]:
                self.notes.append(f"{shard.table}: {UNORDERED}")
                return [Piece(shard, first.count)]  # what has no date may stand anywhere
        return pieces

    async def _unsettled(self, shard: Shard, first: Probe, settled: Sequence[Shard]) -> list[Piece]:
        calibrated = msgspec.structs.replace(shard, end_exclusive=settled[0].end_exclusive)
        pieces: list[Piece] = []
        for rest in shard.window.minus(known.window for known in settled):
            closed = rest.meet(Window(None, self._open_day - DAY))
            still_open = rest.meet(Window(self._open_day, None))
            pieces += [] if closed.is_empty else await self.windows(calibrated.over(closed))
            pieces += [] if still_open.is_empty else [Piece(calibrated.over(still_open), None)]
        if shard.window == Window():
            timeless, _ = await self._undated(calibrated, first)
            # Read even if there seems to be none: so those that were there are known to be gone.
            pieces.append(Piece(timeless or msgspec.structs.replace(calibrated, undated=True), None))
        return pieces

    async def _undated(self, shard: Shard, first: Probe) -> tuple[Shard | None, Probe | None]:
        """What has no date, if one of the two orders begins with it; and the beginning of the reverse one."""
        undated = msgspec.structs.replace(shard, undated=True)
        if len(first.days) < first.records:
            return undated, None
        reverse = msgspec.structs.replace(undated, newest_first=True)
        found = await probe(self._client, reverse)
        return (reverse if len(found.days) < found.records else None), found

    async def calibrated(self, shard: Shard, first: Probe) -> Shard | None:
        """*shard*, knowing whether `date_1` includes its day; None if the date filters do nothing.

        A day from the middle of the list is asked for alone. It must bring something, and nothing else.
        """
        middle = await probed(self._client, shard, max(1, first.pages // 2))
        if middle is None or not middle.days:
            return None
        day = middle.days[0]
        shard = msgspec.structs.replace(shard, end_exclusive=False)
        for near in (day, day + DAY, day - DAY):
            window = shard.window.meet(Window(near, near))
            if window.is_empty:
                continue
            found = await self._only(shard.over(window), first)
            if found is not False:
                return shard if found else None
        exclusive = msgspec.structs.replace(shard, end_exclusive=True)
        around = exclusive.over(shard.window.meet(Window(day - DAY, day + DAY)))
        return exclusive if await self._only(around, first) and await self._adds_up(around) else None

    async def _adds_up(self, shard: Shard) -> bool:
        """Whether the few days of *shard* hold what they hold together; else a bound is lost between them."""
        whole = (await probe(self._client, shard)).count
        days = shard.window.cut_before(shard.window.days())
        counts = [(await probe(self._client, shard.over(day))).count or 0 for day in days]
        return sum(counts) == whole

    async def _only(self, shard: Shard, first: Probe) -> bool | None:
        """Whether the shard has records; None if some are of days outside its window."""
        found = await probe(self._client, shard)
        if not found.count:
            return False
        last = found if found.pages == 1 else await probed(self._client, shard, found.pages)
        days = (*found.days, *(last.days if last else ()))
        return True if all(map(shard.window.may_hold, days)) and found.count <= (first.count or 0) else None

    async def windows(self, shard: Shard) -> list[Piece]:
        """A calibrated shard in windows of about `max_pages` pages."""
        whole = await probe(self._client, shard)
        piece = Piece(shard, whole.count)
        if whole.count is None or whole.pages <= self._max_pages:
            return [piece]
        size = -(-whole.count // whole.pages)
        starts: dict[date, int] = {}  # first day of a window → records before it, about
        earlier = whole.days[:1], 0
        async for page, found in self._sampled(shard, sampled_pages(whole.pages, self._max_pages)):
            if found.days:
                here = found.days[:1], (page - 1) * size
                for (day,), rank in (*_between(earlier, here, self._max_pages * size), here):
                    starts.setdefault(day, rank)
                earlier = here
        return cut_at(piece, starts)

    async def _sampled(self, shard: Shard, pages: Iterator[int]) -> AsyncGenerator[tuple[int, Probe], None]:
        """Probes of *pages*, in order, a few at once; what the list has lost meanwhile is one cut less."""
        while some := list(islice(pages, AT_ONCE)):
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(probed(self._client, shard, page)) for page in some]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            found = [(page, one) for page, task in zip(some, tasks, strict=True) if (one := task.result())]
            for each in found:
                yield each
            if not found:
                return  # the count promises far more than there is

    # --- content attempts ------------------------------------------------------------------------------

    async def contents(self, shard: Shard, first: Probe) -> list[Piece]:
        """*shard* cut as far as it is too large and the parts add up.

        By what never changes first. The parts are in the order in which they are to be read (`Shard.stage`).
        """
        courses: list[str] = []
        if self._too_large(first):
            courses = [str(each.id) async for each in self._client.courses.list(bad_records="skip")]
        dimensions = (
            ("content_type", [str(int(each)) for each in ContentType]),
            ("course_ids", courses),
            ("state", [str(each.code) for each in ContentAttemptState]),
        )
        return sorted(await self._cut_by(shard, first, dimensions), key=lambda piece: piece.shard.stage)

    def _too_large(self, found: Probe) -> bool:
        return found.count is not None and found.pages > self._max_pages

    async def _cut_by(
        self, shard: Shard, found: Probe, dimensions: Sequence[tuple[str, list[str]]]
    ) -> list[Piece]:
        if not self._too_large(found):
            return [Piece(shard, found.count)]
        if not dimensions:
            return await self._cut_by_completion(shard, found)
        (name, values), *rest = dimensions
        if name in dict(shard.filters) or len(values) > found.pages:
            return await self._cut_by(shard, found, rest)
        # States backwards: one that goes on to the next meanwhile is counted in neither. Counted in both, it
        # would stand in for one that is in no part.
        parts = [shard.narrowed(name, value) for value in reversed(values)]
        counted = [(part, await probe(self._client, part)) for part in parts]
        total = sum(part.count or 0 for _, part in counted)
        if not total == found.count == (await probe(self._client, shard)).count:
            return await self._cut_by(shard, found, rest)
        # A state that none is in now may be the next one of many; kinds and courses never change.
        return [
            piece
            for part, each in counted
            if each.count or name == "state"
            for piece in await self._cut_by(part, each, rest)
        ]

    async def _cut_by_completion(self, shard: Shard, found: Probe) -> list[Piece]:
        """*shard* in windows of days of completion, the last ones apart; whole if any has no such day."""
        calibrated = await self.calibrated(shard, found)
        if calibrated is None:
            return [Piece(shard, found.count)]
        parts = await self._parted(calibrated, found, self._open_day)
        if parts is None:
            return [Piece(shard, found.count)]
        (closed, before), (still_open, newest) = parts
        last = self._open_day - DAY
        pieces = await self._halved(closed, before, FIRST_COMPLETION, last) if before.count else []
        return [*pieces, Piece(still_open, newest.count)]

    async def _halved(self, shard: Shard, found: Probe, first: date, last: date) -> list[Piece]:
        """*shard*, almost all of which was completed from *first* to *last*, in windows small enough."""
        whole = [Piece(shard, found.count)]
        if not self._too_large(found) or first >= last:
            return whole
        middle = first + (last - first + DAY) // 2
        parts = await self._parted(shard, found, middle)
        if parts is None:
            return whole
        (early, before), (late, after) = parts
        if not before.count:  # nothing to cut off: a window costs a request
            return await self._halved(shard, found, middle, last)
        if not after.count:
            return await self._halved(shard, found, first, middle - DAY)
        return [
            *await self._halved(early, before, first, middle - DAY),
            *await self._halved(late, after, middle, last),
        ]

    async def _parted(
        self, shard: Shard, found: Probe, day: date
    ) -> tuple[tuple[Shard, Probe], tuple[Shard, Probe]] | None:
        """*shard* before *day* and from it on; None if these two do not add up to it."""
        early = shard.over(shard.window.meet(Window(None, day - DAY)))
        late = shard.over(shard.window.meet(Window(day, None)))
        after, before = await probe(self._client, late), await probe(self._client, early)
        if before.count is None or after.count is None:
            return None
        if not before.count + after.count == found.count == (await probe(self._client, shard)).count:
            return None
        return (early, before), (late, after)


def sampled_pages(pages: int, max_pages: int) -> Iterator[int]:
    """Pages to look at: one in four of the places to cut; the calendar judges the ones between."""
    last = 1
    for last in range(4 * max_pages + 1, pages + 1, 4 * max_pages):
        yield last
    if pages - last >= max_pages:
        yield pages - max_pages + 1


Mark = tuple[tuple[date, ...], int]


def _between(earlier: Mark, later: Mark, records: int) -> Iterator[Mark]:
    """Places to cut between two others, evenly, so that about *records* lie between each two."""
    (days, before), ((end,), after) = earlier, later
    parts = -(-(after - before) // records)
    for part in range(1, parts) if days else ():
        yield (days[0] + part * (end - days[0]) // parts,), before + part * (after - before) // parts


def cut_at(piece: Piece, starts: dict[date, int]) -> list[Piece]:
    """*piece* cut before the days in *starts*, which tell how many records come before each."""
    windows = piece.shard.window.cut_before(starts)
    ranks = [0, *(starts[window.first] for window in windows[1:] if window.first), piece.records or 0]
    return [
        Piece(piece.shard.over(window), max(0, after - before))
        for window, before, after in zip(windows, ranks[:-1], ranks[1:], strict=True)
    ]


# --- what a shard asks for -----------------------------------------------------------------------------


def listing_of(client: Client, shard: Shard) -> Listing[Record]:
    """The listing a shard describes; bad records are left to the caller."""
    filters, window = dict(shard.filters), shard.window
    until = window.last + DAY if window.last and shard.end_exclusive else window.last
    listing: object
    match shard.table:
        case "attempts":
            listing = client.attempts.list(
                exams=_ids(filters.get("exams")),
                users=_ids(filters.get("users")),
                state=_id(filters.get("state")),
                started_after=window.first,
                started_before=until,
                ordering="-date" if shard.newest_first else "date",
                bad_records="skip",
            )
        case "content_attempts":
            listing = client.content_attempts.list(
                user_ids=_ids(filters.get("user_ids")),
                course_ids=_ids(filters.get("course_ids")),
                content_type=_id(filters.get("content_type")),
                state=_id(filters.get("state")),
                completed_after=window.first,
                completed_before=until,
                bad_records="skip",
            )
        case "user_answers":
            listing = client.attempts.user_answers(shard.parent or 0, bad_records="skip")
        case "attendance":
            listing = client.video_conferences.attendees(shard.parent or 0, bad_records="skip")
        case _:
            listing = client.exams.list(bad_records="skip")
    return listing  # type: ignore[return-value]


def _ids(text: str | None) -> list[int] | None:
    return None if text is None else [int(each) for each in text.split(",")]


def _id(text: str | None) -> int | None:
    return None if text is None else int(text)
