"""What a long action shows: bars on a terminal, plain lines elsewhere, nothing when quiet.

Bars and lines are told the same events; what they know is in `_Count` and `Traffic`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from testpress_async.harvest.report import FileStarted, RowsRead, ShardFinished, TableFinished, TableStarted
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
FILES = "writing files"


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
        parts = [f"{self.requests:,} requests", f"{self.received_bytes / 1e6:,.1f} MB"]
        if self.in_flight:
            parts.insert(1, f"{self.in_flight} in flight")
        if self.tries_failed:
            parts.append(f"{self.tries_failed:,} tries repeated")
        if self.throttled:
            parts.append(f"{self.throttled:,} × 429")
        if self.waited_s >= 1:  # many wait at a time: their sum is no time that anybody knows
            parts.append(f"waited {self.waited_s / max(1, self.requests):,.1f} s a request")
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
        self.table = started.table
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

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.table}: {self.done:,}{of} {self.unit}"


class Lines:
    """For logs and pipes: a line when a table begins and ends, and one every ten seconds, come what may.

    Args:
        brief: Only the latter: for an action that is expected to be silent while it is short.
    """

    def __init__(
        self, console: Console, traffic: Traffic, *, brief: bool = False, every_s: float = PLAIN_EVERY_S
    ) -> None:
        self._console, self._traffic, self._brief, self._every_s = console, traffic, brief, every_s
        self._count: _Count | None = None
        self._file: FileStarted | None = None
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(RuntimeError):  # no loop, no time
            self._next = asyncio.get_running_loop().call_later(self._every_s, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        if self._next is not None:
            self._next.cancel()

    def _tick(self) -> None:
        self._next = asyncio.get_running_loop().call_later(self._every_s, self._tick)
        if self._file is not None:
            self._print(f"{FILES}: {self._file.name}, {self._file.number} of {self._file.of}")
        elif self._count is not None:
            self._print(f"{self._count}; {self._traffic}")

    def show(self, event: Event) -> None:
        match event:
            case TableStarted():
                self._count = count = _Count(event)
                total = "length unknown" if count.total is None else f"{count.total:,} {count.unit}"
                self._tell(f"{event.table}: reading, {total}")
            case RowsRead() | ShardFinished() if self._count is not None:
                self._count.add(event)
            case TableFinished() if self._count is not None:
                self._tell(f"{event.table}: {self._count.rows:,} records")
                self._count = None
            case FileStarted():
                if self._file is None:
                    self._tell(f"{FILES}: about {event.of}")
                self._file = event
            case _:
                pass

    def _tell(self, line: str) -> None:
        if not self._brief:
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Done(ProgressColumn):
    """Steps done, of how many, in which unit."""

    def render(self, task: Task) -> Text:
        of = "" if task.total is None or task.finished else f"/{task.total:,.0f}"
        return Text.assemble((f"{task.completed:,.0f}{of}", "bold"), (f" {task.fields['unit']}", "dim"))


class _Speed(ProgressColumn):
    """Steps a second, of a finished task over its whole time, if that was long enough to tell."""

    def render(self, task: Task) -> Text:
        took_s = task.finished_time or 0.0
        speed = (task.completed / took_s if took_s >= 1 else None) if task.finished else task.speed
        return Text("" if not speed else f"{speed:,.0f}/s", style="cyan")


class _Bars(Progress):
    """Bars, and under them what happens right now."""

    below: object = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.below is not None:
            yield Text(f"  {self.below}", style="dim", no_wrap=True, overflow="ellipsis")


class LiveBars:
    """For terminals: a bar per table, one for the files made of them, and what goes over the wire."""

    def __init__(self, console: Console, traffic: Traffic) -> None:
        self._traffic = traffic
        self._count: _Count | None = None
        self._file: FileStarted | None = None
        self._bar = self._file_bar = TaskID(-1)
        self._progress = _Bars(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=20, complete_style="cyan", finished_style="green", pulse_style="cyan"),
            _Done(table_column=Column(no_wrap=True)),
            _Speed(table_column=Column(no_wrap=True, justify="right")),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.below = self._traffic
        self._progress.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        self._progress.below = None
        if self._file is not None and kind is None:
            self._progress.update(self._file_bar, completed=self._file.number, total=self._file.number)
        self._progress.stop()

    def show(self, event: Event) -> None:
        match event:
            case TableStarted():
                self._count = count = _Count(event)
                self._bar = self._progress.add_task(event.table, total=count.total, unit=count.unit)
            case RowsRead() | ShardFinished() if self._count is not None:
                self._count.add(event)
                self._progress.update(self._bar, completed=self._count.done)
            case TableFinished() if self._count is not None:
                rows = self._count.rows
                self._progress.update(self._bar, total=rows, completed=rows, unit="records")
            case FileStarted():
                if self._file is None:
                    self._file_bar = self._progress.add_task(FILES, unit="files")
                self._file, self._progress.below = event, event.name
                of = max(event.of, event.number)
                self._progress.update(self._file_bar, completed=event.number - 1, total=of)
            case _:
                pass


def display(console: Console, traffic: Traffic, *, quiet: bool, brief: bool = False) -> Display:
    """The display that fits where we are; `brief` as for `Lines`."""
    if quiet:
        return Silent()
    return LiveBars(console, traffic) if console.is_terminal else Lines(console, traffic, brief=brief)
