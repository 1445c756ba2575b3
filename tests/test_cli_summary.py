"""What the command line tells before and after an export, and when it asks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from testpress_async.cli import exits
from testpress_async.cli.progress import Traffic
from testpress_async.cli.summary import cost_of, print_report
from testpress_async.harvest.plan import Plan, TablePlan
from testpress_async.harvest.report import Changes, Report, TableReport, UnknownField
from testpress_async.models.display import duration, size
from testpress_async.sandbox import Sandbox
from tests.support.exporting import SMALL, environment

ATTEMPTS = TableReport(
    table="attempts",
    records=1_200,
    certified=7,
    repaired=2,
    open=1,
    unverified=3,
    quarantined=4,
    changes=Changes(new=100, changed=20, gone=5, unchanged=1_080),
)
ALL = ("new", "changed", "gone", "unchanged", "certified", "repaired", "open", "unverified", "quarantined")


def printed(report: Report, *, width: int) -> str:
    told = io.StringIO()
    print_report(Console(file=told, width=width, soft_wrap=True), report, Path("out"), Traffic())
    return told.getvalue()


def _report(*tables: TableReport, **more: object) -> Report:
    return Report(tables=tables, requests=5, elapsed_s=2.0, data_bytes=9, resumed=False, **more)  # pyright: ignore


@pytest.mark.parametrize("width", [80, 160])
def test_every_number_of_a_report_is_shown(width: int):
    """All columns that say something; beside each other, or in two grids where there is no room."""
    told = printed(_report(ATTEMPTS), width=width)
    words = told.split()
    for number in ("1,200", "100", "20", "5", "1,080", "7", "2", "1", "3", "4"):
        assert number in words
    heads = [line.split() for line in told.splitlines() if line.split()[:1] == ["table"]]
    whole = [["table", "records", *ALL]]
    assert heads == (whole if width == 160 else [["table", "records", *ALL[:4]], ["table", *ALL[4:]]])
    assert all(len(line) <= width for line in told.splitlines() if "attempts" in line.split()[:1])
    assert "UNVERIFIED: attempts changed while being read" in told
    assert "attempts: bad records: 4, see out/quarantine\n" in told


def test_what_is_nothing_takes_no_column():
    """A first export of a calm institute shows what was proved, and that all of it was."""
    calm = TableReport(table="exams", records=3, certified=1, changes=Changes(new=3))
    told = printed(_report(calm), width=80)
    assert ["table", "records", "new", "certified", "unverified"] in [
        line.split() for line in told.splitlines()
    ]
    assert ["exams", "3", "3", "1", "0"] in [line.split() for line in told.splitlines()]
    assert "Saved" not in told


def test_a_fields_name_does_not_steer_the_terminal():
    """It is the server's text: control characters are shown, not sent."""
    odd = UnknownField(table="exams", field="\x1b[2Jgone [red]", first_id=None, records=1)
    told = printed(_report(unknown_fields=(odd,), notes=("date_1 is ignored",)), width=80)
    assert "exams: unknown field '\\x1b[2Jgone [red]' in 1 records; kept as it is.\n" in told
    assert "\x1b" not in told
    assert "Note: date_1 is ignored\n" in told


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (None, "At least 72,000 requests: 2.0 hours at 10 a second (assumed); at least 1.5 MB"),
        (2.0, "At least 72,000 requests: 10.0 hours at 2 a second; at least 1.5 MB"),
        (1000 / 60, "At least 72,000 requests: 1.2 hours at 16.7 a second; at least 1.5 MB"),
    ],
)
def test_the_cost_is_told_at_the_known_limit_or_the_assumed_one(rate: float | None, expected: str):
    """Requests, hours and bytes, and under which limit."""
    costs = (
        TablePlan(table="attempts", records=72_000, requests=360, data_bytes=1_500_000),
        TablePlan(table="user_answers", records=None, requests=71_640),
        TablePlan(table="attendance", records=None, requests=None),
    )
    assert cost_of(Plan(shards=(), derived=(), costs=costs, requests_per_s=rate)) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (3599, "60 minutes"), (3600, "1.0 hours")],
)
def test_durations_are_told_in_fitting_units(seconds: float, text: str):
    """Hours as soon as it is one."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("data_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB"), (3_000_000_000, "3.0 GB")],
)
def test_sizes_are_told_in_fitting_units(data_bytes: int, text: str):
    """As disks count them."""
    assert size(data_bytes) == text


# --- asking ------------------------------------------------------------------------------------------

SLOW = (
    "--rate",
    "400/h",
)  # 60 attempts and their answers take more than ten minutes, unless all goes at once


class Terminal:
    """The command line with somebody before the screen."""

    def __init__(self, *arguments: str, institute: Sandbox) -> None:
        self._ours, theirs = os.openpty()
        self.told = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "testpress_async", "export", *arguments],
            env=environment(institute, COLUMNS="120", TERM="dumb"),
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    async def says(self, text: str) -> None:
        """Read until *text* has come."""
        while text not in self.told:
            assert await self._read(), f"ended with: {self.told}"

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    async def ends(self) -> int:
        while await self._read():
            pass
        os.close(self._ours)
        return await asyncio.to_thread(self.process.wait)

    async def _read(self) -> bool:
        try:
            data = await asyncio.to_thread(os.read, self._ours, 4096)
        except OSError as error:  # Linux's way to say that the other end is closed
            if error.errno != errno.EIO:
                raise
            return False
        self.told += data.decode(errors="replace")
        return bool(data)


pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")


@pytest.mark.parametrize(("answer", "code"), [("y\n", exits.DONE), ("n\n", 130), ("\n", 130), ("\x04", 130)])
async def test_a_long_export_asks_first(tmp_path: Path, answer: str, code: int):
    """Requests and hours are shown; only a yes goes on, and a no has written nothing."""
    out = tmp_path / "out"
    async with Sandbox(**SMALL) as institute:
        terminal = Terminal("user_answers", "attempt_details", "--out", str(out), *SLOW, institute=institute)
        await terminal.says("Go on? [y/N] ")
        assert "At least 121 requests: 18 minutes at 0.111 a second" in terminal.told
        asked = institute.requests
        assert not out.exists()
        terminal.types(answer)
        assert await terminal.ends() == code
        if code == exits.DONE:
            assert (out / "user_answers.jsonl").exists()
        else:
            assert institute.requests == asked
            assert "Nothing was exported." in terminal.told
            assert not out.exists()


async def test_ctrl_c_ends_the_question(tmp_path: Path):
    """Waiting for an answer blocks nothing: one interrupt is enough."""
    async with Sandbox(**SMALL) as institute:
        terminal = Terminal(
            "user_answers", "--out", str(tmp_path / "out"), "--rate", "100/h", institute=institute
        )
        await terminal.says("Go on? [y/N] ")
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.ends() == exits.INTERRUPTED
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [("--yes", *SLOW), ("--rate", "600/min")], ids=" ".join)
async def test_nobody_is_asked_who_said_yes_or_need_not_wait(tmp_path: Path, options: tuple[str, ...]):
    """--yes goes on at once; so does an export of minutes."""
    async with Sandbox(**SMALL) as institute:
        terminal = Terminal("attempt_details", "--out", str(tmp_path / "out"), *options, institute=institute)
        with contextlib.suppress(AssertionError):
            await terminal.says("Go on?")
        assert await terminal.ends() == exits.DONE
    assert "Go on?" not in terminal.told
