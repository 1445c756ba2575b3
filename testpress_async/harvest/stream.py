"""Shards as they are read, for those who keep the records themselves: no dataset, no resuming.

A reading task takes the next shard when what it read before has been taken. So at most `concurrency` shards
are being read or wait, however slow the consumer is.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast, overload

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from testpress_async.client import Client
from testpress_async.errors import ConfigError
from testpress_async.harvest.certificate import Status
from testpress_async.harvest.plan import MAX_PAGES, Plan
from testpress_async.harvest.reading import Outcome, Reader
from testpress_async.harvest.shard import PARENTS, Shard
from testpress_async.harvest.survey import Piece, today_of
from testpress_async.harvest.tables import conference_of
from testpress_async.listing.results import Results
from testpress_async.models.pages import RecordReader
from testpress_async.models.record import JoinedRecord, Record, SideLoads, attach_side_loads
from testpress_async.models.schema import RECORDS, table_of

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that is not usable, such as one without an id: its table, its bytes and why."""

    table: str
    raw: bytes = field(repr=False)
    reason: str


@dataclass(frozen=True, slots=True, repr=False)
class ReadShard:
    """A shard with everything that was read of it.

    Attributes:
        shard: What was asked for; `shard.parent` is the attempt or conference the records belong to.
        status: What was proved: "certified", "open" or "unverified".
        count: What the server last said the listing holds; None if it has no count.
        rows: The server's own records as bytes, by table; what was sent along comes once a shard.
        bad: Records that are not usable; they are not among the rows.
    """

    shard: Shard
    status: Status
    count: int | None
    rows: Mapping[str, Sequence[bytes]]
    bad: tuple[BadRecord, ...] = ()

    @overload
    def records(self) -> list[Record]: ...
    @overload
    def records(self, kind: type[R]) -> list[R]: ...
    def records(self, kind: type[R] | None = None) -> list[R] | list[Record]:
        """The rows as typed records, joined as those of a listing: those of the shard's table, or of *kind*.

        Raises:
            ConfigError: No table holds records of this kind.
            DecodeFailed: A row is not as documented; `.raw` holds it.
        """
        table = self.shard.table if kind is None else table_of(kind)
        found = [*self._decoded(table)]
        if kind is None or table == self.shard.table:
            joined = [each for each in found if isinstance(each, JoinedRecord)]
            if joined:
                sides = {side: [*self._decoded(side)] for side in self.rows if side != table}
                attach_side_loads(joined, SideLoads(sides))
        return cast("list[R]", found)

    def _decoded(self, table: str) -> Iterator[Record]:
        return map(_reader(table).read, self.rows.get(table, ()))

    def __repr__(self) -> str:
        of = "" if self.shard.parent is None else f" of {self.shard.parent}"
        sizes = ", ".join(f"{table}={len(rows)}" for table, rows in self.rows.items())
        return f"ReadShard({self.shard.table}{of}, {self.status}, count={self.count}, {sizes})"


def harvest_stream(
    client: Client,
    plan: Plan,
    *,
    concurrency: int = 8,
    strict: bool = False,
    max_pages: int = MAX_PAGES,
) -> HarvestStream:
    """Everything *plan* describes, a shard at a time, as soon as each has been read and proved.

        async with tp.harvest_stream(client, plan) as shards:
            async for shard in shards: ...

    Shards come in no order, but an attempt's before those of its details and answers. The promise is that of
    `harvest`, for each shard alone: what two shards have in common is not taken out. So an attempt that is
    re-dated meanwhile can come in two of them, and its answers twice. Nothing is stored: what has not been
    read when the block is left is cancelled, and the next run begins anew.

    Args:
        concurrency: Shards read at once, or waiting to be taken. Each is held in memory, about *max_pages*
            pages of it.
        strict: Read every shard until two perfect reads in a row brought the same records.
        max_pages: Windows that turn out far larger than this are halved.
    Raises:
        ConfigError: An argument is unusable.
        Error: While iterating: reading failed for good. The first failure is raised as itself.
    """
    return HarvestStream(client, plan, concurrency=concurrency, strict=strict, max_pages=max_pages)


class HarvestStream(Results[ReadShard]):
    """Shards of a plan. Use it with ``async with`` and iterate it once; see `harvest_stream`.

    Attributes:
        missing_parents: Parents that were gone (404) when their records were asked for.
    """

    def __init__(self, client: Client, plan: Plan, *, concurrency: int, strict: bool, max_pages: int) -> None:
        super().__init__("harvest_stream", "async with tp.harvest_stream(...) as shards:")
        if concurrency < 1:
            raise ConfigError("concurrency", "expected a number of at least 1")
        self._client, self._plan = client.with_options(coalesce=False), plan  # see `harvest`
        self._concurrency = concurrency
        self._strict, self._max_pages = strict, max_pages
        self._page_records = {cost.table: cost.page_records or 1 for cost in plan.costs}
        self._work = deque(Piece(shard, plan.records.get(shard.id)) for shard in plan.shards)
        self._conferences: set[int] = set()
        self._running = 0
        self.missing_parents = 0

    # --- inside ------------------------------------------------------------------------------------

    async def _bring(self, group: TaskGroup) -> AsyncGenerator[ReadShard, None]:
        send, receive = anyio.create_memory_object_stream[ReadShard | Exception](0)
        self._streams.update((send, receive))
        reader = Reader(
            self._client, today=today_of(self._client), max_pages=self._max_pages, strict=self._strict
        )
        self._start(group, reader, send)
        async with receive:
            async for found in receive:
                if isinstance(found, Exception):
                    raise found
                yield found

    def _start(self, group: TaskGroup, reader: Reader, out: _Send) -> None:
        """Start as many tasks as there is room for; when nothing is left, the stream has ended."""
        while self._work and self._running < self._concurrency:
            self._running += 1
            group.start_soon(self._one, group, reader, out, self._work.popleft())
        if not self._running:
            out.close()

    async def _one(self, group: TaskGroup, reader: Reader, out: _Send, piece: Piece) -> None:
        try:
            found = await reader.read(piece, self._page_records.get(piece.shard.table, 1))
            if found.parts:
                self._work.extendleft(found.parts)
            elif found.gone:
                self.missing_parents += 1
            else:
                read, ids = _taken(piece.shard, found)
                await out.send(read)
                # Before the rest, so that there are never more of them than a few shards have.
                self._work.extendleft(self._children(read, ids))
        except anyio.BrokenResourceError:
            return  # the consumer has stopped; its scope cancels the rest
        except Exception as error:
            with contextlib.suppress(anyio.BrokenResourceError):
                await out.send(error)
            return
        self._running -= 1
        self._start(group, reader, out)

    def _children(self, read: ReadShard, ids: Sequence[int]) -> list[Piece]:
        """What is to be read of each record of *read*."""
        tables = [table for table in self._plan.derived if PARENTS[table] == read.shard.table]
        if not tables:
            return []
        parents = ids if read.shard.table == "attempts" else self._new_conferences(read)
        return [Piece(Shard(table=table, parent=parent), None) for parent in parents for table in tables]

    def _new_conferences(self, read: ReadShard) -> list[int]:
        """Those that no shard had before: many content attempts belong to one conference."""
        found = map(conference_of, read.rows.get("user_video_conferences", ()))
        new = [each for each in dict.fromkeys(found) if each is not None and each not in self._conferences]
        self._conferences.update(new)
        return new


_Send = MemoryObjectSendStream[ReadShard | Exception]


def _taken(shard: Shard, found: Outcome) -> tuple[ReadShard, list[int]]:
    """What was read of *shard*, and the ids in it, each once: of what came twice, the newest reading wins."""
    own, sides, bad = dict[object, bytes](), dict[str, dict[bytes, None]](), list[BadRecord]()
    for rows in found.pages:
        for known, line in zip(rows.ids, rows.lines, strict=True):
            own[object() if known is None else known] = line
        for table, lines in rows.sides.items():
            sides.setdefault(table, {}).update(dict.fromkeys(lines))
        bad += (BadRecord(each.table, each.raw, each.reason) for each in rows.bad)
    read = ReadShard(
        shard=shard,
        status=found.status,
        count=found.count,
        rows={shard.table: list(own.values()), **{table: list(lines) for table, lines in sides.items()}},
        bad=tuple(bad),
    )
    return read, [known for known in own if isinstance(known, int)]


@cache
def _reader(table: str) -> RecordReader[Any]:
    return RecordReader(RECORDS[table])
