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

COMMIT_RECORDS = 10_000
COMMIT_S = 5.0


async def harvest(
    client: Client,
    plan: Plan,
    *,
    into: Dataset,
    concurrency: int = 8,
    finished_tables: bool = True,
    on_event: Callable[[Event], object] | None = None,
) -> Report:
    """Read everything *plan* describes into *into*.

    An interrupted run is resumed: shards it stored are not read again. After a complete run everything is
    read anew, and in the finished tables the newest reading of each id wins. Records that are not usable
    go to ``quarantine/`` with the reason.

    Args:
        concurrency: Pages or parents read at once.
        finished_tables: Whether to write ``<table>.jsonl`` beside the landed parts at the end.
        on_event: Called with the facts of `harvest.report`; must return at once.
    Raises:
        DatasetError: The disk or the directory is unusable; what was committed stays.
        Error: Reading failed for good; finished shards are committed first.
    """
    if concurrency < 1:
        raise ConfigError("concurrency", "expected a number of at least 1")
    with into.writing(client.base_url) as store:
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
            await asyncio.to_thread(finish_tables, self._store)
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
                    group.create_task(self._worker(waiting, window=self._concurrency if alone else 1))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the caller asked for one thing; the first failure is why
        await self._lander.flush()

    def _skipped(self, shard: Shard) -> bool:
        done = self._stored.get(shard.id)
        if done is None:
            return False
        report = self._reports[shard.table]
        self._count(shard.table, records=done.rows.get(shard.table, 0), skipped_shards=1)
        if done.count is not None and shard.parent is None:
            self._reports[shard.table] = msgspec.structs.replace(
                self._reports[report.table], expected=done.count
            )
        self._emit(RowsRead(table=shard.table, records=done.rows.get(shard.table, 0)))
        self._emit(ShardFinished(table=shard.table))
        return True

    async def _worker(self, shards: Iterator[Shard], *, window: int) -> None:
        for shard in shards:
            try:
                done, spools = await self._read(shard, window)
            except NotFound:
                if shard.parent is None:
                    raise
                self._count(shard.table, missing_parents=1)
            else:
                for table, rows in done.rows.items():
                    self._count(table, records=rows)
                await self._lander.add(done, spools)
            self._emit(ShardFinished(table=shard.table))

    async def _read(self, shard: Shard, window: int) -> tuple[ShardDone, dict[str, Spool]]:
        spools: dict[str, Spool] = {}
        sides: dict[str, dict[bytes, bytes]] = {}
        count: int | None = None
        async with contextlib.aclosing(self._answers(shard, window)) as answers:
            async for rows, count in answers:  # noqa: B007 - the last count is the newest
                for table, pieces in rows:
                    await self._spool(shard, table, pieces, spools, sides)
                if shard.parent is None:  # if this shard fails the run fails, and nothing is lost by it
                    self._land_sides(sides, spools)
        self._land_sides(sides, spools)
        if shard.parent is None:
            self._reports[shard.table] = msgspec.structs.replace(self._reports[shard.table], expected=count)
        return ShardDone(shard=shard, rows={t: s.rows for t, s in spools.items()}, count=count), spools

    async def _answers(
        self, shard: Shard, window: int
    ) -> AsyncGenerator[tuple[list[tuple[str, Sequence[bytes]]], int | None]]:
        """(rows by table, server's count) of every answer of *shard*, in order."""
        if shard.table == "attempt_details":
            body = await self._client.attempts.get_raw(shard.parent or 0)
            yield [(shard.table, [body])], None
            return
        async with contextlib.aclosing(listing_of(self._client, shard).raw_pages(window)) as pages:
            async for page in pages:
                for error in page.rejected:
                    await self._quarantine(shard, shard.table, error.raw, str(error))
                wanted = (shard.table, *SIDE_TABLES.get(shard.table, ()))
                yield (
                    [(t, [bytes(row) for row in page.rows[t]]) for t in wanted if t in page.rows],
                    page.count,
                )

    async def _spool(
        self,
        shard: Shard,
        table: str,
        rows: Sequence[bytes],
        spools: dict[str, Spool],
        sides: dict[str, dict[bytes, bytes]],
    ) -> None:
        kept = 0
        for row in rows:
            line = one_line(row)
            digest = _side_digest(table, line) if table != shard.table else None
            if digest in self._sides_seen:
                continue
            if table not in _WITHOUT_ID and not _has_id(line):
                await self._quarantine(shard, table, row, "expected a record with a whole number as `id`")
            elif digest is not None:
                sides.setdefault(table, {})[digest] = line
            else:
                spools.setdefault(table, Spool()).add(line)
                kept += 1
        if table == shard.table:
            self._emit(RowsRead(table=table, records=kept))

    def _land_sides(self, sides: dict[str, dict[bytes, bytes]], spools: dict[str, Spool]) -> None:
        """Add what no shard has landed yet: side-loaded records repeat on every page and for every parent.

        They count as landed only once their shard is complete: a shard that fails must not take along what
        others left out because of it.
        """
        for table, lines in sides.items():
            for digest, line in lines.items():
                if digest not in self._sides_seen:
                    self._sides_seen.add(digest)
                    spools.setdefault(table, Spool()).add(line)
        sides.clear()

    async def _quarantine(self, shard: Shard, table: str, raw: bytes, reason: str) -> None:
        self._count(table, quarantined=1)
        record = {"table": table, "shard": shard, "reason": reason, "raw_base64": raw}
        await asyncio.to_thread(self._store.quarantine, table, record)

    def _count(self, table: str, **more: int) -> None:
        report = self._reports.setdefault(table, TableReport(table=table))
        sums = {name: getattr(report, name) + number for name, number in more.items()}
        self._reports[table] = msgspec.structs.replace(report, **sums)


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
            await commit
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


def _has_id(line: bytes) -> bool:
    try:
        _ids.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


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
