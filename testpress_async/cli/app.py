"""Commands. Messages and progress go to stderr, data to stdout or into files.

cyclopts reads the arguments: unlike click-based libraries it takes `async def` commands, types and docstrings
as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from testpress_async._version import __version__
from testpress_async.cli import exits
from testpress_async.cli.check import run_checks
from testpress_async.cli.connect import Connection, Filters, chosen, client_for, environment, id_list
from testpress_async.cli.progress import Traffic, display
from testpress_async.client import Client
from testpress_async.errors import ConfigError, DatasetError, Error
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.plan import Plan, plan
from testpress_async.harvest.report import Report
from testpress_async.harvest.run import harvest, one_line
from testpress_async.harvest.shard import READABLE, readable_tables
from testpress_async.harvest.tables import with_parent
from testpress_async.listing.listing import Listing
from testpress_async.sandbox import Live, RateLimit, Sandbox, Settings, serve

STREAMS = ("attempts", "content_attempts", "exams", "users", "courses", "user_answers", "attendance")

app = App(
    name="testpress",
    version=__version__,
    help=(
        "Stream and export a Testpress institute: attempts, answers, content attempts, attendance.\n\n"
        "Try it without an institute:  testpress export --sandbox --out out"
    ),
    help_epilogue=f"Exit codes:\n\n```\n{exits.table()}\n```",
    help_format="markdown",
    default_parameter=Parameter(negative=""),
)
err = Console(stderr=True, soft_wrap=True)


@app.command
async def export(
    *tables: str,
    out: Path,
    sandbox: bool = False,
    format: Literal["jsonl", "none"] = "jsonl",
    concurrency: int = 8,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    filters: Filters | None = None,
    connection: Connection | None = None,
) -> int:
    """Export an institute, or parts of it, to JSON Lines files.

    The same command again finishes an interrupted export, or reads everything anew after a complete one; the
    newest reading of each record wins. Reading is at-least-once, committing is idempotent.

    Parameters
    ----------
    tables
        Tables to export; all if none is named. Tables they depend on come along.
    out
        Directory of the dataset.
    sandbox
        Export an invented institute on this machine instead of a real one.
    format
        jsonl writes TABLE.jsonl beside the landed parts; none keeps the parts only.
    concurrency
        Pages or attempts read at once.
    dry_run
        Show what would be read, and what it costs, and stop.
    quiet
        Show nothing but errors.
    json
        Print a summary as JSON on stdout.
    """
    traffic, chosen_records = Traffic(), filters or Filters()
    wanted = chosen(tables, READABLE)
    chosen_records.require_meaning(readable_tables(wanted))
    if concurrency < 1:
        raise ConfigError("--concurrency", "expected at least 1")
    async with _client(connection, sandbox, on_event=traffic.note) as client:
        reads = await plan(
            client,
            wanted,
            **chosen_records.of_attempts(),
            **chosen_records.of_content_attempts(),
        )
        if dry_run:
            _print_plan(reads, json=json)
            return exits.DONE
        with display(err, traffic, quiet=quiet) as shown:
            report = await harvest(
                client,
                reads,
                into=Dataset(out),
                concurrency=concurrency,
                finished_tables=format == "jsonl",
                source="the sandbox" if sandbox else None,
                on_event=shown.show,
            )
    if json:
        _print_json(report)
    if not quiet:
        _print_report(report, out, traffic)
    if report.quarantined:
        return exits.UNREADABLE
    return exits.UNPROVEN if report.unproven else exits.DONE


@app.command
async def stream(
    table: Literal["attempts", "content_attempts", "exams", "users", "courses", "user_answers", "attendance"],
    *,
    ids: str | None = None,
    ordering: str | None = None,
    window: int = 4,
    sandbox: bool = False,
    filters: Filters | None = None,
    connection: Connection | None = None,
) -> int:
    """Print the server's own records as JSON Lines on stdout, for pipes.

    Ends quietly, and stops asking, when the reader does: `testpress stream attempts | head -5`.

    Parameters
    ----------
    table
        What to stream.
    ids
        Attempts (user_answers) or video conferences (attendance) to stream.
    ordering
        Order of attempts, such as date or -date.
    window
        Pages requested ahead of the reader.
    sandbox
        Stream an invented institute on this machine.
    """
    per_parent = table in ("user_answers", "attendance")
    if ids is not None and not per_parent:
        raise ConfigError("--ids", f"is only for user_answers and attendance, not for {table}")
    (filters or Filters()).require_meaning([table])
    rejected = 0
    async with _client(connection, sandbox) as client:
        for parent in id_list("--ids", ids) or [None]:
            listing = _listing(client, table, parent, filters or Filters(), ordering)
            async with contextlib.aclosing(listing.raw_pages(window)) as pages:
                async for page in pages:
                    rows = (with_parent(table, parent, one_line(bytes(row))) for row in page.rows[table])
                    for error in page.rejected:
                        rejected += 1
                        err.print(f"testpress: {error}", style="red", markup=False, highlight=False)
                    if not _wrote(b"".join(row + b"\n" for row in rows)):
                        return exits.DONE
    return exits.UNREADABLE if rejected else exits.DONE


@app.command
async def get(
    what: Literal["attempt"],
    id: int,
    *,
    sandbox: bool = False,
    connection: Connection | None = None,
) -> int:
    """Print one record as JSON.

    Parameters
    ----------
    what
        Kind of record.
    id
        Its id.
    sandbox
        Ask an invented institute on this machine.
    """
    async with _client(connection, sandbox) as client:
        body = await client.attempts.get_raw(id)
    _wrote(msgspec.json.format(body, indent=2) + b"\n")
    return exits.DONE


@app.command
async def check(*, sandbox: bool = False, connection: Connection | None = None) -> int:
    """Find out whether the institute can be reached and used, and what a page costs.

    Parameters
    ----------
    sandbox
        Check an invented institute on this machine.
    """
    async with _options(connection, sandbox) as (options, environ):
        return await run_checks(options, environ, Console(soft_wrap=True, highlight=False))


@app.command(name="sandbox")
async def sandbox_command(
    *,
    port: int = 8765,
    attempts: int = 2_000,
    exams: int = 8,
    users: int = 300,
    seed: int = 1,
    latency_ms: float = 0.0,
    rate: float | None = None,
    fail_rate: float = 0.0,
    live: bool = False,
) -> int:
    """Run an invented institute on this machine until Ctrl-C.

    Parameters
    ----------
    port
        Port of 127.0.0.1; 0 takes a free one.
    attempts
        How many exam attempts it has; they take no memory.
    exams
        How many exams.
    users
        How many students.
    seed
        The same seed gives the same records.
    latency_ms
        Wait before each answer.
    rate
        Requests a second it allows before it answers 429.
    fail_rate
        Share of requests, 0 to 1, that fail or break off.
    live
        Insert, edit and delete attempts while being read.
    """
    settings = _settings(
        port=port,
        attempts=attempts,
        exams=exams,
        users=users,
        seed=seed,
        latency_ms=latency_ms,
        rate=None if rate is None else RateLimit(max(1, round(rate * 10)), 10.0),
        fail_rate=fail_rate,
        live=Live(inserts_per_s=2, deletes_per_s=0.5, edits_per_s=2) if live else None,
    )
    try:
        await serve(settings, lambda line: err.print(line, markup=False, highlight=False))
    except OSError as error:
        raise ConfigError("--port", f"{port} cannot be used: {error.strerror}") from None
    return exits.DONE


def _settings(**options: Any) -> Settings:
    try:
        return Settings(**options)
    except ValueError as error:
        raise ConfigError("sandbox", str(error)) from None


# --- running -----------------------------------------------------------------------------------------


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        command, bound, _ = app.parse_args(
            list(arguments), exit_on_error=False, print_error=True, error_console=err
        )
    except CycloptsError:
        return exits.USAGE
    try:
        outcome = command(*bound.args, **bound.kwargs)
        return _finish(outcome) if asyncio.iscoroutine(outcome) else exits.DONE
    except Error as error:
        err.print(f"testpress: {exits.sentence(error)}", style="red", markup=False, highlight=False)
        return exits.code_of(error)


def _finish(work: Coroutine[Any, Any, int]) -> int:
    try:
        with asyncio.Runner(loop_factory=_fast_loop()) as runner:
            return runner.run(_until_told(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        err.print("Stopped. What was committed stays; the same command goes on from there.", highlight=False)
        return exits.INTERRUPTED


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """*work*, cancelled by SIGTERM as by Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows has no signals for loops
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.asynccontextmanager
async def _options(
    connection: Connection | None, sandbox: bool
) -> AsyncGenerator[tuple[Connection, Mapping[str, str]]]:
    """Connection and environment as given, or of a sandbox that lives as long as this context."""
    options = connection or Connection()
    if not sandbox:
        yield options, environment()
        return
    async with Sandbox() as institute:
        known = {"TESTPRESS_PASSWORD": institute.password}
        yield replace(options, base_url=institute.url, username=institute.username, password_file=None), known


@contextlib.asynccontextmanager
async def _client(connection: Connection | None, sandbox: bool, **more: Any) -> AsyncGenerator[Client]:
    async with (
        _options(connection, sandbox) as (options, environ),
        client_for(options, environ, **more) as client,
    ):
        yield client


def _listing(
    client: Client, table: str, parent: int | None, filters: Filters, ordering: str | None
) -> Listing[Any]:
    if table in ("user_answers", "attendance") and parent is None:
        raise ConfigError("--ids", f"is missing: {table} are read per attempt or conference")
    makers: dict[str, Callable[[], Listing[Any]]] = {
        "attempts": lambda: client.attempts.list(**filters.of_attempts(), ordering=ordering),
        "content_attempts": lambda: client.content_attempts.list(
            user_ids=id_list("--users", filters.users),
            course_ids=id_list("--course-ids", filters.course_ids),
            state=filters.content_state,
        ),
        "exams": client.exams.list,
        "users": client.users.list,
        "courses": client.courses.list,
        "user_answers": lambda: client.attempts.user_answers(parent or 0),
        "attendance": lambda: client.video_conferences.attendees(parent or 0),
    }
    return makers[table]()


# --- printing ----------------------------------------------------------------------------------------


def _wrote(data: bytes) -> bool:
    """Write to stdout; False if its reader has gone."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing to complain about at exit
        return False
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise DatasetError("stdout", error.strerror or "cannot be written") from None
    return True


def _print_json(value: Plan | Report) -> None:
    _wrote(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def _print_plan(reads: Plan, *, json: bool) -> None:
    if json:
        return _print_json(reads)
    grid = _grid("table", "records", "requests")
    for cost in reads.costs:
        grid.add_row(cost.table, _number(cost.records), _number(cost.requests))
    err.print(grid)
    hours = reads.eta_s(10) / 3600
    err.print(f"At least {reads.requests:,} requests: {hours:.1f} hours at 10 a second.", highlight=False)
    return None


def _print_report(report: Report, out: Path, traffic: Traffic) -> None:
    grid = _grid("table", "records", "server's count", "notes")
    for each in report.tables:
        grid.add_row(each.table, f"{each.records:,}", _number(each.expected, ""), _notes(each))
    err.print(grid)
    resumed = " (resumed)" if report.resumed else ""
    err.print(
        f"{report.records:,} records in {report.elapsed_s:,.1f} s{resumed}: {out}  ·  {traffic}",
        highlight=False,
        markup=False,
    )


def _grid(*columns: str) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, justify="left" if column in ("table", "notes") else "right")
    return grid


def _notes(table: Any) -> str:
    notes = [
        f"{table.skipped_shards:,} reads already stored" if table.skipped_shards else "",
        f"{table.missing_parents:,} parents gone" if table.missing_parents else "",
        f"{table.quarantined:,} bad records, see quarantine/" if table.quarantined else "",
        "changed while being read" if not table.agrees else "",
    ]
    return ", ".join(filter(None, notes))


def _number(value: int | None, unknown: str = "?") -> str:
    return unknown if value is None else f"{value:,}"
