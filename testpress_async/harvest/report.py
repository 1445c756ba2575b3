"""What a harvest tells while it runs, and when it has ended."""

from __future__ import annotations

import msgspec

from testpress_async.harvest.certificate import Status
from testpress_async.http.events import Event
from testpress_async.models.display import duration, html_table, number


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
    """A shard of *table* was read, was stored before, or its parent is gone. `status`: what was proved.

    `shard` is its `Shard.id`. With status "certified" it is proved complete.
    """

    table: str
    status: Status = "certified"
    shard: str = ""


class RecordQuarantined(Event, frozen=True, kw_only=True):
    """A record of *table* is not usable: kept under `quarantine/` with *reason*, which quotes no value."""

    table: str
    shard: str
    reason: str


class TableFinished(Event, frozen=True, kw_only=True):
    """Everything of *table* has been read."""

    table: str


class PartsCommitted(Event, frozen=True, kw_only=True):
    """Records are durably on disk: what was read up to here survives a crash."""

    records: int
    data_bytes: int


class FileStarted(Event, frozen=True, kw_only=True):
    """All is read; now *name*, such as "attempts.csv", is made: the *number*-th of about *of* files."""

    name: str
    number: int
    of: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """A finished table beside what it was after the run before, in records."""

    new: int = 0
    changed: int = 0
    gone: int = 0
    unchanged: int = 0

    @property
    def records(self) -> int:
        """Rows of the finished table."""
        return self.new + self.changed + self.unchanged


class TableReport(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a run.

    Attributes:
        records: Records read for it, in this run or in an earlier one that still counts.
        expected: What the server counted, over all reads of it; None for tables without a count.
        certified: Shards proved complete.
        repaired: Those of them that had to be gone through again, as they changed while being read.
        open: Shards that still grow, or hold attempts that are not final.
        unverified: Shards that could not be proved complete.
        skipped_shards: Reads left out, as they are stored and still count.
        missing_parents: Parents that were gone (404) when their records were asked for.
        quarantined: Bad records, kept with the reason under `quarantine/`.
        changes: Against the run before; None if no finished table was made.
    """

    table: str
    records: int = 0
    expected: int | None = None
    certified: int = 0
    repaired: int = 0
    open: int = 0
    unverified: int = 0
    skipped_shards: int = 0
    missing_parents: int = 0
    quarantined: int = 0
    changes: Changes | None = None


class UnknownField(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the server that this version has no column for; it stands in `_extra`.

    Attributes:
        first_id: Id of the first record that has it; that of its parent where records have none.
        records: How many records of the finished table have it.
    """

    table: str
    field: str
    first_id: int | None
    records: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A finished harvest.

    Attributes:
        tables: One entry per table, side tables included.
        requests: Requests sent, tries included.
        saved_requests: Requests an export from scratch would have sent besides.
        data_bytes: Bytes landed.
        saved_bytes: Bytes of side-loaded records that came again and were not landed again.
        resumed: Whether an interrupted run was finished.
        notes: What was odd about the server.
        unknown_fields: What finished tables hold that this version does not know; nothing if none were made.
        files: What was made of the tables, as names in the dataset's directory.
        removed: What an earlier run had made of them in formats that this one was not asked for.
        unproven: Tables with unverified shards.
    """

    tables: tuple[TableReport, ...]
    requests: int
    elapsed_s: float
    data_bytes: int
    resumed: bool
    saved_requests: int = 0
    saved_bytes: int = 0
    notes: tuple[str, ...] = ()
    unknown_fields: tuple[UnknownField, ...] = ()
    files: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        return sum(table.records for table in self.tables)

    def _repr_html_(self) -> str:
        """For notebooks: what was read of each table, and what was proved."""
        about = f"{self.records:,} records, {self.requests:,} requests, {duration(self.elapsed_s)}"
        unproven = [f"Not proved complete: {', '.join(self.unproven)}"] if self.unproven else []
        return html_table("Report", about, [told(table) for table in self.tables], [*unproven, *self.notes])

    @property
    def quarantined(self) -> int:
        return sum(table.quarantined for table in self.tables)

    @property
    def unproven(self) -> tuple[str, ...]:
        return tuple(table.table for table in self.tables if table.unverified)


def told(table: TableReport) -> dict[str, str]:
    """What is to be known of *table*, as a row of a display; nothing for a nought."""
    counts = {"records": table.records} if table.changes is None else {"records": table.changes.records}
    for name in ("new", "changed", "gone"):
        counts[name] = 0 if table.changes is None else getattr(table.changes, name)
    for name in ("certified", "open", "unverified", "quarantined"):
        counts[name] = getattr(table, name)
    return {"table": table.table} | {name: number(value or None, "") for name, value in counts.items()}
