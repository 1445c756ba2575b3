"""All attempts, typed, as fast as they come."""

from __future__ import annotations

from benchmarks.figure import Bench, Figure, counted
from benchmarks.measure import Contender, Runs, in_turn, missing

BYTES = Contender("aiohttp, bytes only", "bytes_only:attempts")
FLOOR = Contender("aiohttp + msgspec by hand, unordered", "floor:attempts")
PAGES = Contender("testpress_async, pages", "ours:attempts_by_page")
RECORDS = Contender("testpress_async, records", "ours:attempts")
REQUESTS = Contender("requests loop", "requests_loop:attempts", "requests")
HTTPX = Contender("httpx + pydantic, unordered", "httpx_pydantic:attempts", "httpx")
DLT = Contender("dlt RESTClient", "dlt_rest:attempts", "dlt")
CONTENDERS = (
    BYTES,
    FLOOR,
    PAGES,
    RECORDS,
    Contender("testpress_async, records, uvloop", "ours:attempts_on_uvloop", "uvloop"),
    Contender("by hand with aiohttp-retry", "aiohttp_retries:attempts", "aiohttp_retry"),
    REQUESTS,
    HTTPX,
    Contender("openai-python's async pages", "openai_pages:attempts", "openai"),
    DLT,
)
AIMS = (
    (FLOOR, "by hand", 0.90),
    (HTTPX, "httpx + pydantic", 4.5),
    (REQUESTS, "requests loop", 3.6),
    (DLT, "dlt", 6.5),
)

LIMITED = "DOUBTFUL: bytes alone come hardly faster than records by hand; the server or the machine limits."


def streaming(bench: Bench) -> Figure:
    runs = in_turn(CONTENDERS, [bench.warm_url], [bench.url], bench.rounds)
    floor, records = runs[FLOOR], runs[RECORDS]
    assert {each.records for each in runs.values()} == {bench.pages * 200}, "somebody lost records"
    return Figure(
        name="streaming",
        title=f"Stream {records.records:,} typed attempts, 8 pages at once",
        header=(
            "",
            "records/s",
            "of the floor",
            "CPU µs a record",
            "k instructions",
            "of the floor",
            "peak MiB",
        ),
        rows=[_row(each, floor) for each in runs.values()],
        bars={each.label: made.per_s() for each, made in runs.items() if each != BYTES},
        bars_unit="records/s",
        targets=[runs[PAGES].faster_than(floor, "streaming by pages / by hand", 0.90)]
        + [
            records.faster_than(runs[other], f"streaming by records / {name}", bound)
            for other, name, bound in AIMS
            if other in runs
        ],
        notes=missing(CONTENDERS) + [LIMITED] * (runs[BYTES].times(floor) < 1.5),
    )


def _row(each: Runs, floor: Runs) -> tuple[str, ...]:
    return (
        each.contender.label,
        f"{each.per_s():,.0f}",
        f"{each.times(floor):.2f}",
        f"{each.cpu_us():.2f}",
        counted(each.kinstructions(), ".1f"),
        counted(each.times(floor, "minstructions"), ".2f"),
        f"{each.median('peak_mib'):.0f}",
    )
