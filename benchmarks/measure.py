"""Contenders in turn, each in a process of its own: medians, and ratios of runs that stand side by side."""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figure import Target


@dataclass(frozen=True)
class Contender:
    """Who is measured: `call` is module:function in `benchmarks.contenders`, `needs` what must be there."""

    label: str
    call: str
    needs: str | None = None
    more: tuple[Any, ...] = ()

    @property
    def is_installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


@dataclass(frozen=True)
class Run:
    """One run: seconds, processor seconds (user and system), millions of instructions, MiB."""

    records: int
    wall_s: float
    cpu_s: float
    minstructions: float
    import_mib: float
    peak_mib: float


class Runs:
    """The runs of one contender, in the order of the rounds."""

    def __init__(self, contender: Contender, runs: Sequence[Run]) -> None:
        self.contender, self.runs = contender, runs

    @property
    def records(self) -> int:
        return self.runs[0].records

    def median(self, name: str) -> float:
        return statistics.median(getattr(run, name) for run in self.runs)

    def per_s(self) -> float:
        """Records a second."""
        return self.records / self.median("wall_s")

    def cpu_us(self, per: int | None = None) -> float:
        """Processor time per record, or per one of *per* things."""
        return self.median("cpu_s") * 1e6 / (per or self.records)

    def kinstructions(self, per: int | None = None) -> float:
        """Thousands of instructions per record, or per one of *per* things; 0 if they are not counted."""
        return self.median("minstructions") * 1e3 / (per or self.records)

    def times(self, other: Runs, name: str = "wall_s") -> float:
        """How many times as fast as *other*: the median over the rounds, whose runs stood side by side."""
        pairs = zip(self.runs, other.runs, strict=True)
        ratios = (getattr(theirs, name) / (getattr(mine, name) or math.nan) for mine, theirs in pairs)
        return statistics.median(ratios)

    def faster_than(self, other: Runs, what: str, bound: float) -> Target:
        """The target to be *bound* times as fast as *other*."""
        ratios = [self.times(other, name) for name in ("wall_s", "cpu_s", "minstructions")]
        return Target(what, ratios[0], bound, by_cpu=ratios[1], by_instructions=ratios[2])


def in_turn(
    contenders: Sequence[Contender], warm: Sequence[Any], arguments: Sequence[Any], rounds: int
) -> dict[Contender, Runs]:
    """The runs of all that are installed."""
    runs = {contender: list[Run]() for contender in contenders if contender.is_installed}
    for _ in range(rounds):
        for contender, so_far in runs.items():
            so_far.append(run(contender, warm, arguments))
    return {contender: Runs(contender, so_far) for contender, so_far in runs.items()}


def missing(contenders: Sequence[Contender]) -> list[str]:
    """What to say of contenders that are not installed."""
    names = (f"{each.label} ({each.needs})" for each in contenders if not each.is_installed)
    return [f"SKIPPED, as it is not installed: {name}." for name in names]


def run(contender: Contender, warm: Sequence[Any], arguments: Sequence[Any]) -> Run:
    """One run of *contender*."""
    given = [json.dumps([*each, *contender.more]) for each in (warm, arguments)]
    command = [sys.executable, "-m", "benchmarks.run", contender.call, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{contender.label}: {done.stderr[-2000:]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))
