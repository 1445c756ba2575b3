"""What a long action shows: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from testpress_async.harvest.report import RowsRead, ShardFinished, TableFinished, TableStarted
from testpress_async.harvest.shard import PARENTS
from testpress_async.http.events import (
    Event,
    RateWaited,
    RequestFinished,
    RequestStarted,
    Throttled,
    TryFailed,
)

PLAIN_EVERY_S = 10.0


class Traffic:
    """Counts of what went over the wire."""

    def __init__(self) -> None:
        self.requests = self.in_flight = self.tries_failed = self.throttled = self.received_bytes = 0
        self.waited_s = 0.0

    def note(self, event: Event) -> None:
        match event:
            case RequestStarted():
                self.in_flight += 1
            case RequestFinished():
                self.in_flight -= 1
                self.requests += 1
                self.received_bytes += event.body_bytes
            case TryFailed():
                self.tries_failed += 1
            case Throttled():
                self.throttled += 1
            case RateWaited():
                self.waited_s += event.waited_s
            case _:
                pass

    def __str__(self) -> str:
        parts = [
            f"{self.requests:,} requests",
            f"{self.in_flight} in flight",
            f"{self.received_bytes / 1e6:,.1f} MB",
        ]
        if self.tries_failed:
            parts.append(f"{self.tries_failed:,} tries repeated")
        if self.throttled or self.waited_s >= 1:
            parts.append(f"{self.throttled:,} × 429, waited {self.waited_s:,.0f} s")
        return " · ".join(parts)


class Display(Protocol):
    """Shows events; used as a context."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, event: Event) -> None: ...


class Silent:
    """For --quiet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        pass


class _Count:
    """How far one table is: in parents where it is read per parent, else in records."""

    def __init__(self, started: TableStarted) -> None:
        self.per_parent = started.table in PARENTS
        self.total = started.requests if self.per_parent else started.records
        self.unit = "parents" if self.per_parent else "records"
        self.rows = self.parents = 0

    def add(self, event: RowsRead | ShardFinished) -> None:
        if isinstance(event, RowsRead):
            self.rows += event.records
        else:
            self.parents += 1

    @property
    def done(self) -> int:
        return self.parents if self.per_parent else self.rows


class Lines:
    """For logs and pipes: a line when a table begins and ends, and one every ten seconds."""

    def __init__(self, console: Console, traffic: Traffic) -> None:
        self._console, self._traffic = console, traffic
        self._count: _Count | None = None
        self._last_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        match event:
            case TableStarted():
                self._count = count = _Count(event)
                total = "length unknown" if count.total is None else f"{count.total:,} {count.unit}"
                self._print(f"{event.table}: reading, {total}")
            case RowsRead() | ShardFinished() if self._count is not None:
                self._count.add(event)
                now_s = time.monotonic()
                if now_s - self._last_s >= PLAIN_EVERY_S:
                    self._last_s = now_s
                    of = "" if self._count.total is None else f" of {self._count.total:,}"
                    self._print(
                        f"{event.table}: {self._count.done:,}{of} {self._count.unit}; {self._traffic}"
                    )
            case TableFinished() if self._count is not None:
                self._print(f"{event.table}: {self._count.rows:,} records")
            case _:
                pass

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Speed(ProgressColumn):
    """Steps a second, of a finished task over its whole time."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f}/s", style="progress.data.speed")


class LiveBars:
    """For terminals: a bar per table and a line about the traffic under them."""

    def __init__(self, console: Console, traffic: Traffic) -> None:
        self._traffic = traffic
        self._count: _Count | None = None
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", style="dim"),
            _Speed(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", style="cyan"),
            console=console,
            transient=False,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        match event:
            case TableStarted():
                self._count = count = _Count(event)
                self._bar = self._progress.add_task(event.table, total=count.total, unit=count.unit, note="")
            case RowsRead() | ShardFinished() if self._bar is not None and self._count is not None:
                self._count.add(event)
                self._progress.update(self._bar, completed=self._count.done, note=str(self._traffic))
            case TableFinished() if self._bar is not None and self._count is not None:
                done, rows = self._count.done, self._count.rows
                self._progress.update(self._bar, total=done, completed=done, note=f"{rows:,} records")
            case _:
                pass


def display(console: Console, traffic: Traffic, *, quiet: bool) -> Display:
    """The display that fits where we are."""
    if quiet:
        return Silent()
    return LiveBars(console, traffic) if console.is_terminal else Lines(console, traffic)
