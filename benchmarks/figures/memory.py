"""A collection a hundred times as large: neither memory nor the cost of a record may grow with it."""

from __future__ import annotations

import math

from benchmarks import servers
from benchmarks.api import PER_PAGE
from benchmarks.figure import Bench, Figure, Target
from benchmarks.figures.streaming import RECORDS
from benchmarks.measure import Run, Runs, run

HUNDRED = 100


def memory(bench: Bench) -> Figure:
    """The short one is read before the long one and after it, as a machine may slow down meanwhile."""
    pages = (bench.pages, HUNDRED * bench.pages)
    files = bench.folder / "all" / "files"
    with (
        servers.answering("pages", files, pages[0], 0) as near,
        servers.answering("pages", files, pages[1], 0) as far,
    ):

        def read(url: str, times: int) -> list[Run]:
            return [run(RECORDS, [bench.warm_url], [url]) for _ in range(times)]

        before, long, after = read(near, bench.rounds), read(far, 1), read(near, bench.rounds)
    few, many = Runs(RECORDS, before + after), Runs(RECORDS, long)
    assert (few.records, many.records) == tuple(number * PER_PAGE for number in pages)
    above = many.median("peak_mib") - many.median("import_mib")
    return Figure(
        name="memory",
        title=f"Stream {few.records:,} and {many.records:,} attempts",
        header=("records", "peak MiB", "above import", "CPU µs a record", "records/s"),
        rows=[
            (
                f"{each.records:,}",
                f"{each.median('peak_mib'):.1f}",
                f"{each.median('peak_mib') - each.median('import_mib'):.1f}",
                f"{each.cpu_us():.2f}",
                f"{each.per_s():,.0f}",
            )
            for each in (few, many)
        ],
        bars={f"{each.records:,} attempts": each.median("peak_mib") for each in (few, many)},
        bars_unit="peak MiB",
        targets=[
            Target(
                "memory: peak, a hundred times as many",
                many.median("peak_mib") / few.median("peak_mib"),
                1.05,
                at_most=True,
            ),
            Target("memory: above import", above, 20, at_most=True, unit=" MiB"),
            Target(
                "throughput, a hundred times as many",
                many.per_s() / few.per_s(),
                0.90,
                by_cpu=few.cpu_us() / many.cpu_us(),
                by_instructions=few.kinstructions() / (many.kinstructions() or math.nan),
            ),
        ],
        notes=["The server is aiohttp here: the sandbox's pages over and over, every id another."],
    )
