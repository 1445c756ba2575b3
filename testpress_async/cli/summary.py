"""What an export will cost, what it came to, and whether to go on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from testpress_async.cli.progress import Traffic
from testpress_async.harvest.plan import Plan, told
from testpress_async.harvest.report import Report, TableReport
from testpress_async.models.display import duration, number, size

ASSUMED_PER_S = 10.0
"""Requests a second where no limit is known; the hours are told with it."""

ASK_ABOVE_S = 600.0

Cells = dict[str, str]


# --- before ------------------------------------------------------------------------------------------


def print_plan(console: Console, reads: Plan) -> None:
    """A line a table, and the sum."""
    rows = [told(cost, "?") for cost in reads.costs]
    _print_grid(console, rows, ("table", "records", "requests", "size"))
    say(console, f"{cost_of(reads)}.")
    for note in reads.notes:
        say(console, f"Note: {note}")


def cost_of(reads: Plan) -> str:
    """Requests, time and bytes, as far as they are known before the parents are read."""
    known_bytes = sum(cost.data_bytes or 0 for cost in reads.costs)
    return (
        f"At least {reads.requests:,} requests: {time_for(reads.requests, reads.requests_per_s)}; "
        f"at least {size(known_bytes)}"
    )


def time_for(requests: int, per_s: float | None) -> str:
    """How long they take at a rate, or at the assumed one, and which it is."""
    rate, assumed = (ASSUMED_PER_S, " (assumed)") if per_s is None else (per_s, "")
    return f"{duration(requests / rate)} at {rate:.3g} a second{assumed}"


def seconds_of(reads: Plan) -> float:
    return reads.eta_s(reads.requests_per_s or ASSUMED_PER_S)


async def goes_on(console: Console, reads: Plan) -> bool:
    """Whether somebody who sits there wants to wait that long. Where nobody does, the answer is yes."""
    if seconds_of(reads) <= ASK_ABOVE_S or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print_plan(console, reads)
    say(console, "What an earlier export into the same directory has stored is left out.")
    console.print("Go on? [y/N] ", end="", markup=False, highlight=False)
    return (await _typed_line()).strip().lower() in ("y", "yes")


async def _typed_line() -> str:
    """A line from the terminal. Unlike `input`, it ends at once with Ctrl-C, as nothing blocks."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    try:
        loop.add_reader(sys.stdin.fileno(), read)
    except (NotImplementedError, OSError):  # Windows' loop cannot wait for terminals
        return await asyncio.to_thread(sys.stdin.readline)
    try:
        return await line
    finally:
        loop.remove_reader(sys.stdin.fileno())


# --- after -------------------------------------------------------------------------------------------

_CHANGES = ("new", "changed", "gone", "unchanged")
_PROOFS = ("certified", "repaired", "open", "unverified", "quarantined")
_ALWAYS = ("certified", "unverified")  # a nought is an answer, too


def print_report(console: Console, report: Report, out: Path, traffic: Traffic) -> None:
    """A line a table, and what else is to be known."""
    rows = [_row(table) for table in report.tables]
    changes = [name for name in _CHANGES if any(row.get(name) for row in rows)]
    proofs = [name for name in _PROOFS if name in _ALWAYS or any(row.get(name) for row in rows)]
    whole = ("table", "records", *changes, *proofs)
    if _width(rows, whole) <= console.width:
        _print_grid(console, rows, whole)
    else:
        _print_grid(console, rows, ("table", "records", *changes))
        _print_grid(console, rows, ("table", *proofs))
    for line in _lines(report, out, traffic):
        say(console, line)


def _row(table: TableReport) -> Cells:
    changes = table.changes
    row = {
        "table": table.table,
        "records": f"{records_of(table):,}",
        "quarantined": number(table.quarantined or None, ""),
    }
    if changes is not None:
        row |= {name: number(getattr(changes, name) or None, "") for name in _CHANGES}
    if table.certified or table.open or table.unverified:
        row |= {name: number(getattr(table, name) or None, "") for name in _PROOFS}
        row |= {name: number(getattr(table, name)) for name in _ALWAYS}
    return row


def records_of(table: TableReport) -> int:
    """Rows of the finished table, where one was made."""
    return table.records if table.changes is None else table.changes.records


def _lines(report: Report, out: Path, traffic: Traffic) -> Iterator[str]:
    resumed = " (resumed)" if report.resumed else ""
    records = sum(map(records_of, report.tables))
    yield f"{records:,} records in {report.elapsed_s:,.1f} s{resumed}: {out}  ·  {traffic}"
    if report.saved_requests:
        yield f"Saved {report.saved_requests:,} requests: what they would bring is stored and still counts."
    if report.saved_bytes:
        yield f"Saved {size(report.saved_bytes)}: what is sent along again and again is stored once."
    for table in report.tables:
        if table.missing_parents:
            yield f"{table.table}: parents that are gone: {table.missing_parents:,}"
        if table.quarantined:
            yield f"{table.table}: bad records: {table.quarantined:,}, see {out / 'quarantine'}"
    for field in report.unknown_fields:
        first = "" if field.first_id is None else f", first {field.first_id}"
        name = repr(field.field)  # the server's text: it does not steer the terminal
        yield f"{field.table}: unknown field {name} in {field.records:,} records{first}; kept as it is."
    for note in report.notes:
        yield f"Note: {note}"
    if report.unproven:
        yield (
            f"UNVERIFIED: {', '.join(report.unproven)} changed while being read, or did not match the "
            "server's count. Run the same command again."
        )
    made = [name for name in report.files if not name.endswith(".jsonl")]
    if made:
        yield f"Written: {_names(out, made)}"
    if report.removed:
        yield f"Removed, as out of date: {_names(out, report.removed)}"


def _names(out: Path, names: Sequence[str]) -> str:
    return str(out / names[0]) if len(names) == 1 else f"{', '.join(names)} in {out}"


# --- texts -------------------------------------------------------------------------------------------


def say(console: Console, line: str) -> None:
    """A line as it is."""
    console.print(line, highlight=False, markup=False)


def _print_grid(console: Console, rows: Sequence[Cells], columns: Sequence[str]) -> None:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, justify="left" if column == "table" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(row.get(column, "") for column in columns))
    console.print(grid, crop=False)


def _width(rows: Sequence[Cells], columns: Sequence[str]) -> int:
    return sum(3 + max([len(column), *(len(row.get(column, "")) for row in rows)]) for column in columns)
