"""Read a plan's shards concurrently and land them: the bulk-export coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Final, get_args

import msgspec

from testpress_async.client import Client
from testpress_async.errors import ConfigError, DatasetError
from testpress_async.harvest.certificate import Status
from testpress_async.harvest.convert import DUCKDB_FILE, Format, convert, require_format, sweep
from testpress_async.harvest.dataset import Dataset, Spool, Store
from testpress_async.harvest.interruption import Interruption, in_thread
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.plan import (
    LOOK_BACK_DAYS,
    MAX_PAGES,
    Known,
    Plan,
    TablePlan,
    changed_windows,
)
from testpress_async.harvest.reading import Bad, Outcome, Reader, Rows
from testpress_async.harvest.report import (
    FileStarted,
    PartsCommitted,
    RecordQuarantined,
    Report,
    RowsRead,
    ShardFinished,
    TableFinished,
    TableReport,
    TableStarted,
)
from testpress_async.harvest.shard import PARENTS, SIDE_TABLES, Shard
from testpress_async.harvest.survey import Piece, today_of
from testpress_async.harvest.tables import GONE_FILE, Finished, finish_tables, opened
from testpress_async.http.events import Observer, guarded
from testpress_async.http.logs import tell

log = logging.getLogger("testpress_async.harvest")

COMMIT_RECORDS = 10_000
COMMIT_S = 5.0


async def harvest(
    client: Client,
    plan: Plan,
    *,
    into: Dataset,
    concurrency: int = 8,
    formats: Format | Sequence[Format] = "jsonl",
    formula_guard: bool = False,
    strict: bool = False,
    look_back_days: int = LOOK_BACK_DAYS,
    max_pages: int = MAX_PAGES,
    source: str | None = None,
    on_event: Observer | Sequence[Observer] | None = None,
) -> Report:
    """Read everything *plan* describes into *into*, and say what was proved.

    An interrupted run is resumed: shards it stored are not read again. After a complete run it updates:
    windows proved complete are left out unless their counts changed, and answers are read again only for
    attempts that changed. In the finished tables the newest reading of each id wins. Records that are not
    usable go to ``quarantine/`` with the reason.

    What it promises: every record that matched the query during the whole run and whose date does not change
    appears exactly once in each window reported certified. Records created, deleted or re-dated meanwhile may
    or may not appear. The export is not one snapshot, as windows are read at different times; with *strict*
    each window is one. To miss a record unnoticed in a certified window takes an insertion and a deletion
    that cancel out in it between two answers, or in windows older than 7 days an insertion between the
    server's own counting and slicing; with *strict* both of these twice. In windows an update leaves out,
    what changed neither their number of attempts nor that of running ones goes unnoticed. Everything else is
    reported as open or unverified.

    Args:
        concurrency: Shards read at once.
        formats: What is made of the landed parts at the end. "jsonl": a ``<table>.jsonl`` a table. "csv" and
            "parquet": a typed file a table besides. "duckdb": a ``testpress.duckdb`` of all tables besides,
            with joins. "none": nothing. Files of these tables in formats of an earlier run that are not named
            now are removed, as they would be out of date. If this is interrupted, the same run goes on here.
        formula_guard: In CSV, an apostrophe before texts that a spreadsheet would run as a formula.
        strict: Read every shard until two perfect reads in a row brought the same records.
        look_back_days: Days before a window was last read that are read again by an update.
        max_pages: Windows that turn out far larger than this are halved.
        source: Name of the institute in the dataset, which holds one institute only; its address if None.
        on_event: Plain function, or several, called with facts about tables, shards, parts and bad records;
            must return at once. Facts about requests go to the client's.
    Raises:
        ConfigError: An argument is unusable, or a format needs what is not installed; nothing was sent.
        DatasetError: The disk or the directory is unusable; what was committed stays.
        Error: Reading failed for good; finished shards are committed first.
    """
    if concurrency < 1:
        raise ConfigError("concurrency", "expected a number of at least 1")
    if look_back_days < 0:
        raise ConfigError("look_back_days", "expected a number of at least 0")
    finishing = Finishing(into, formats, formula_guard=formula_guard)
    client = client.with_options(coalesce=False)  # a proof needs answers of its own
    with into.writing(source or client.base_url, plan.fingerprint) as store:
        reader = Reader(client, today=today_of(client), max_pages=max_pages, strict=strict)
        emit = guarded(on_event)
        run = _Run(client, plan, store, reader, concurrency, look_back_days, emit)
        return await run.all(finishing)


class _Run:
    def __init__(
        self,
        client: Client,
        plan: Plan,
        store: Store,
        reader: Reader,
        concurrency: int,
        look_back_days: int,
        emit: Observer | None,
    ) -> None:
        self._client, self._plan, self._store, self._reader = client, plan, store, reader
        self._concurrency, self._emit = concurrency, emit
        self._lander = _Lander(store, emit)
        readings = (done for _, done in store.readings())
        self._known = Known(readings, run=store.run, look_back_days=look_back_days)
        self._sides_seen: set[bytes] = set()
        self._doubtful = set[str]()  # tables with reads that do not tell what is gone
        self._told: set[str] = set()  # tables of whose bad records the log knows
        self._saved_requests = self._saved_bytes = 0
        self._reports: dict[str, TableReport] = {table: TableReport(table=table) for table in plan.tables}

    async def all(self, finishing: Finishing) -> Report:
        loop = asyncio.get_running_loop()
        began_s, sent_before = loop.time(), self._client.requests_sent
        await in_thread(self._remember_sides)
        try:
            for cost in self._plan.costs:
                size = cost.page_records or 1
                work, requests = await self._work(cost)
                self._table_started(cost.table, requests, cost.records)
                await self._table(work, size)
                await self._note_whole(cost.table)
                self._table_finished(cost.table)
        finally:
            await self._lander.flush()
        tables = [t for table in self._plan.tables for t in (table, *SIDE_TABLES.get(table, ()))]
        told = self._file_teller(finishing.steps(tables))
        made = await in_thread(partial(finishing.make, self._store, tables), told)
        for table, found in made.tables.items():
            report = self._reports.setdefault(table, TableReport(table=table))
            self._reports[table] = msgspec.structs.replace(report, changes=found.changes)
        report = Report(
            tables=tuple(self._reports.values()),
            requests=self._client.requests_sent - sent_before,
            saved_requests=self._saved_requests,
            elapsed_s=loop.time() - began_s,
            data_bytes=self._lander.data_bytes,
            saved_bytes=self._saved_bytes,
            resumed=self._store.resumed,
            notes=self._plan.notes,
            unknown_fields=tuple(field for found in made.tables.values() for field in found.unknown_fields),
            files=made.files,
            removed=made.removed,
        )
        await in_thread(lambda _: self._store.finish(report))
        return report

    # --- what is to be read ----------------------------------------------------------------------------

    async def _work(self, cost: TablePlan) -> tuple[Iterator[Piece], int | None]:
        """What is to be read of a table now, in this order, and how many requests that takes."""
        table = cost.table
        if table in PARENTS:  # there may be millions of them
            parents = await in_thread(partial(self._parents, table))
            return (Piece(Shard(table=table, parent=each), None) for each in parents), len(parents)
        planned = [shard for shard in self._plan.shards if shard.table == table]
        if table == "attempts":
            wanted = await self._unsettled(planned)
        else:
            wanted = [shard for shard in planned if not self._skipped(shard)]
        in_order = sorted(wanted, key=lambda shard: (shard.stage, not shard.undated))
        return (Piece(shard, self._plan.records.get(shard.id)) for shard in in_order), cost.requests

    def _parents(self, table: str, interruption: Interruption) -> array[int]:
        """Ids of the parents to read *table* of: not those that it was read of since they last changed."""
        source = PARENTS[table]
        asked = self._plan.asked_of(source)
        if source != "attempts":
            asked = [shard for shard in self._plan.shards if shard.table == source]
        with opened(self._store, interruption) as tables:
            parents = tables.parents(table, asked, self._store.run)
        for done in self._store.numbered(table, parents.read_now):
            self._leave_out(done)
        read_before = parents.fresh - len(parents.read_now)
        self._saved_requests += read_before
        self._count(table, skipped_shards=read_before)
        return parents.wanted

    async def _unsettled(self, planned: Sequence[Shard]) -> list[Shard]:
        """The days asked for that neither this run nor an earlier one has settled."""
        wanted: list[Shard] = []
        for root in self._plan.asked_of("attempts"):
            known = [done for done in self._known.settled(root) if _meet(done.shard, root)]
            changed = await changed_windows(self._client, [d for d in known if d.run != self._store.run])
            self._known.unsettle(changed)
            settled = [done for done in known if done.shard.window not in changed]
            for done in settled:
                self._leave_out(done)
            members = [shard for shard in planned if shard.filters == root.filters]
            for shard in members:
                wanted += self._left_of(shard, settled)
            planned_days = [shard.window for shard in members if not shard.undated]
            calibrated = next((s for s in (*members, *(d.shard for d in known)) if not s.undated), root)
            # Changed since, or settled in another dataset than this one.
            missing = root.window.minus([*planned_days, *(done.shard.window for done in settled)])
            wanted += [calibrated.over(rest) for rest in missing]
        return wanted

    def _left_of(self, shard: Shard, settled: Sequence[ShardDone]) -> Iterator[Shard]:
        if self._skipped(shard):
            return
        if shard.undated or shard.end_exclusive is None:
            yield shard
            return
        for window in shard.window.minus(done.shard.window for done in settled):
            yield shard.over(window)

    def _leave_out(self, done: ShardDone) -> None:
        costs = (cost.page_records for cost in self._plan.costs if cost.table == done.shard.table)
        size = next(costs, None) or done.count or 1  # where nobody knows, one page
        self._saved_requests += max(1, -(-(done.count or 0) // size))
        self._book(done)
        self._count(done.shard.table, skipped_shards=1)
        if self._emit:
            self._emit(RowsRead(table=done.shard.table, records=done.rows.get(done.shard.table, 0)))
        self._shard_finished(done.shard, done.status)

    def _skipped(self, shard: Shard) -> bool:
        """Whether this run has stored exactly *shard* before it was interrupted."""
        done = self._known.of_this_run(shard)
        if done is None or self._known.is_settled(done):
            return False
        self._leave_out(done)
        return True

    async def _table(self, work: Iterator[Piece], page_records: int) -> None:
        parts = deque[Piece]()  # of what was read in vain: they are read before all else
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._worker(work, parts, page_records))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the caller asked for one thing; the first failure is why
        await self._lander.flush()

    async def _note_whole(self, table: str) -> None:
        """Content attempts have no windows: a list of them that was cut is told to have been read whole."""
        if table != "content_attempts":
            return
        lists = self._plan.asked_of(table)
        cut = any(shard not in lists for shard in self._plan.shards if shard.table == table)
        # A run between the plan and this one may have found what is in none of the plan's parts.
        known = self._plan.follows == self._store.run - 1
        if cut and known and table not in self._doubtful:
            await in_thread(lambda _: self._store.read_whole(lists))

    def _remember_sides(self, interruption: Interruption) -> None:
        """What earlier reads landed of side tables need not be landed again."""
        for table in (side for main in self._plan.tables for side in SIDE_TABLES.get(main, ())):
            for _, line in interruption.each(self._store.rows(table)):
                self._sides_seen.add(_side_digest(table, line))

    # --- reading ---------------------------------------------------------------------------------------

    async def _worker(self, work: Iterator[Piece], parts: deque[Piece], page_records: int) -> None:
        while piece := parts.popleft() if parts else next(work, None):
            async with self._reader.turn(piece.shard):  # until it is landed: no later stage may be before it
                parts.extendleft(await self._read(piece, page_records))

    async def _read(self, piece: Piece, page_records: int) -> Sequence[Piece]:
        """Read and land a shard; what is to be read instead of it."""
        shard, found = piece.shard, await self._reader.read(piece, page_records)
        if found.parts:
            return found.parts
        if found.gone:
            self._count(shard.table, missing_parents=1)
        else:
            done, spools = await self._spooled(shard, found)
            self._book(done)
            await self._lander.add(done, spools)
        self._shard_finished(shard, found.status)
        return ()

    async def _spooled(self, shard: Shard, found: Outcome) -> tuple[ShardDone, dict[str, Spool]]:
        spools: dict[str, Spool] = {}
        quarantined: dict[str, int] = {}
        for rows in found.pages:
            spool = spools.setdefault(shard.table, Spool())
            spool.add(*rows.lines)
            self._spool_sides(spools, rows)
            for bad in rows.bad:
                quarantined[bad.table] = quarantined.get(bad.table, 0) + 1
                await self._quarantine(shard, bad)
            if self._emit:
                self._emit(RowsRead(table=shard.table, records=len(rows.lines)))
            await self._client.clock.sleep(0)  # a shard can have any number of pages: others get their turn
        done = ShardDone(
            shard=shard,
            rows={table: spool.rows for table, spool in spools.items()},
            count=found.count,
            agrees=found.agrees,
            status=found.status,
            passes=found.passes,
            running=found.running,
            run=self._store.run,
            read_on=self._reader.today,
            quarantined=quarantined,
        )
        return done, spools

    def _spool_sides(self, spools: dict[str, Spool], rows: Rows) -> None:
        """Add what nobody has landed yet: side-loaded records repeat on every page and for every parent."""
        for table, lines in rows.sides.items():
            for line in lines:
                digest = _side_digest(table, line)
                if digest in self._sides_seen:
                    self._saved_bytes += len(line)
                    continue
                self._sides_seen.add(digest)
                spools.setdefault(table, Spool()).add(line)

    async def _quarantine(self, shard: Shard, bad: Bad) -> None:
        record = {"table": bad.table, "shard": shard, "reason": bad.reason, "raw_base64": bad.raw}
        await in_thread(lambda _: self._store.quarantine(bad.table, record))
        if self._emit:
            self._emit(RecordQuarantined(table=bad.table, shard=shard.id, reason=bad.reason))
        if bad.table not in self._told:  # once a table: a changed format makes every record bad
            self._told.add(bad.table)
            text = "%s: a record is not usable and is kept under quarantine/; more are counted only: %s"
            tell(log, logging.WARNING, text, bad.table, bad.reason)

    # --- for observers and the log -----------------------------------------------------------------------

    def _file_teller(self, of: int) -> Callable[[str], object]:
        """What numbers the files that are made at the end."""
        numbers = count(1)

        def told(name: str) -> None:
            if self._emit:
                self._emit(FileStarted(name=name, number=next(numbers), of=of))

        return told

    def _table_started(self, table: str, requests: int | None, records: int | None) -> None:
        if self._emit:
            self._emit(TableStarted(table=table, requests=requests, records=records))
        tell(log, logging.INFO, "%s: reading begins", table)

    def _shard_finished(self, shard: Shard, status: Status) -> None:
        if self._emit:
            self._emit(ShardFinished(table=shard.table, status=status, shard=shard.id))

    def _table_finished(self, table: str) -> None:
        if self._emit:
            self._emit(TableFinished(table=table))
        report = self._reports[table]
        level = logging.WARNING if report.unverified else logging.INFO
        text = "%s: %d records read; shards: %d certified, %d open, %d unverified"
        tell(log, level, text, table, report.records, report.certified, report.open, report.unverified)

    # --- the report ------------------------------------------------------------------------------------

    def _book(self, done: ShardDone) -> None:
        """Add a complete shard to the report."""
        if not done.tells_gone:
            self._doubtful.add(done.shard.table)
        for table, rows in done.rows.items():
            self._count(table, records=rows)
        for table, bad in done.quarantined.items():
            self._count(table, quarantined=bad)
        self._count(
            done.shard.table,
            certified=done.status == "certified",
            repaired=done.status == "certified" and done.passes > 1,
            open=done.status == "open",
            unverified=done.status == "unverified",
        )
        if done.count is not None:
            report = self._reports[done.shard.table]
            expected = (report.expected or 0) + done.count
            self._reports[done.shard.table] = msgspec.structs.replace(report, expected=expected)

    def _count(self, table: str, **more: int) -> None:
        report = self._reports.setdefault(table, TableReport(table=table))
        sums = {name: getattr(report, name) + number for name, number in more.items()}
        self._reports[table] = msgspec.structs.replace(report, **sums)


class _Lander:
    """Collects whole shards and commits them every 10,000 records or 5 seconds.

    Nothing is collected during a commit: a kill costs one part, and what each task has in hand.
    """

    def __init__(self, store: Store, emit: Observer | None) -> None:
        self._store, self._emit = store, emit
        self._shards: list[tuple[ShardDone, dict[str, Spool]]] = []
        self._records = 0
        self._since_s = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self.data_bytes = 0

    async def add(self, done: ShardDone, spools: dict[str, Spool]) -> None:
        while not self._idle.is_set():
            await self._idle.wait()
        now_s = asyncio.get_running_loop().time()
        if not self._shards:
            self._since_s = now_s
        self._shards.append((done, spools))
        self._records += sum(done.rows.values())
        if self._records >= COMMIT_RECORDS or now_s - self._since_s >= COMMIT_S:
            await self.flush()

    async def flush(self) -> None:
        """Commit what has been collected. Not cut short by a cancellation: a commit is one event."""
        commit = asyncio.ensure_future(self._flush())
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait((commit,))
            raise

    async def _flush(self) -> None:
        while not self._idle.is_set():
            await self._idle.wait()
        shards, records = self._shards, self._records
        self._shards, self._records = [], 0
        if not shards:
            return
        self._idle.clear()
        try:
            data_bytes = await asyncio.to_thread(self._store.commit, shards)
        finally:
            self._idle.set()
        self.data_bytes += data_bytes
        if self._emit:
            self._emit(PartsCommitted(records=records, data_bytes=data_bytes))


def _meet(one: Shard, other: Shard) -> bool:
    return not one.window.meet(other.window).is_empty


def _side_digest(table: str, line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=12, person=table[:16].encode()).digest()


# --- the end of a run: finished tables from what was landed, files from the tables, nothing that is older --

# Which files a dataset has is what its last run was asked for. What an earlier run made of the same tables in
# other formats is removed, as it would pass for as new as the rest. The landed parts stay: nothing is lost.

FORMATS: Final[tuple[Format, ...]] = get_args(Format)


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to on disk.

    Attributes:
        tables: The finished ones; none with the format "none".
        files: Names of what there is now, in the dataset's directory.
        removed: Names of what an earlier run had made and is out of date.
    """

    tables: dict[str, Finished]
    files: tuple[str, ...]
    removed: tuple[str, ...]


class Finishing:
    """What is to be made of the tables. Built before anything is read, so that a mistake costs nothing.

    Raises:
        ConfigError: A format is unknown, needs what is not installed, or contradicts another.
        DatasetError: A format needs a directory, and the dataset lies in an object store.
    """

    def __init__(
        self, into: Dataset, formats: Format | Sequence[Format], *, formula_guard: bool = False
    ) -> None:
        self._into, self._guard = into, formula_guard
        self._formats = checked_formats(formats)
        self._conversions: list[Format] = [each for each in self._formats if each not in ("jsonl", "none")]
        if self._conversions:
            _ = into.path  # said now, and not after hours of reading

    def steps(self, tables: Sequence[str]) -> int:
        """About how many files `make` makes; each table in a database counts as one."""
        return len(tables) * (len(self._conversions) + ("none" not in self._formats))

    def make(self, store: Store, tables: Sequence[str], interruption: Interruption) -> Made:
        """Finish *tables* and convert them. Blocks on the disk. Made again, it is the same."""
        finished: dict[str, Finished] = {}
        if "none" not in self._formats:
            finished = finish_tables(store, tables, interruption)
        files = [f"{table}.jsonl" for table in finished]
        for format in self._conversions:
            made = convert(
                self._into.path,
                tables,
                format,
                formula_guard=self._guard,
                interruption=interruption,
            )
            files += [file.name for file in made]
        with contextlib.suppress(DatasetError):  # an object store has no conversions
            sweep(self._into.path)
        kept = {*files, *(GONE_FILE.format(table) for table in finished)}
        removed = store.remove(name for name in _makeable(tables) if name not in kept)
        return Made(tables=finished, files=tuple(files), removed=removed)


def checked_formats(formats: Format | Sequence[Format]) -> tuple[Format, ...]:
    """Each format once. Raises ConfigError if they cannot be made."""
    chosen: tuple[Format, ...] = (formats,) if isinstance(formats, str) else tuple(dict.fromkeys(formats))
    if not chosen or ("none" in chosen and len(chosen) > 1):
        raise ConfigError("formats", "expected one or several of them, or none alone")
    for each in chosen:
        if each not in FORMATS:
            raise ConfigError("formats", f"there is no format {each!r}; there are {', '.join(FORMATS)}")
        require_format(each)
    return chosen


def _makeable(tables: Sequence[str]) -> Iterator[str]:
    """Names of everything that could have been made of *tables*."""
    for table in tables:
        yield from (f"{table}.jsonl", GONE_FILE.format(table), f"{table}.csv", f"{table}.parquet")
    yield from (DUCKDB_FILE, f"{DUCKDB_FILE}.wal")
