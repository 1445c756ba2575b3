"""What an export shows while it runs: bars on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from testpress_async.cli import progress
from testpress_async.cli.progress import Lines, LiveBars, Silent, Traffic, display
from testpress_async.harvest.report import (
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
from tests.support.exporting import export, opened

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
    ]


def test_lines_tell_how_far_it_is(monkeypatch: pytest.MonkeyPatch):
    """Long tables are told about on the way, in the unit of their total."""
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    console, file = _console(terminal=False)
    with Lines(console, Traffic()) as shown:
        for event in EVENTS:
            shown.show(event)
    told = file.getvalue().splitlines()
    traffic = "0 requests · 0 in flight · 0.0 MB"
    assert f"attempts: 700 of 1,200 records; {traffic}" in told
    assert f"user_answers: 1 of 2 parents; {traffic}" in told
    assert f"exams: 4 records; {traffic}" in told


def test_bars_show_tables_and_totals():
    """On a terminal every table has a bar with its total, its unit and, at its end, its records."""
    console, file = _console(terminal=True)
    with display(console, Traffic(), quiet=False) as shown:
        assert isinstance(shown, LiveBars)
        for event in EVENTS:
            shown.show(event)
    drawn = file.getvalue().splitlines()
    for table, total, records in (
        ("attempts", "1200/1200", "1,200 records"),
        ("user_answers", "2/2", "333 records"),
        ("exams", "4/4", "4 records"),
    ):
        last = next(line for line in reversed(drawn) if table in line)
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
    """Requests, bytes and, once there are any, repeated tries and refusals are told."""
    traffic = Traffic()
    assert str(traffic) == "0 requests · 0 in flight · 0.0 MB"
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
    assert str(traffic) == ("1 requests · 1 in flight · 1.2 MB · 1 tries repeated · 1 × 429, waited 2 s")


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_real_export_is_shown(tmp_path: Path, terminal: bool):
    """Every table of an export is shown with the institute's totals."""
    console, file = _console(terminal=terminal)
    async with opened() as (institute, client):
        with display(console, Traffic(), quiet=False) as shown:
            await export(client, tmp_path, on_event=shown.show)
        counts = institute.truth.export_counts()
    for table in ("exams", "attempts", "content_attempts", "attempt_details", "user_answers", "attendance"):
        assert any(
            table in line and f"{counts[table]:,} records" in line for line in file.getvalue().splitlines()
        )
