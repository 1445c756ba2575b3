"""`testpress export`: an institute, or parts of it, into files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from testpress_async.cli import exits
from testpress_async.cli.connect import Connection, connected
from testpress_async.cli.filters import Filters, chosen
from testpress_async.cli.output import CONNECT, PACE, READ, SHOW, WRITE, Debug, err, print_json
from testpress_async.cli.progress import Traffic, display
from testpress_async.cli.summary import goes_on, print_plan, print_report, records_of, say
from testpress_async.errors import ConfigError
from testpress_async.harvest.convert import Format
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.plan import LOOK_BACK_DAYS, plan
from testpress_async.harvest.report import Report
from testpress_async.harvest.run import checked_formats, harvest
from testpress_async.harvest.shard import READABLE, readable_tables


@Parameter(name="*", group=WRITE)
@dataclass(frozen=True)
class Output:
    """What becomes of the records."""

    out: Path
    """Directory of the dataset."""
    format: list[Format] | None = None
    """jsonl, the default, writes TABLE.jsonl beside the landed parts; csv and parquet a typed file a table
    besides; duckdb one testpress.duckdb of all tables, with joins ready-made; none keeps the parts only. May
    be repeated. Files of an earlier export in a format not asked for now are removed: they would be out of
    date."""
    formula_guard: bool = False
    """In CSV, put an apostrophe before texts that a spreadsheet would run as a formula."""
    dry_run: bool = False
    """Show what would be read, and what it costs, and stop."""
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False
    """Do not ask before an export of more than ten minutes."""

    def formats(self) -> tuple[Format, ...]:
        formats = checked_formats(self.format or "jsonl")
        if self.formula_guard and "csv" not in formats:
            raise ConfigError("--formula-guard", "is for --format csv")
        return formats


@Parameter(name="*", group=PACE)
@dataclass(frozen=True)
class Pace:
    """How thoroughly, and how much at once."""

    strict: bool = False
    """Read everything until it came twice the same."""
    look_back_days: int = LOOK_BACK_DAYS
    """Days before the last export that an update reads again."""
    concurrency: int = 8
    """Pages or attempts read at once."""

    def check(self) -> None:
        if self.concurrency < 1:
            raise ConfigError("--concurrency", "expected at least 1")
        if self.look_back_days < 0:
            raise ConfigError("--look-back-days", "expected at least 0")


async def export(
    *tables: Annotated[str, Parameter(group=READ, choices=READABLE)],
    output: Output,
    filters: Filters | None = None,
    pace: Pace | None = None,
    sandbox: Annotated[bool, Parameter(group=CONNECT)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=SHOW)] = False,
    json: Annotated[bool, Parameter(group=SHOW)] = False,
    connection: Connection | None = None,
    debug: Debug | None = None,
) -> int:
    """Export an institute, or parts of it, to JSON Lines, CSV, Parquet or DuckDB.

    The same command again finishes an interrupted export, and updates a complete one: what was proved
    complete is not read again unless it changed, and the summary tells new, changed, gone and unchanged
    records.

    What it promises: every record that matched the query during the whole run and whose date does not
    change appears exactly once in each window reported certified. Records created, deleted or re-dated
    meanwhile may or may not appear. The export is not one snapshot, as windows are read at different
    times; with --strict each window is one. To miss a record unnoticed in a certified window takes an
    insertion and a deletion that cancel out in it between two answers, or in windows older than 7 days an
    insertion between the server's own counting and slicing; with --strict both of these twice. Everything
    else is reported as open or unverified. A repaired window changed while it was read, and is certified
    since it was gone through again.

    Parameters
    ----------
    tables
        Tables to export; all if none is named. Tables they depend on come along.
    sandbox
        Export an invented institute on this machine instead of a real one.
    quiet
        Show nothing but errors.
    json
        Print a summary as JSON on stdout; with --dry-run the plan.
    """
    pace, records = pace or Pace(), filters or Filters()
    wanted = chosen(tables, READABLE)
    records.require_meaning(readable_tables(wanted))
    pace.check()
    formats = output.formats()
    dataset, traffic = Dataset(output.out), Traffic()
    await asyncio.to_thread(dataset.check)
    async with connected(connection, sandbox=sandbox, on_event=traffic.note) as client:
        reads = await plan(
            client,
            wanted,
            **records.of_attempts(),
            **records.of_content_attempts(),
            into=dataset,
            look_back_days=pace.look_back_days,
        )
        if output.dry_run:
            print_json(reads) if json else print_plan(err, reads)
            return exits.DONE
        if not (output.yes or sandbox or await goes_on(err, reads)):
            err.print("Nothing was exported.")
            return exits.INTERRUPTED
        with display(err, traffic, quiet=quiet) as shown:
            report = await harvest(
                client,
                reads,
                into=dataset,
                concurrency=pace.concurrency,
                formats=formats,
                formula_guard=output.formula_guard,
                strict=pace.strict,
                look_back_days=pace.look_back_days,
                source="the sandbox" if sandbox else None,
                on_event=shown.show,
            )
    if json:
        print_json(report)
    if not quiet:
        print_report(err, report, output.out, traffic)
        for line in _misses(report, records):
            say(err, line)
    if report.quarantined:
        return exits.UNREADABLE
    return exits.UNPROVEN if report.unproven else exits.DONE


def _misses(report: Report, records: Filters) -> Iterator[str]:
    for table in report.tables:
        if not records_of(table) and (line := records.miss(table.table)):
            yield line
