"""What an export shows while it runs: bars on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from testpress_async.cli.progress import Lines, LiveBars, Silent, Traffic, display
from testpress_async.harvest.report import (
    FileStarted,
    PartsCommitted,
    RowsRead,
    ShardFinished,
    TableFinished,
    TableStarted,
)
from testpress_async.http.events import (
    Event,
    LoggedIn,
    RateWaited,
    RequestFinished,
    RequestStarted,
    Throttled,
    TryFailed,
)
from testpress_async.sandbox import Sandbox
from tests.support.exporting import SMALL, environment, export, opened
from tests.support.virtual_time import run

EVENTS: list[Event] = [
    TableStarted(table="attempts", requests=6, records=1200),
    RowsRead(table="attempts", records=700),
    RowsRead(table="attempts", records=500),
    ShardFinished(table="attempts"),
    PartsCommitted(records=1200, data_bytes=9),
    TableFinished(table="attempts"),
    TableStarted(table="user_answers", requests=2, records=None),
    RowsRead(table="user_answers", records=250),
    RowsRead(table="user_answers", records=83),
    ShardFinished(table="user_answers"),
    ShardFinished(table="user_answers"),
    TableFinished(table="user_answers"),
    TableStarted(table="exams", requests=None, records=None),
    RowsRead(table="exams", records=4),
    ShardFinished(table="exams"),
    TableFinished(table="exams"),
    FileStarted(name="attempts.jsonl", number=1, of=2),
    FileStarted(name="exams.jsonl", number=2, of=2),
]


def _console(*, terminal: bool) -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(force_terminal=terminal, file=file, width=160), file


def test_lines_tell_each_tables_begin_and_end():
    """Without a terminal every table has a line when it begins and one with its records at its end."""
    console, file = _console(terminal=False)
    with display(console, Traffic(), quiet=False) as shown:
        assert isinstance(shown, Lines)
        for event in EVENTS:
            shown.show(event)
    assert file.getvalue().splitlines() == [
        "attempts: reading, 1,200 records",
        "attempts: 1,200 records",
        "user_answers: reading, 2 parents",
        "user_answers: 333 records",
        "exams: reading, length unknown",
        "exams: 4 records",
        "writing files: about 2",
    ]


@pytest.mark.parametrize("brief", [False, True])
def test_lines_tell_how_far_it_is(brief: bool):
    """Every ten seconds there is a line, even if nothing happens; nothing else where it is to be brief."""
    console, file = _console(terminal=False)

    async def slow() -> None:
        with display(console, Traffic(), quiet=False, brief=brief) as shown:
            for event in EVENTS:
                shown.show(event)
                if isinstance(event, RowsRead | FileStarted):
                    await asyncio.sleep(11)

    run(slow())
    traffic = "0 requests · 0.0 MB"
    every_ten_s = [
        f"attempts: 700 of 1,200 records; {traffic}",
        f"attempts: 1,200 of 1,200 records; {traffic}",
        f"user_answers: 0 of 2 parents; {traffic}",
        f"user_answers: 0 of 2 parents; {traffic}",
        f"exams: 4 records; {traffic}",
        "writing files: attempts.jsonl, 1 of 2",
        "writing files: exams.jsonl, 2 of 2",
    ]
    told = file.getvalue().splitlines()
    assert [line for line in told if ";" in line or ".jsonl" in line] == every_ten_s
    assert (told == every_ten_s) == brief


def test_bars_show_tables_and_totals():
    """On a terminal every table has a bar with its total, its unit and, at its end, its records."""
    console, file = _console(terminal=True)
    with display(console, Traffic(), quiet=False) as shown:
        assert isinstance(shown, LiveBars)
        for event in EVENTS:
            shown.show(event)
    drawn = file.getvalue().splitlines()
    for table, total, records in (
        ("attempts", "1,200 ", "records"),
        ("user_answers", "333 ", "records"),
        ("exams", "4 ", "records"),
        ("writing files", "2 ", "files"),
    ):
        last = next(plain for line in reversed(drawn) if table in (plain := Text.from_ansi(line).plain))
        assert total in last
        assert records in last
        assert "✓" in last


def test_nothing_is_shown_when_quiet():
    """--quiet silences the display even on a terminal."""
    console, file = _console(terminal=True)
    with display(console, Traffic(), quiet=True) as shown:
        assert isinstance(shown, Silent)
        for event in EVENTS:
            shown.show(event)
    assert file.getvalue() == ""


@pytest.mark.parametrize("kind", [Lines, LiveBars])
def test_events_before_any_table_are_ignored(kind: type[Lines | LiveBars]):
    """A display that was told of no table yet shows nothing and does not fail."""
    console, file = _console(terminal=False)
    with kind(console, Traffic()) as shown:
        for event in (EVENTS[1], EVENTS[3], EVENTS[5]):
            shown.show(event)
    assert file.getvalue().strip() == ""


def test_traffic_counts_what_went_over_the_wire():
    """Requests, bytes and, where there are any, those on the way, repeated tries and refusals are told."""
    traffic = Traffic()
    assert str(traffic) == "0 requests · 0.0 MB"
    started = RequestStarted(method="GET", url="/x/")
    ended = RequestFinished(method="GET", url="/x/", status=200, body_bytes=1_250_000, elapsed_s=0.1)
    for event in (started, started, ended, LoggedIn(lifetime_s=None)):
        traffic.note(event)
    assert str(traffic) == "1 requests · 1 in flight · 1.2 MB"
    traffic.note(RateWaited(url="/x/", waited_s=0.5))
    assert "waited" not in str(traffic)
    traffic.note(TryFailed(method="GET", url="/x/", try_no=1, error="TimedOut", wait_s=0.1))
    traffic.note(Throttled(url="/x/", retry_after_s=None))
    traffic.note(RateWaited(url="/x/", waited_s=2.0))
    assert str(traffic) == (
        "1 requests · 1 in flight · 1.2 MB · 1 tries repeated · 1 × 429 · waited 2.5 s a request"
    )


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_real_export_is_shown(tmp_path: Path, terminal: bool):
    """Every table of an export is shown with the institute's totals."""
    console, file = _console(terminal=terminal)
    async with opened() as (institute, client):
        with display(console, Traffic(), quiet=False) as shown:
            await export(client, tmp_path, on_event=shown.show)
        counts = institute.truth.export_counts()
    told = Text.from_ansi(file.getvalue()).plain.splitlines()
    for table in ("exams", "attempts", "content_attempts", "attempt_details", "user_answers", "attendance"):
        assert any(table in line and f"{counts[table]:,} records" in line for line in told)
    assert any("writing files" in line for line in told)


async def test_every_file_is_announced(tmp_path: Path):
    """What is made at the end is told file by file, tables of a database too, with how many there will be."""
    told: list[FileStarted] = []
    async with opened() as (_, client):
        await export(
            client,
            tmp_path,
            "exams",
            formats=("csv", "duckdb"),
            on_event=lambda event: told.append(event) if isinstance(event, FileStarted) else None,
        )
    assert [(each.name, each.number, each.of) for each in told] == [
        ("exams.jsonl", 1, 3),
        ("exams.csv", 2, 3),
        ("testpress.duckdb: exams", 3, 3),
    ]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
@pytest.mark.parametrize("quiet", [False, True])
async def test_a_stream_into_a_file_has_a_bar(tmp_path: Path, quiet: bool):
    """Where messages are seen and data is not, it is shown how far it is; with --quiet nothing is."""
    ours, theirs = os.openpty()
    async with Sandbox(**SMALL, per_page=20) as institute:
        with (tmp_path / "attempts.jsonl").open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "testpress_async", "stream", "attempts", *["--quiet"] * quiet),
                env=environment(institute, COLUMNS="80", TERM="xterm"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=theirs,
            )
        assert await process.wait() == 0
    os.close(theirs)
    told = Text.from_ansi(_left_in(ours).replace("\r\n", "\n")).plain.splitlines()
    assert len((tmp_path / "attempts.jsonl").read_bytes().splitlines()) == 60
    last = [line.split()[:5] for line in told if "attempts" in line][-1:]
    assert last == ([] if quiet else [["✓", "attempts", "━" * 20, "60", "records"]])


def _left_in(terminal: int) -> str:
    """What was written to a terminal that nobody has open any more."""
    data = b""
    with contextlib.suppress(OSError):  # Linux's way to say that this was all
        while more := os.read(terminal, 65_536):
            data += more
    os.close(terminal)
    return data.decode()
