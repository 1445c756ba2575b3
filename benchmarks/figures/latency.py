"""Pages from far away: what a window of prefetched pages saves."""

from __future__ import annotations

from benchmarks import servers
from benchmarks.figure import Bench, Figure, Target
from benchmarks.measure import Contender, in_turn

LATENCY_MS = 20
SERIAL, EIGHT, SIXTEEN = (
    Contender(f"testpress_async, pages, window {window}", "ours:attempts_by_page", more=(window,))
    for window in (1, 8, 16)
)


def latency(bench: Bench) -> Figure:
    pages, files = min(bench.pages, 200), bench.folder / "all" / "files"
    with (
        servers.answering("pages", files, 2, LATENCY_MS) as warm_url,
        servers.answering("pages", files, pages, LATENCY_MS) as url,
    ):
        runs = in_turn((SERIAL, EIGHT, SIXTEEN), [warm_url], [url], bench.rounds)
    serial = runs[SERIAL]
    return Figure(
        name="latency",
        title=f"{pages} pages of 200 attempts, each answer after {LATENCY_MS} ms",
        header=("", "seconds", "of serial"),
        rows=[
            (each.contender.label, f"{each.median('wall_s'):.2f}", f"{each.times(serial):.1f} ×")
            for each in runs.values()
        ],
        bars={contender.label: each.median("wall_s") for contender, each in runs.items()},
        bars_unit="seconds",
        targets=[
            Target(f"{LATENCY_MS} ms away: speed of serial, window {window}", runs[ours].times(serial), bound)
            for ours, window, bound in ((EIGHT, 8, 7), (SIXTEEN, 16, 13))
        ],
        notes=["The server is aiohttp here, as nginx cannot wait."],
    )
