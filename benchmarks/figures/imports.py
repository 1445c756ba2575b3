"""What it costs to begin: imports and the command line."""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.figure import Bench, Figure, Target, counted
from benchmarks.instructions import Instructions

NOTHING, CORE, OURS = "python, nothing imported", "the four core dependencies", "testpress_async"
CLIENT, HELP = "testpress_async, Client named", "testpress --help"
COMMANDS = {
    NOTHING: ["-c", "pass"],
    CORE: ["-c", "import aiohttp, msgspec, tenacity, anyio"],
    OURS: ["-c", "import testpress_async"],
    CLIENT: ["-c", "import testpress_async; testpress_async.Client"],
    HELP: ["-m", "testpress_async", "--help"],
}
Taken = tuple[float, float, float]
"""Milliseconds, processor milliseconds, millions of instructions."""


def timed(arguments: list[str], counter: Instructions) -> Taken:
    """What a Python process takes from beginning to end."""
    before, began_s = counter.millions, time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    wall_s = time.perf_counter() - began_s
    return wall_s * 1e3, (used.ru_utime + used.ru_stime) * 1e3, counter.millions - before


def imports(bench: Bench) -> Figure:
    commands, counter = dict(COMMANDS), Instructions()
    notes = list[str]()
    if importlib.util.find_spec("cyclopts") is None:
        del commands[HELP]
        notes.append(f"SKIPPED, as it is not installed: {HELP} (cyclopts).")
    taken = {name: list[Taken]() for name in commands}
    for _ in range(2 + 3 * bench.rounds):
        for name, arguments in commands.items():
            taken[name].append(timed(arguments, counter))
    medians = {  # without the first round, which reads the files
        name: tuple(map(statistics.median, zip(*rounds[1:], strict=True))) for name, rounds in taken.items()
    }

    def target(what: str, bound: float, ratio: Callable[[dict[str, float]], float]) -> Target:
        by = [ratio({name: each[place] for name, each in medians.items()}) for place in range(3)]
        return Target(what, by[0], bound, *by[1:], at_most=True)

    def import_ratio(name: str, by: dict[str, float]) -> float:
        return (by[name] - by[NOTHING]) / ((by[CORE] - by[NOTHING]) or math.nan)

    targets = [
        target(f"import {name} / the four dependencies", 1.10, partial(import_ratio, name))
        for name in (OURS, CLIENT)
    ]
    if HELP in commands:
        ratio = target(f"{HELP} / importing the four", 1.5, lambda by: by[HELP] / (by[CORE] or math.nan))
        targets.append(ratio)
    return Figure(
        name="imports",
        title="Begin: a Python process that imports and ends",
        header=("", "ms", "CPU ms", "M instructions"),
        rows=[(name, *(counted(value, ".0f") for value in each)) for name, each in medians.items()],
        bars={name: each[0] for name, each in medians.items()},
        bars_unit="ms",
        targets=targets,
        notes=notes,
    )
