"""A figure: a table, bars to draw, and what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Bench:
    """What figures are measured with: canned answers at two addresses, and how much of it.

    Attributes:
        url: A server of `pages` pages of 200 attempts; `warm_url` one of two pages, for what is not measured.
        folder: Where the canned answers of both stand, and where there is room for an export.
        rounds: How often each contender runs.
        quick: Whether only the shape matters.
    """

    url: str
    warm_url: str
    folder: Path
    pages: int
    rounds: int
    quick: bool

    @property
    def calls(self) -> int:
        """Calls of a fan-out."""
        return 20 * self.pages


@dataclass(frozen=True)
class Target:
    """What a figure should be at least, or at most; the same by what other programs disturb less."""

    what: str
    value: float
    bound: float
    by_cpu: float = math.nan
    by_instructions: float = math.nan
    at_most: bool = False
    unit: str = "×"

    @property
    def is_met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def row(self) -> list[str]:
        sign = "≤" if self.at_most else "≥"
        verdict = "met" if self.is_met else "MISSED"
        values = (self.value, self.by_cpu, self.by_instructions)
        shown = ["" if math.isnan(value) else f"{value:.2f}{self.unit}" for value in values]
        return [self.what, *shown, f"{sign} {self.bound:g}{self.unit}", verdict]


TARGET_HEADER = ("target", "measured", "by CPU time", "by instructions", "wanted", "")


@dataclass
class Figure:
    """Rows under a header, one bar a row where there is something to draw, and targets."""

    name: str
    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    bars: dict[str, float] = field(default_factory=dict[str, float])
    bars_unit: str = ""
    targets: list[Target] = field(default_factory=list[Target])
    notes: list[str] = field(default_factory=list[str])

    def text(self) -> str:
        """As Markdown."""
        parts = [f"## {self.title}", table(self.header, self.rows)]
        if self.targets:
            parts.append(table(TARGET_HEADER, [each.row for each in self.targets]))
        return "\n\n".join(parts + self.notes)


def counted(value: float, form: str) -> str:
    """A count; nothing where there is none, as on machines that count no instructions."""
    return "" if math.isnan(value) or value == 0 else f"{value:{form}}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that can also be read as it stands. Columns with nothing in them are left out."""
    kept = [column for column in zip(header, *rows, strict=True) if any(column[1:]) or not rows]
    header, *rows = zip(*kept, strict=True)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(map(line, (header, rule, *rows)))
