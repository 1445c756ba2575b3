"""All attempts into landed, proved, durable files, beside only reading them."""

from __future__ import annotations

from benchmarks.figure import Bench, Figure, counted
from benchmarks.figures.streaming import FLOOR, RECORDS
from benchmarks.measure import Contender, in_turn, missing


def export(bench: Bench) -> Figure:
    folder = (f"{bench.folder}",)
    ours = Contender("testpress_async, plan and harvest", "ours:export", more=folder)
    dlt = Contender("dlt extract", "dlt_rest:export", "dlt", more=folder)
    contenders = (FLOOR, RECORDS, ours, dlt)
    runs = in_turn(contenders, [bench.warm_url], [bench.url], bench.rounds)
    assert {each.records for each in runs.values()} == {bench.pages * 200}, "somebody lost records"
    aims = [(RECORDS, "streaming by records", 0.75), (dlt, "dlt's extract", 6)]
    return Figure(
        name="export",
        title=f"Export {runs[ours].records:,} attempts to landing JSON Lines",
        header=(
            "",
            "records/s",
            "of streaming",
            "CPU µs a record",
            "k instructions",
            "of streaming",
            "peak MiB",
        ),
        rows=[
            (
                each.contender.label,
                f"{each.per_s():,.0f}",
                f"{each.times(runs[RECORDS]):.2f}",
                f"{each.cpu_us():.2f}",
                counted(each.kinstructions(), ".1f"),
                counted(each.times(runs[RECORDS], "minstructions"), ".2f"),
                f"{each.median('peak_mib'):.0f}",
            )
            for each in runs.values()
        ],
        bars={contender.label: each.per_s() for contender, each in runs.items()},
        bars_unit="records/s",
        targets=[
            runs[ours].faster_than(runs[other], f"export / {name}", bound)
            for other, name, bound in aims
            if other in runs
        ],
        notes=missing(contenders),
    )
