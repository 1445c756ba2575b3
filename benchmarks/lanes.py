"""How long do calls of a web app wait while an export uses up the limit? `python -m benchmarks.lanes`

The real client, sandbox and export, in virtual time, so the figures are the same on every machine. The
institute answers 20 requests a second (Django REST framework's sliding window) after 50 ms each; the export
reads 64 things at once and would take all of it. 200 calls of handlers come one by one, or all at once.

It fails if an "interactive" call is refused or waits longer beside an export than TARGET_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import testpress_async as tp
from testpress_async.http.message import Lane
from testpress_async.sandbox import RateLimit, Sandbox
from tests.support.virtual_time import run

CALLS = 200
LIMIT = RateLimit(20, 1.0)
LATENCY_MS = 50.0
TARGET_S = 1.1  # of the 99th percentile of calls that come one by one: a window of the limit, and the answer


@dataclass(frozen=True)
class Scene:
    """*every_s*: between two calls; 0 for all at once."""

    name: str
    every_s: float
    lane: Lane
    export: bool


SCENES = [
    Scene("5 a second", 0.2, "interactive", export=False),
    Scene("5 a second", 0.2, "interactive", export=True),
    Scene("5 a second", 0.2, "bulk", export=True),
    Scene("all at once", 0.0, "interactive", export=False),
    Scene("all at once", 0.0, "interactive", export=True),
    Scene("all at once", 0.0, "bulk", export=True),
]


@dataclass(frozen=True)
class Figures:
    """Seconds from asking to the answer, sorted; calls that were refused; what else was sent meanwhile."""

    took_s: list[float]
    refused: int
    others_per_s: float

    def share_s(self, share: float) -> float:
        return self.took_s[min(len(self.took_s) - 1, int(share * len(self.took_s)))]


async def played(scene: Scene) -> Figures:
    async with (
        Sandbox(attempts=10_000, per_page=20, rate=LIMIT, latency_ms=LATENCY_MS) as institute,
        tp.Client(institute.url, token=institute.token()) as client,
        exporting(client, wanted=scene.export),
    ):
        loop = asyncio.get_running_loop()
        caller = client.with_options(priority=scene.lane, max_wait_s=60, timeout_s=120)
        began_s, sent = loop.time(), client.requests_sent

        async def call(number: int) -> float:
            await asyncio.sleep(number * scene.every_s)
            asked_s = loop.time()
            await caller.attempts.get(number + 1)
            return loop.time() - asked_s

        found = await asyncio.gather(*map(call, range(CALLS)), return_exceptions=True)
        took_s = sorted(each for each in found if isinstance(each, float))
        others = client.requests_sent - sent - CALLS
        return Figures(took_s, CALLS - len(took_s), others / (loop.time() - began_s))


@contextlib.asynccontextmanager
async def exporting(client: tp.Client, *, wanted: bool) -> AsyncIterator[None]:
    """Within, an export is under way that has learned the limit."""
    with tempfile.TemporaryDirectory() as folder:
        if not wanted:
            yield
            return
        plan = await tp.plan(client, ["attempt_details"])
        work = asyncio.create_task(tp.harvest(client, plan, into=tp.Dataset(Path(folder)), concurrency=64))
        await asyncio.sleep(15)
        try:
            yield
        finally:
            assert not work.done(), "the export ended too early to be in anybody's way"
            work.cancel()
            await asyncio.wait([work])


def main() -> int:
    """Play all scenes and print their figures."""
    print(f"{CALLS} calls; the institute answers {LIMIT.requests} requests in {LIMIT.per_s:g} s\n")
    titles = "".join(f"{title:>9}" for title in ("p50", "p99", "max", "refused", "others"))
    print(f"{'calls come':<13}{'lane':<13}{'export':<8}{titles}")
    good = True
    for scene in SCENES:
        figures = run(played(scene), seed=1)
        times = "".join(f"{figures.share_s(share):>7.2f} s" for share in (0.5, 0.99, 1))
        beside = "running" if scene.export else "none"
        counts = f"{figures.refused:>9}{figures.others_per_s:>7.1f}/s"
        print(f"{scene.name:<13}{scene.lane:<13}{beside:<8}{times}{counts}")
        if scene.lane == "interactive":
            good &= not figures.refused and (scene.every_s == 0 or figures.share_s(0.99) <= TARGET_S)
    print("\nothers: requests sent besides, by the export or again after a 429.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
