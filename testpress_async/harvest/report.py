"""What a harvest tells while it runs, and when it has ended."""

from __future__ import annotations

import msgspec

from testpress_async.http.events import Event


class TableStarted(Event, frozen=True, kw_only=True):
    """Reading of a table begins: so many requests and records are expected; None: not known yet."""

    table: str
    requests: int | None
    records: int | None


class RowsRead(Event, frozen=True, kw_only=True):
    """One more answer of *table* was read: so many records of it, side tables not counted."""

    table: str
    records: int


class ShardFinished(Event, frozen=True, kw_only=True):
    """A shard of *table* has been read whole, was stored before, or its parent is gone."""

    table: str


class TableFinished(Event, frozen=True, kw_only=True):
    """Everything of *table* has been read."""

    table: str


class PartsCommitted(Event, frozen=True, kw_only=True):
    """Records are durably on disk: what was read up to here survives a crash."""

    records: int
    data_bytes: int


class TableReport(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a run.

    Attributes:
        records: Records read for it in this run.
        expected: What the server counted, over all reads of it; None for tables without a count.
        doubtful: Reads in which the server's count changed, or did not match the different records that
            came: the collection changed while it was read.
        skipped_shards: Reads that an interrupted run had already stored.
        missing_parents: Parents that were gone (404) when their records were asked for.
        quarantined: Bad records, kept with the reason under `quarantine/`.
    """

    table: str
    records: int = 0
    expected: int | None = None
    doubtful: int = 0
    skipped_shards: int = 0
    missing_parents: int = 0
    quarantined: int = 0

    @property
    def agrees(self) -> bool:
        """Whether every read brought as many records as the server counted on every page of it."""
        return self.doubtful == 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A finished harvest.

    Attributes:
        tables: One entry per table, side tables included.
        requests: Requests sent, tries included.
        resumed: Whether an interrupted run was finished.
        unproven: Tables with doubtful reads.
    """

    tables: tuple[TableReport, ...]
    requests: int
    elapsed_s: float
    data_bytes: int
    resumed: bool

    @property
    def records(self) -> int:
        return sum(table.records for table in self.tables)

    @property
    def quarantined(self) -> int:
        return sum(table.quarantined for table in self.tables)

    @property
    def unproven(self) -> tuple[str, ...]:
        return tuple(t.table for t in self.tables if not t.agrees)
