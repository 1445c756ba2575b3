"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Time for tests. `advance` moves it and wakes, in order, everybody whose time has come."""

    def __init__(self, start_s: float = 1_000.0, wall_s: float = 1_700_000_000.0) -> None:
        self._now_s = start_s
        self._wall_offset_s = wall_s - start_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._now_s + self._wall_offset_s

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        if duration_s <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + duration_s, next(self._order), wake))
        await wake

    @property
    def sleepers(self) -> int:
        """How many are asleep and still wanted."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    async def advance(self, duration_s: float) -> None:
        """Move time by *duration_s*, stopping at every wake-up on the way."""
        target_s = self._now_s + duration_s
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self._now_s, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
            await settle()
        self._now_s = target_s
        await settle()


class AutoClock(ManualClock):
    """Time that jumps: a sleep takes no real time and moves the clock by what was asked."""

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self._now_s += max(0.0, duration_s)
        await asyncio.sleep(0)


async def settle(turns: int = 20) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
