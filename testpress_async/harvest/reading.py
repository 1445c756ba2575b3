"""One shard read until it is proved complete, or honestly not."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from tempfile import TemporaryFile, gettempdir
from typing import IO, Final

import msgspec

from testpress_async.client import Client
from testpress_async.errors import ListingChanged, NotFound, PermissionDenied
from testpress_async.harvest.certificate import Status, Sweep, WholeNumbers, different
from testpress_async.harvest.files import unusable
from testpress_async.harvest.shard import DAY, PARENTS, SIDE_TABLES, Shard, Window
from testpress_async.harvest.survey import Piece, Surveyor, day_of, listing_of, page_size, probe, probed
from testpress_async.listing.listing import Listing
from testpress_async.listing.page import RawPage
from testpress_async.listing.walk import says_no_such_record, says_past_the_end
from testpress_async.models.enums import AttemptState
from testpress_async.models.exams import Exam
from testpress_async.models.people import User

PATIENCE: Final = 3  # changes of a list before it is halved
LAST_PATIENCE: Final = 16  # changes of one that cannot be
YOUNG_DAYS: Final = 7  # younger windows need a closing probe: late uploads go there
MAX_PARTS: Final = 32  # into which a busy day is divided
STATES: Final = (AttemptState.NOT_STARTED, AttemptState.RUNNING, AttemptState.COMPLETED)
FRESH_ANSWERS: Final = 100  # after which the newest attempt is looked for again
RESTLESS_ANSWERS: Final = 25  # the same where lists have changed while they were read
LONG_AGO: Final = date(2000, 1, 1)  # before all attempts, but what has no date is not after it
MAX_EMPTY_PAGES: Final = 1_000  # in a row, after which a list is taken to have no end
ENOUGH_CHANGES: Final = 4  # before they say how restless an institute is
NEAR_BYTES: Final = 4 << 20  # pages of a shard stay in memory up to here, beyond that in a temporary file
WITHOUT_ID: Final = ("attendance", "exams")  # the documentation shows no id for these


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that is not usable: its bytes and why."""

    table: str
    raw: bytes
    reason: str


@dataclass(slots=True)
class Rows:
    """The records of one answer."""

    lines: list[bytes]
    ids: list[object]
    bad: list[Bad]
    sides: dict[str, list[bytes]]
    days: tuple[date, ...] = ()
    running: tuple[date, ...] = ()

    @property
    def data_bytes(self) -> int:
        return sum(sum(map(len, lines)) for lines in (self.lines, *self.sides.values()))

    def may_be_in(self, window: Window) -> bool:
        """Whether none is of a day that the window cannot hold."""
        return not self.days or (window.may_hold(min(self.days)) and window.may_hold(max(self.days)))

    @property
    def seen(self) -> list[object]:
        """What the sweep counts: bad records are records, too."""
        return [*self.ids, *(None for bad in self.bad if bad.table not in self.sides)]


@dataclass(slots=True)
class Outcome:
    """What reading a shard came to.

    Attributes:
        agrees: Whether one pass brought as many different records as all its answers counted.
        pages: Its answers, to be landed; empty if it is to be read in `parts` instead.
        passes: How often the list had changed and was gone through again, plus one.
        running: Attempts in it that may still go on.
        gone: Whether the parent does not exist any more.
    """

    status: Status = "certified"
    count: int | None = None
    agrees: bool = False
    passes: int = 1
    running: int = 0
    pages: Iterable[Rows] = ()
    parts: Sequence[Piece] = ()
    gone: bool = False


class _NoCount(Exception):
    """The server does not say how many records the list has."""


class Reader:
    """Reads shards of one institute.

    Args:
        today: Younger records than a day before may still change or come.
        max_pages: A window with more pages is halved before it is read.
        strict: Read everything twice and believe only what came twice the same.
    """

    def __init__(self, client: Client, *, today: date, max_pages: int, strict: bool = False) -> None:
        self._client, self.today = client, today
        self._max_pages, self._strict = max_pages, strict
        self._newest_id: int | None = None  # of attempts: their ids rise
        self._newest_at = self._answers = 0
        self._learning = asyncio.Lock()
        self._unrest = Unrest()
        self._exam_ids: list[str] | None = None
        self._user_ids: list[str] | None = None
        self._stages = _Stages()

    async def read(self, piece: Piece, page_records: int = 1) -> Outcome:
        """Read a shard.

        Args:
            page_records: Records on a full page, as far as they are known.
        Raises:
            NotFound: Page 1 of a list does not exist; or a page or a parent does not, but it is not the
                server itself that says so.
        """
        try:
            async with self.turn(piece.shard):
                return await self._read(piece, -(-(piece.records or 0) // page_records))
        except NotFound as error:
            if piece.shard.parent is None or not says_no_such_record(error):
                raise
            return Outcome(gone=True)

    def turn(self, shard: Shard) -> AbstractAsyncContextManager[None]:
        """Waits until no shard of an earlier stage is read, and lets those of later ones wait."""
        return self._stages.turn(shard.stage)

    # --- ways to read ------------------------------------------------------------------------------------

    async def _read(self, piece: Piece, expected_pages: int) -> Outcome:
        shard = piece.shard
        if shard.table == "attempt_details":
            return await self._detail(shard)
        if shard.undated:
            return await self._undated(shard)
        try:
            if shard.table == "attempts" and self._is_open(shard.window):  # it grows at its end only
                return await self._once(shard, expected_pages)
            if smaller := self._smaller(piece, expected_pages):
                return Outcome(parts=smaller)
            seen = Pages()
            found = await self._perfect(shard, expected_pages, seen)
            if found is None:
                return await self._all_seen(shard, expected_pages, seen)
            if found.parts or not self._strict:
                return found
            return await self._twice(shard, expected_pages, found)
        except _NoCount:
            return await self._walk(shard)

    async def _detail(self, shard: Shard) -> Outcome:
        body = await self._client.attempts.get_raw(shard.parent or 0)
        return Outcome(pages=[rows_of(shard.table, [body])], agrees=True)

    async def _perfect(
        self, shard: Shard, expected_pages: int, seen: Pages, *, patient: bool = False
    ) -> Outcome | None:
        """A perfect read, or the parts to read instead; None if there is neither: *seen* is what came.

        Args:
            patient: Nothing else is left to try: read on however restless it is.
        """
        ours = shard.table == "attempts"
        divisible = ours and not shard.window.is_one_day
        unruly = not ours and shard.parent is None  # in an order of the server's own, and it grows
        sweep = Sweep(
            first_guess=max(1, expected_pages) if unruly else 1,
            in_turn=unruly,
            closing_probe=self._needs_probe(shard),
            patience=PATIENCE if divisible else LAST_PATIENCE,
            newest_id=(lambda: self._newest_id) if ours else None,
        )
        pages, strange, disturbances = Pages(), False, 0
        while (number := sweep.wanted()) is not None:
            if ours and not sweep.pages and max(expected_pages, sweep.last_page) > 1:
                await self._learn_newest(within=0 if sweep.grown else self._freshness)
            rows, kept = await self._page(shard, sweep, number)
            if rows is None:
                continue
            strange = strange or not rows.may_be_in(shard.window)
            before = pages.put(number, rows) if kept else rows
            if before is not None:
                seen.add(before)
            if ours:
                self._unrest.note(sweep.last_page, sweep.disturbances - disturbances)
                disturbances = sweep.disturbances
            changed = sweep.disturbances > 0
            hopeless = not patient and (divisible or (ours and changed))
            if hopeless and sweep.last_page > self._largest:
                break  # far more than planned, or than holds still
        if strange:
            return None  # the server ignores the window after all
        if sweep.perfect:
            return self._outcome(shard, sweep, pages)
        parts = await self._parts(shard, pages, sweep.last_page) if divisible else []
        if parts:
            return Outcome(parts=parts)
        for rows in pages.all():
            seen.add(rows)
        if not ours or not shard.window.is_one_day or patient:
            return None
        return await self._divided(shard, expected_pages) or await self._perfect(
            shard, expected_pages, seen, patient=True
        )

    async def _divided(self, shard: Shard, expected_pages: int) -> Outcome | None:
        """A busy day read in parts that add up to it: by exam, state or user; None if no division does."""
        for name, values_of in (("exams", self._exams), ("state", self._states), ("users", self._users)):
            values = await values_of(shard)
            if not 1 < len(values) <= MAX_PARTS:
                continue
            if found := await self._in_parts(shard, name, values, expected_pages):
                return found
        return None

    async def _in_parts(
        self, shard: Shard, name: str, values: Sequence[str], expected_pages: int
    ) -> Outcome | None:
        """*shard* read by the *values* of a filter; None unless the parts add up to it, before and after."""
        parts, moves = [shard.narrowed(name, value) for value in values], name == "state"
        whole = (await probe(self._client, shard)).count
        counts = [(await probe(self._client, part)).count or 0 for part in parts]
        if not sum(counts) == whole == (await probe(self._client, shard)).count:
            return None  # an unknown exam, or an attempt came or went while they were counted
        merged, pages, came = Outcome(agrees=True, count=0), list[Iterable[Rows]](), 0
        for part, count in zip(parts, counts, strict=True):
            if not (count or moves):  # a state that none is in now may be the next one of many
                continue
            found = await self._perfect(part, expected_pages, Pages(), patient=True)
            if found is None:
                return None
            pages.append(found.pages)
            came += different(rows.ids for rows in found.pages)
            merged.count = (merged.count or 0) + (found.count or 0)
            merged.passes += found.passes
            merged.running += found.running
            merged.status = found.status if found.status != "certified" else merged.status
        merged.pages = _Together(tuple(pages))
        left = (await probe(self._client, shard)).count
        if left is None or left > (merged.count or 0) or (moves and not left == merged.count == whole):
            return None  # one is in no part that was read, or may have gone to one before it was left
        twice = different(rows.ids for rows in merged.pages) != came
        return None if twice else merged  # one went from part to part between their reads

    async def _exams(self, shard: Shard) -> list[str]:
        chosen = dict(shard.filters).get("exams")
        if chosen is not None:
            return chosen.split(",")
        if self._exam_ids is None:
            self._exam_ids = await _known(self._client.exams.list(bad_records="skip"))
        return self._exam_ids

    async def _states(self, shard: Shard) -> list[str]:
        """In the order in which an attempt goes through them: it is not missed by the reads of two."""
        return [] if "state" in dict(shard.filters) else [str(state.code) for state in STATES]

    async def _users(self, shard: Shard) -> list[str]:
        chosen = dict(shard.filters).get("users")
        if chosen is not None:
            return chosen.split(",")
        if self._user_ids is None:
            self._user_ids = await _known(self._client.users.list(bad_records="skip"))
        return self._user_ids

    def _smaller(self, piece: Piece, expected_pages: int) -> list[Piece]:
        """Halves of a window that would hardly ever hold still as long as it takes to read it."""
        window = piece.shard.window
        if piece.shard.end_exclusive is None or expected_pages < 2 * self._unrest.calm_pages:
            return []
        halves = window.halves(())
        records = (piece.records or 0) // len(halves)
        return [Piece(piece.shard.over(half), records) for half in halves] if len(halves) > 1 else []

    @property
    def _largest(self) -> float:
        """Pages of a window that is better halved than begun."""
        return min(2 * self._max_pages, 1.5 * self._unrest.calm_pages)

    @property
    def _freshness(self) -> int:
        """Answers after which the newest attempt is looked for again."""
        return FRESH_ANSWERS if math.isinf(self._unrest.calm_pages) else RESTLESS_ANSWERS

    async def _learn_newest(self, *, within: int) -> None:
        """See the newest attempt, or what is younger than the last one seen looks new.

        Args:
            within: Answers since it was last seen that do no harm.
        """
        async with self._learning:
            if self._newest_id is not None and self._answers - self._newest_at < within:
                return
            newest = Shard(table="attempts", newest_first=True, window=Window(LONG_AGO, None))
            raw = await listing_of(self._client, newest).raw_page(1)
            self._note_newest(rows_of(newest.table, raw.rows[newest.table]))
            self._newest_at = self._answers

    def _note_newest(self, rows: Rows) -> None:
        ids = (each for each in rows.ids if isinstance(each, int))
        self._newest_id = max(self._newest_id or 0, max(ids, default=0))

    async def _all_seen(self, shard: Shard, expected_pages: int, seen: Pages) -> Outcome:
        """What cannot be proved: one more pass, and whatever the others saw besides.

        From the last page to the first where the server's pages can be trusted: deletions cost nothing then.
        Attempts come with dates of long ago, too: those cost nothing on the way back.
        """
        found = await self._once(shard, expected_pages)
        if shard.table == "attempts" and found.status != "unverified":
            for rows in found.pages:
                seen.add(rows)
            found = await self._walk(shard)
        found.status, found.agrees = "unverified", False
        found.pages = _Besides(found.pages, seen)
        return found

    async def _parts(self, shard: Shard, pages: Pages, last_page: int) -> list[Piece]:
        """Smaller shards that together are *shard*; none if it cannot be cut."""
        if shard.end_exclusive is None:  # never calibrated, as it was small
            surveyor = Surveyor(self._client, max_pages=max(1, last_page // 2), today=self.today)
            pieces = await surveyor.attempts(shard, await probe(self._client, shard))
            return [piece for piece in pieces if piece.shard != shard]
        days = pages.days()
        if len(pages) == 1 and (found := await probed(self._client, shard, max(1, last_page // 2))):
            days = list(found.days)
        halves = shard.window.halves(days)
        return [Piece(shard.over(half), None) for half in halves] if len(halves) > 1 else []

    async def _twice(self, shard: Shard, expected_pages: int, first: Outcome) -> Outcome:
        """Two perfect reads with the same records are the list as it was at one moment between them."""
        for _ in range(LAST_PATIENCE):
            second = await self._perfect(shard, expected_pages, Pages())
            if second is None:
                break
            if second.parts:
                return second
            second.passes += first.passes
            if _digest(first) == _digest(second):
                return second
            first = second
        return await self._walk(shard)

    async def _once(self, shard: Shard, expected_pages: int) -> Outcome:
        """One pass from the last page to the first: what stays in the list throughout is in it."""
        sweep = Sweep(first_guess=max(1, expected_pages), once=True, patience=10_000)
        pages, misses = Pages(), 0
        while (number := sweep.wanted()) is not None:
            rows, kept = await self._page(shard, sweep, number)
            if rows is not None and kept:
                pages.put(number, rows)
            misses += not kept
            if misses > LAST_PATIENCE or not (rows is None or rows.may_be_in(shard.window)):
                # The count promises pages that are not there, or the server ignores the window.
                return await self._walk(shard)
        found = self._outcome(shard, sweep, pages)
        found.status = "open"
        return found

    async def _walk(self, shard: Shard) -> Outcome:
        """From page to page as `next` leads, proving nothing."""
        pages = Pages()
        with suppress(ListingChanged):
            async for raw in self._walked(shard):
                pages.put(raw.number, split(shard, raw))
        return Outcome(status="unverified", pages=pages.all())

    async def _walked(self, shard: Shard) -> AsyncGenerator[RawPage, None]:
        """Pages as `next` leads.

        Raises:
            ListingChanged: The server contradicts itself, or names a next page for ever.
        """
        empty = 0
        async with aclosing(listing_of(self._client, shard).raw_pages()) as walk:
            async for raw in walk:
                yield raw
                empty = 0 if raw.rows[shard.table] or raw.rejected else empty + 1
                if empty > MAX_EMPTY_PAGES:
                    raise ListingChanged(shard.table, raw.number, f"{empty} pages without a record")

    async def _undated(self, shard: Shard) -> Outcome:
        """What has no date stands before everything else in the shard's order, so nothing dated can move it.

        Two passes that brought the same records are what there was at one moment between them. One is enough
        if the list kept its count and nothing in it got its date meanwhile.
        """
        seen, last, tried = Pages(), None, 0
        for tried in range(PATIENCE + 2):
            found, still = await self._pass(shard)
            if still or (last is not None and found.proves(last)):
                passes = max(1, tried)
                return Outcome(count=found.records, agrees=True, passes=passes, pages=found.pages.all())
            for rows in found.pages.all():
                seen.add(rows)
            if not found.in_order:
                rest = await self._scattered(shard, seen)
                return Outcome(status="unverified", pages=_Besides(found.pages.all(), rest))
            last = found
        return Outcome(
            status="unverified", passes=tried, pages=_Besides(last.pages.all() if last else (), seen)
        )

    async def _pass(self, shard: Shard) -> tuple[_Prefix, bool]:
        """What has no date, and whether this pass alone proves it: nothing moved past it between its pages.

        An attempt that gets its date moves the others up and changes no count of the list. But then fewer
        are without one when the pass ends than there were, by the counts, before it began.
        """
        if self._strict:
            return await self._prefix(shard), False
        first = await self._prefix(shard, pages=1)
        if first.is_steady:
            return first, True  # one answer has no page boundary to move across
        timely = msgspec.structs.replace(
            shard, undated=False, newest_first=False, window=Window(LONG_AGO, None)
        )
        dated = await probed(self._client, timely)
        found = await self._prefix(shard)  # from page 1 on: the count before and after *dated* must agree
        found.counts |= first.counts
        before = {None if dated is None or dated.count is None else dated.count + found.records}
        return found, found.is_steady and found.counts == before

    async def _prefix(self, shard: Shard, pages: int | None = None) -> _Prefix:
        """What has no date, from the beginning up to the first record that has one, or in so many pages."""
        found = _Prefix()
        try:
            async with aclosing(self._walked(shard)) as walk:
                async for raw in walk:
                    found.take(shard.table, raw)
                    if found.ended or len(found.pages) == pages:
                        break
        except ListingChanged:
            found.whole = False
        return found

    async def _scattered(self, shard: Shard, seen: Pages) -> Pages:
        """*seen*, and what else has no date, wherever it stands: the server ignores the order."""
        with suppress(ListingChanged):
            async for raw in self._walked(shard):
                seen.add(rows_of(shard.table, raw.rows[shard.table], dated=False))
        return seen

    # --- steps -------------------------------------------------------------------------------------------

    async def _page(self, shard: Shard, sweep: Sweep, number: int) -> tuple[Rows | None, bool]:
        """Read one page and tell *sweep*; None if there is none. And whether it is part of the read."""
        self._answers += 1
        try:
            raw = await listing_of(self._client, shard).raw_page(number)
        except NotFound as error:
            if number == 1:
                raise
            if says_past_the_end(error):
                sweep.missing(number)
            else:
                sweep.contradicted()
            return None, False
        except ListingChanged:
            sweep.contradicted()
            return None, False
        rows = split(shard, raw)
        if shard.table == "attempts":
            self._note_newest(rows)
        primary = rows.seen
        count = len(primary) if raw.count is None and raw.is_last and number == 1 else raw.count
        if count is None:
            raise _NoCount
        size = page_size(raw, len(primary))
        return rows, sweep.took(number, count, primary, size=size, is_last=raw.is_last)

    def _outcome(self, shard: Shard, sweep: Sweep, pages: Pages) -> Outcome:
        kept = pages.outlines(sweep.pages)
        running = [day for rows in kept for day in rows.running]
        open_day = self.today - DAY
        grows = shard.table == "attempts" and any(day >= open_day for rows in kept for day in rows.days[-1:])
        lively = any(day >= self.today - YOUNG_DAYS * DAY for day in running)
        return Outcome(
            status="open" if grows or lively else "certified",
            count=sweep.count,
            agrees=sweep.perfect,
            passes=1 + sweep.disturbances,
            running=len(running),
            pages=pages.only(sweep.pages, unique=sweep.thinned),
        )

    def _is_open(self, window: Window) -> bool:
        return window.first is not None and window.first >= self.today - DAY

    def _needs_probe(self, shard: Shard) -> bool:
        if shard.table in PARENTS:
            return self._strict
        last = shard.window.last
        return self._strict or last is None or last > self.today - YOUNG_DAYS * DAY


async def _known(listing: Listing[Exam] | Listing[User]) -> list[str]:
    """The ids of a list, or more of them than are of use; none if it cannot be had."""
    try:
        found = await listing.collect(max_items=MAX_PARTS + 1)
    except (ListingChanged, NotFound, PermissionDenied):
        return []
    return [str(each.id) for each in found if isinstance(each.id, int)]


class _Stages:
    """Lets reads of a later stage begin when no read of an earlier one goes on any more."""

    def __init__(self) -> None:
        self._reading = Counter[int]()
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def turn(self, stage: int) -> AsyncGenerator[None]:
        while any(count for earlier, count in self._reading.items() if earlier < stage):
            await self._ended.wait()
        self._reading[stage] += 1
        try:
            yield
        finally:
            self._reading[stage] -= 1
            self._ended.set()
            self._ended = asyncio.Event()


class Unrest:
    """How fast windows change, and so how large one may be to hold still while it is read.

    A window of twice the size changes twice as often, and takes twice as long to read.
    """

    def __init__(self) -> None:
        self._changes, self._exposure = 0, 0

    def note(self, pages: int, changes: int) -> None:
        """A window of *pages* pages changed so often before another of its answers."""
        self._changes += changes
        self._exposure += pages

    @property
    def calm_pages(self) -> float:
        """Pages of a window that changes during one read out of four."""
        if self._changes < ENOUGH_CHANGES:
            return math.inf
        return max(1.0, math.sqrt(self._exposure / (4 * self._changes)))


class Pages:
    """Answers by number, in memory or, if they are many, in a temporary file."""

    def __init__(self) -> None:
        self._rows: dict[int, Rows] = {}
        self._near_bytes = 0
        self._far: IO[bytes] | None = None
        self._places: dict[int, tuple[int, int]] = {}  # of those in the file: where, and how many bytes

    def __len__(self) -> int:
        return len(self._rows)

    def __del__(self) -> None:
        if self._far is not None:
            self._far.close()

    def put(self, number: int, rows: Rows) -> Rows | None:
        """Keep *rows* as page *number*, instead of what it was before, which is returned.

        Raises:
            DatasetError: There is no room for temporary files.
        """
        before = self.get(number)
        if before is not None and self._places.pop(number, None) is None:
            self._near_bytes -= before.data_bytes
        self._rows[number] = rows
        self._near_bytes += rows.data_bytes
        if self._near_bytes > NEAR_BYTES:
            self._write(number, rows)
        return before

    def add(self, rows: Rows) -> None:
        """Keep *rows* after the others."""
        self.put(len(self._rows) + 1, rows)

    def get(self, number: int) -> Rows | None:
        """Page *number*, whole."""
        rows = self._rows.get(number)
        if rows is None or number not in self._places or self._far is None:
            return rows
        start, size = self._places[number]
        self._far.seek(start)
        lines, sides, ids = _stored.decode(self._far.read(size))
        return replace(rows, lines=lines, ids=_ids.decode(ids), sides=sides)

    def all(self) -> Iterable[Rows]:
        """Every page there is, in order."""
        return self.only(sorted(self._rows))

    def outlines(self, numbers: Iterable[int]) -> list[Rows]:
        """These pages, with their days; what is in the file stays there."""
        return [self._rows[number] for number in numbers if number in self._rows]

    def days(self) -> list[date]:
        return [day for rows in self._rows.values() for day in rows.days]

    def only(self, numbers: Iterable[int], *, unique: bool = False) -> Iterable[Rows]:
        """These pages, whole, in order; *unique*: of what moved from one to another, the later reading."""
        return _Chosen(self, tuple(numbers), unique)

    def _write(self, number: int, rows: Rows) -> None:
        data = msgspec.msgpack.encode((rows.lines, rows.sides, msgspec.json.encode(rows.ids)))
        try:
            if self._far is None:
                self._far = TemporaryFile()  # noqa: SIM115 - lives as long as the pages
            start = self._far.seek(0, 2)
            self._far.write(data)
            self._far.flush()
        except OSError as error:
            raise unusable(gettempdir(), error) from error
        self._places[number] = (start, len(data))
        self._near_bytes -= rows.data_bytes
        self._rows[number] = replace(rows, lines=[], ids=[], sides={})


_stored = msgspec.msgpack.Decoder(tuple[list[bytes], dict[str, list[bytes]], bytes])
_ids = msgspec.json.Decoder(list[object])  # JSON, as ids may be larger than what MessagePack has room for


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some of the pages; can be gone through again, and holds one of them in memory at a time."""

    pages: Pages
    numbers: tuple[int, ...]
    unique: bool

    def __iter__(self) -> Iterator[Rows]:
        seen: set[object] = set()
        for rows in filter(None, map(self.pages.get, self.numbers)):
            yield _without(rows, seen) if self.unique else rows


@dataclass(frozen=True, slots=True)
class _Together:
    """All these pages, as often as they are gone through."""

    parts: tuple[Iterable[Rows], ...]

    def __iter__(self) -> Iterator[Rows]:
        return itertools.chain.from_iterable(self.parts)


@dataclass(frozen=True, slots=True)
class _Besides:
    """*pages*, and what *others* have that these do not; of that, the newest reading."""

    pages: Iterable[Rows]
    others: Pages

    def __iter__(self) -> Iterator[Rows]:
        seen: set[object] = {None}  # what has no id cannot be told from what is there
        for rows in self.pages:
            seen.update(rows.ids)
            yield rows
        for number in range(len(self.others), 0, -1):
            if rows := self.others.get(number):
                yield replace(_without(rows, seen), bad=[])


@dataclass(slots=True)
class _Prefix:
    """Records from the beginning of a list to the first that has a date.

    Attributes:
        records: How many came, `ids` which.
        counts: What the answers said the whole list holds.
        ended: Whether the first with a date came.
        in_order: Whether none without a date came after it.
        whole: Whether the server let us read so far.
    """

    pages: Pages = field(default_factory=Pages)
    ids: WholeNumbers = field(default_factory=WholeNumbers)
    records: int = 0
    counts: set[int | None] = field(default_factory=set[int | None])
    bad: bool = False
    ended: bool = False
    in_order: bool = True
    whole: bool = True

    def take(self, table: str, raw: RawPage) -> None:
        """Another page of the list, record by record."""
        here = Rows([], [], list(_rejected(table, raw)), {})
        for one in (rows_of(table, [each]) for each in raw.rows[table]):
            if one.days:
                self.ended = True
            elif one.bad:
                here.bad += one.bad
            elif self.ended:
                self.in_order = False
            else:
                here.ids += one.ids
                here.lines += one.lines
        self.records += len(here.ids)
        self.ids.add(each for each in here.ids if isinstance(each, int))  # as every attempt's is
        self.counts.add(raw.count)
        self.bad = self.bad or bool(here.bad)
        self.pages.add(here)

    @property
    def is_steady(self) -> bool:
        """Whether it may be proved without another pass: one count in every answer, each record once."""
        once = len(self.ids) == self.records and not self.bad
        counted = len(self.counts) == 1 and None not in self.counts
        return once and counted and self.ended and self.in_order and self.whole

    def proves(self, last: _Prefix) -> bool:
        """Whether the pass before brought exactly the same records, each once."""
        once = len(self.ids) == self.records == last.records
        return self.whole and last.whole and once and self.ids == last.ids


# --- records -------------------------------------------------------------------------------------------


class _Row(msgspec.Struct):
    id: object = None
    date: object = None
    state: object = None


_row = msgspec.json.Decoder(_Row)
_all_rows = msgspec.json.Decoder(list[_Row])


def split(shard: Shard, raw: RawPage) -> Rows:
    """The records of a page, checked for an id."""
    rows = rows_of(shard.table, raw.rows[shard.table])
    rows.bad += _rejected(shard.table, raw)
    for side in SIDE_TABLES.get(shard.table, ()):
        lines: list[bytes] = []
        for each in raw.rows.get(side, ()):
            line = one_line(each)
            if _usable(side, line) is None:
                rows.bad.append(Bad(side, each, _NO_ID))
            else:
                lines.append(line)
        rows.sides[side] = lines
    return rows


def _rejected(table: str, raw: RawPage) -> Iterator[Bad]:
    """What was no record at all, and the table it stood in: at `$.results[…]` or `$.results.users[…]`."""
    for error in raw.rejected:
        name = error.path.removeprefix("$.results").lstrip(".").partition("[")[0] or table
        if name == table or name in SIDE_TABLES.get(table, ()):  # nothing is landed of other lists
            yield Bad(name, error.raw, str(error))


_NO_ID = "expected an object with a whole number as `id`"


def rows_of(table: str, raw: Sequence[bytes], *, dated: bool = True) -> Rows:
    """Lines and ids of *raw*; only what has no date unless *dated*."""
    lines, bad = _lines(raw), list[Bad]()
    found = _all_usable(lines)
    if found is None:
        each = [(line, _usable(table, line)) for line in lines]
        bad = [
            Bad(table, as_sent, _NO_ID) for as_sent, (_, row) in zip(raw, each, strict=True) if row is None
        ]
        lines = [line for line, row in each if row is not None]
        found = [row for _, row in each if row is not None]
    days = _days(found)
    running = [day for row, day in zip(found, days, strict=True) if day and row.state == "Running"]
    if not dated:
        lines = [line for line, day in zip(lines, days, strict=True) if day is None]
        found = [row for row, day in zip(found, days, strict=True) if day is None]
    ids = [row.id for row in found]
    return Rows(lines, ids, bad, {}, days=tuple(filter(None, days)), running=tuple(running))


def _lines(raw: Sequence[bytes]) -> list[bytes]:
    whole = b",".join(raw)
    return list(raw) if _is_one_line(whole) else [one_line(each) for each in raw]


def _all_usable(lines: Sequence[bytes]) -> list[_Row] | None:
    """The rows in one go, if they all have a whole number as their id; else None."""
    try:
        found = _all_rows.decode(b"[%b]" % b",".join(lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    usable = len(found) == len(lines) and {type(row.id) for row in found} <= {int}
    return found if usable else None


def _days(rows: Sequence[_Row]) -> list[date | None]:
    """The day of each; few are different on a page."""
    texts = [row.date[:10] if isinstance(row.date, str) else "" for row in rows]
    known = {text: day_of(text) for text in set(texts)}
    return [known[text] for text in texts]


def _usable(table: str, line: bytes) -> _Row | None:
    """The row if it is an object with a whole number as its id, or needs none."""
    if not line.startswith(b"{"):
        return None
    try:
        found = _row.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found.id, int) and not isinstance(found.id, bool):
        return found
    return found if table in WITHOUT_ID and (found.id is None or isinstance(found.id, str)) else None


def one_line(row: bytes) -> bytes:
    """*row* without line breaks between its tokens; texts and numbers stay as the server wrote them."""
    return row if _is_one_line(row) else msgspec.json.format(row, indent=-1)


def _is_one_line(text: bytes) -> bool:
    # Not `b"\n" in text`: that raises and drops a TypeError first, and takes ten times as long.
    return text.find(b"\n") < 0 and text.find(b"\r") < 0


def _without(rows: Rows, seen: set[object]) -> Rows:
    """*rows* without the records in *seen*, to which the others are added."""
    fresh = [(each, line) for each, line in zip(rows.ids, rows.lines, strict=True) if each not in seen]
    seen.update(rows.ids)
    return replace(rows, ids=[each for each, _ in fresh], lines=[line for _, line in fresh])


def _digest(outcome: Outcome) -> Counter[tuple[object, int]]:
    """Tells whether two reads brought the same: every record, as it was, as often."""
    return Counter(
        (found, hash(line))
        for rows in outcome.pages
        for found, line in zip(rows.ids, rows.lines, strict=True)
    )
