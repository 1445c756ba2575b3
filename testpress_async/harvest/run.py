"""Read a plan's shards concurrently and land them: the bulk-export coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

import msgspec

from testpress_async.client import Client
from testpress_async.errors import ConfigError, NotFound
from testpress_async.harvest.dataset import Dataset, Spool, Store
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.plan import Plan, listing_of
from testpress_async.harvest.report import (
    PartsCommitted,
    Report,
    RowsRead,
    ShardFinished,
    TableFinished,
    TableReport,
    TableStarted,
)
from testpress_async.harvest.shard import PARENTS, SIDE_TABLES, Shard
from testpress_async.harvest.tables import finish_tables
from testpress_async.http.events import Event, guarded
from testpress_async.listing.listing import MAX_WINDOW

COMMIT_RECORDS = 10_000
COMMIT_S = 5.0


async def harvest(
    client: Client,
    plan: Plan,
    *,
    into: Dataset,
    concurrency: int = 8,
    finished_tables: bool = True,
    source: str | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> Report:
    """Read everything *plan* describes into *into*.

    An interrupted run is resumed: shards it stored are not read again. After a complete run everything is
    read anew, and in the finished tables the newest reading of each id wins. Records that are not usable
    go to ``quarantine/`` with the reason.

    Args:
        concurrency: Pages or parents read at once.
        finished_tables: Whether to write ``<table>.jsonl`` beside the landed parts at the end.
        source: Name of the institute in the dataset, which holds one institute only; its address if None.
        on_event: Called with the facts of `harvest.report`; must return at once.
    Raises:
        DatasetError: The disk or the directory is unusable; what was committed stays.
        Error: Reading failed for good; finished shards are committed first.
    """
    if concurrency < 1:
        raise ConfigError("concurrency", "expected a number of at least 1")
    with into.writing(source or client.base_url) as store:
        run = _Run(client, plan, store, concurrency, guarded(on_event) if on_event else _ignore)
        return await run.all(finished_tables=finished_tables)


def _ignore(event: Event) -> None:
    """Nobody listens."""


class _Run:
    def __init__(
        self, client: Client, plan: Plan, store: Store, concurrency: int, emit: Callable[[Event], object]
    ) -> None:
        self._client, self._plan, self._store = client, plan, store
        self._concurrency, self._emit = concurrency, emit
        self._lander = _Lander(store, emit)
        self._stored = store.stored()
        self._sides_seen: set[bytes] = set()
        self._reports: dict[str, TableReport] = {table: TableReport(table=table) for table in plan.tables}

    async def all(self, *, finished_tables: bool) -> Report:
        loop = asyncio.get_running_loop()
        began_s, sent_before = loop.time(), self._client.requests_sent
        try:
            for cost in self._plan.costs:
                shards = [shard for shard in self._plan.shards if shard.table == cost.table]
                if cost.table in PARENTS:
                    shards = await asyncio.to_thread(self._children, cost.table)
                known = cost.requests if cost.table not in PARENTS else len(shards)
                self._emit(TableStarted(table=cost.table, requests=known, records=cost.records))
                await self._table(shards)
                self._emit(TableFinished(table=cost.table))
        finally:
            await self._lander.flush()
        if finished_tables:
            tables = [t for table in self._plan.tables for t in (table, *SIDE_TABLES.get(table, ()))]
            await asyncio.to_thread(finish_tables, self._store, tables)
        await asyncio.to_thread(self._store.finish)
        return Report(
            tables=tuple(self._reports.values()),
            requests=self._client.requests_sent - sent_before,
            elapsed_s=loop.time() - began_s,
            data_bytes=self._lander.data_bytes,
            resumed=self._store.resumed,
        )

    def _children(self, table: str) -> list[Shard]:
        """One shard per parent that this plan's own reads have landed."""
        source = PARENTS[table]
        shards = frozenset(shard.id for shard in self._plan.shards if shard.table == source)
        parents = _attempt_ids if source == "attempts" else _conference_ids
        rows = (row for _, row in self._store.rows(_PARENT_ROWS[source], shards, this_run=True))
        return [Shard(table=table, parent=parent) for parent in dict.fromkeys(parents(rows))]

    async def _table(self, shards: Sequence[Shard]) -> None:
        waiting = iter([shard for shard in shards if not self._skipped(shard)])
        alone = len(shards) == 1
        workers = 1 if alone else self._concurrency
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(
                        self._worker(waiting, window=min(self._concurrency, MAX_WINDOW) if alone else 1)
                    )
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the caller asked for one thing; the first failure is why
        await self._lander.flush()

    def _skipped(self, shard: Shard) -> bool:
        done = self._stored.get(shard.id)
        if done is None:
            return False
        self._book(done)
        self._count(shard.table, skipped_shards=1)
        self._emit(RowsRead(table=shard.table, records=done.rows.get(shard.table, 0)))
        self._emit(ShardFinished(table=shard.table))
        return True

    def _book(self, done: ShardDone) -> None:
        """Add a complete shard to the report."""
        for table, rows in done.rows.items():
            self._count(table, records=rows)
        for table, bad in done.quarantined.items():
            self._count(table, quarantined=bad)
        table = done.shard.table
        self._count(table, doubtful=not done.agrees)
        if done.count is not None:
            report = self._reports[table]
            self._reports[table] = msgspec.structs.replace(
                report, expected=(report.expected or 0) + done.count
            )

    async def _worker(self, shards: Iterator[Shard], *, window: int) -> None:
        for shard in shards:
            try:
                done, spools = await self._read(shard, window)
            except NotFound:
                if shard.parent is None:
                    raise
                self._count(shard.table, missing_parents=1)
            else:
                self._book(done)
                await self._lander.add(done, spools)
            self._emit(ShardFinished(table=shard.table))

    async def _read(self, shard: Shard, window: int) -> tuple[ShardDone, dict[str, Spool]]:
        read = _Reading(shard)
        async with contextlib.aclosing(self._answers(shard, window, read)) as answers:
            async for rows, count in answers:
                read.counts.add(count)
                for table, pieces in rows:
                    await self._spool(read, table, pieces)
                if shard.parent is None:  # if this shard fails the run fails, and nothing is lost by it
                    self._land_sides(read)
        self._land_sides(read)
        return read.done(), read.spools

    async def _answers(
        self, shard: Shard, window: int, read: _Reading
    ) -> AsyncGenerator[tuple[list[tuple[str, list[bytes]]], int | None]]:
        """(rows by table, server's count) of every answer of *shard*, in order."""
        if shard.table == "attempt_details":
            body = await self._client.attempts.get_raw(shard.parent or 0)
            yield [(shard.table, [body])], None
            return
        async with contextlib.aclosing(listing_of(self._client, shard).raw_pages(window)) as pages:
            async for page in pages:
                for error in page.rejected:
                    await self._quarantine(read, shard.table, error.raw, str(error))
                wanted = (shard.table, *SIDE_TABLES.get(shard.table, ()))
                rows = [(t, [bytes(row) for row in page.rows[t]]) for t in wanted if t in page.rows]
                yield rows, page.count

    async def _spool(self, read: _Reading, table: str, rows: Sequence[bytes]) -> None:
        kept, primary = 0, table == read.shard.table
        for row in rows:
            line = one_line(row)
            digest = None if primary else _side_digest(table, line)
            if digest in self._sides_seen:
                continue
            if (found := _id_of(line, optional=table in _WITHOUT_ID)) is _UNUSABLE:
                await self._quarantine(read, table, row, "expected an object with a whole number as `id`")
            elif digest is not None:
                read.sides.setdefault(table, {})[digest] = line
            else:
                read.take(found, line)
                kept += 1
        if primary:
            self._emit(RowsRead(table=table, records=kept))

    def _land_sides(self, read: _Reading) -> None:
        """Add what no shard has landed yet: side-loaded records repeat on every page and for every parent.

        They count as landed only once their shard is complete: a shard that fails must not take along what
        others left out because of it.
        """
        for table, lines in read.sides.items():
            for digest, line in lines.items():
                if digest not in self._sides_seen:
                    self._sides_seen.add(digest)
                    read.spool(table).add(line)
        read.sides.clear()

    async def _quarantine(self, read: _Reading, table: str, raw: bytes, reason: str) -> None:
        read.quarantined[table] = read.quarantined.get(table, 0) + 1
        record = {"table": table, "shard": read.shard, "reason": reason, "raw_base64": raw}
        await asyncio.to_thread(self._store.quarantine, table, record)

    def _count(self, table: str, **more: int) -> None:
        report = self._reports.setdefault(table, TableReport(table=table))
        sums = {name: getattr(report, name) + number for name, number in more.items()}
        self._reports[table] = msgspec.structs.replace(report, **sums)


class _Reading:
    """A shard while it is read."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.spools: dict[str, Spool] = {}
        self.sides: dict[str, dict[bytes, bytes]] = {}
        self.counts: set[int | None] = set()
        self.quarantined: dict[str, int] = {}
        self._ids: set[object] = set()
        self._rows = 0

    def spool(self, table: str) -> Spool:
        return self.spools.setdefault(table, Spool())

    def take(self, found: object, line: bytes) -> None:
        """Keep a record; without an id it counts as different from all others."""
        self.spool(self.shard.table).add(line)
        self._rows += 1
        if found is not None:
            self._ids.add(found)

    def done(self) -> ShardDone:
        count = next(iter(self.counts)) if len(self.counts) == 1 else None
        steady = len(self.counts) <= 1
        different = len(self._ids) if self._ids else self._rows
        came = different + self.quarantined.get(self.shard.table, 0)
        return ShardDone(
            shard=self.shard,
            rows={table: spool.rows for table, spool in self.spools.items()},
            count=count if steady else max((c for c in self.counts if c is not None), default=None),
            agrees=steady and count in (None, came),
            quarantined=self.quarantined,
        )


class _Lander:
    """Collects whole shards and commits them every 10,000 records or 5 seconds, one commit at a time."""

    def __init__(self, store: Store, emit: Callable[[Event], object]) -> None:
        self._store, self._emit = store, emit
        self._shards: list[tuple[ShardDone, dict[str, Spool]]] = []
        self._records = 0
        self._since_s = 0.0
        self._lock = asyncio.Lock()
        self.data_bytes = 0

    async def add(self, done: ShardDone, spools: dict[str, Spool]) -> None:
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
        async with self._lock:
            shards, records = self._shards, self._records
            self._shards, self._records = [], 0
            if not shards:
                return
            data_bytes = await asyncio.to_thread(self._store.commit, shards)
            self.data_bytes += data_bytes
            self._emit(PartsCommitted(records=records, data_bytes=data_bytes))


class _HasId(msgspec.Struct):
    id: int


class _AnyId(msgspec.Struct):
    id: object = None


_UNUSABLE = object()
_any_id = msgspec.json.Decoder(_AnyId)


class _Conference(msgspec.Struct):
    id: int


class _UserVideoConference(msgspec.Struct):
    video_conference: _Conference | None = None


_ids = msgspec.json.Decoder(_HasId)
_conferences = msgspec.json.Decoder(_UserVideoConference)
_WITHOUT_ID = ("attendance", "exams")  # the documentation shows no id for these
_PARENT_ROWS = {"attempts": "attempts", "content_attempts": "user_video_conferences"}


def _side_digest(table: str, line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=12, person=table[:16].encode()).digest()


def _id_of(line: bytes, *, optional: bool) -> object:
    """Its id; _UNUSABLE if it is no object, or has no whole number as id where it must."""
    if not line.startswith(b"{"):
        return _UNUSABLE
    try:
        found = _any_id.decode(line).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNUSABLE
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    return found if optional and (found is None or isinstance(found, str)) else _UNUSABLE


def _attempt_ids(rows: Iterable[bytes]) -> Iterator[int]:
    return (_ids.decode(row).id for row in rows)


def _conference_ids(rows: Iterable[bytes]) -> Iterator[int]:
    for row in rows:
        with contextlib.suppress(msgspec.DecodeError):
            if (conference := _conferences.decode(row).video_conference) is not None:
                yield conference.id


def one_line(row: bytes) -> bytes:
    """*row* without line breaks between its tokens; texts and numbers stay as the server wrote them."""
    return msgspec.json.format(row, indent=-1) if b"\n" in row or b"\r" in row else row
