"""One small call a parent: `user_answers` of many attempts, 39 kB each."""

from __future__ import annotations

from benchmarks.figure import Bench, Figure, Target, counted
from benchmarks.measure import Contender, in_turn, missing

FLOOR = Contender("aiohttp + msgspec by hand", "floor:answers")
OURS = Contender("testpress_async, fan_out", "ours:answers")
HTTPX = Contender("httpx + pydantic", "httpx_pydantic:answers", "httpx")
CONTENDERS = (
    FLOOR,
    OURS,
    Contender("by hand with aiohttp-retry", "aiohttp_retries:answers", "aiohttp_retry"),
    HTTPX,
)


def fan_out(bench: Bench) -> Figure:
    calls = bench.calls
    runs = in_turn(CONTENDERS, [bench.warm_url, 32], [bench.url, calls], bench.rounds)
    floor, ours = runs[FLOOR], runs[OURS]
    assert len({each.records for each in runs.values()}) == 1, "somebody lost answers"
    cost = [1 / ours.times(floor, name) for name in ("cpu_s", "cpu_s", "minstructions")]
    targets = [Target("fan-out: CPU of a call / by hand", cost[0], 1.25, *cost[1:], at_most=True)]
    if httpx := runs.get(HTTPX):
        targets.append(ours.faster_than(httpx, "fan-out / httpx + pydantic", 3))
    return Figure(
        name="fan_out",
        title=f"{calls:,} calls of user_answers, 16 at once, {ours.records / calls:.0f} answers each",
        header=("", "calls/s", "CPU µs a call", "of the floor", "k instructions", "of the floor"),
        rows=[
            (
                each.contender.label,
                f"{calls / each.median('wall_s'):,.0f}",
                f"{each.cpu_us(calls):.0f}",
                f"{1 / each.times(floor, 'cpu_s'):.2f}",
                counted(each.kinstructions(calls), ",.0f"),
                counted(1 / each.times(floor, "minstructions"), ".2f"),
            )
            for each in runs.values()
        ],
        bars={contender.label: each.cpu_us(calls) for contender, each in runs.items()},
        bars_unit="processor µs a call",
        targets=targets,
        notes=missing(CONTENDERS),
    )
