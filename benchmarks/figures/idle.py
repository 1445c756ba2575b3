"""A client that nobody asks anything: it must cost nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple

import testpress_async as tp
from benchmarks.api import TOKEN
from benchmarks.figure import Bench, Figure, Target

KEPT_S = 16  # aiohttp keeps an unused connection for 15 s, and looks whole seconds


class Running(NamedTuple):
    """What is there besides the caller."""

    tasks: int
    timers: int
    threads: int


def running() -> Running:
    loop: Any = asyncio.get_running_loop()
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # there is no public way
    return Running(len(asyncio.all_tasks()) - 1, len(timers), threading.active_count() - 1)


async def watched(url: str, quick: bool) -> dict[str, Running]:
    seen = {"before": running()}
    async with tp.Client(url, token=TOKEN) as client:
        await asyncio.sleep(0)
        seen["open, before the first call"] = running()
        async for _ in client.attempts.list().prefetch(8):
            pass
        await asyncio.sleep(0.05)
        seen["after streaming, connections kept"] = running()
        if not quick:
            await asyncio.sleep(KEPT_S)
            seen["after streaming, connections ended"] = running()
    return seen


def idle(bench: Bench) -> Figure:
    seen = asyncio.run(watched(bench.warm_url, bench.quick))
    before, fresh, kept, *ended = seen.values()
    targets = [
        ("idle client, not used yet", fresh),
        *(("idle client after streaming", each) for each in ended),
    ]
    return Figure(
        name="idle",
        title="An idle client in a web application",
        header=("", "tasks", "timers", "threads"),
        rows=[(name, *map(str, each)) for name, each in seen.items()],
        targets=[
            Target(f"{name}: tasks, timers, threads", sum(each) - sum(before), 0, at_most=True, unit="")
            for name, each in targets
        ],
        notes=[f"The timer meanwhile is aiohttp's: it ends connections kept for {KEPT_S:.0f} s."]
        * (kept.timers > 0),
    )
