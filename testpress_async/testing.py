"""For tests of code that uses this package: clocks that do not wait, an institute, recordings, aioresponses.

The fixtures `testpress_institute`, `testpress_client`, `testpress_settings` and `testpress_clock` of
`pytest_testpress` are there in every pytest run where the package is installed. See docs/testing.md.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import time
from functools import cache, partialmethod
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import aiohttp

from testpress_async.errors import ConfigError
from testpress_async.harvest.files import write_file
from testpress_async.sandbox import Fault, Live, RateLimit, Sandbox, Settings
from testpress_async.sandbox import Recorder as _Recorder

if TYPE_CHECKING:
    from aioresponses import aioresponses

__all__ = [
    "FastClock",
    "Fault",
    "Live",
    "ManualClock",
    "RateLimit",
    "Recorder",
    "Sandbox",
    "Settings",
    "mocked_aiohttp",
]


class FastClock:
    """Real time in which nobody waits: a sleep ends at once, and the clock jumps ahead to its end.

    Sleeps side by side overlap, and the one that ends first ends first. For `tp.Client(clock=…)` and
    `Sandbox(clock=…)`; give both the same. `slept_s`: what was asked for, in seconds and in order.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._due_s: list[float] = []
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return time.monotonic() + self._ahead_s

    def wall_s(self) -> float:
        return time.time() + self._ahead_s

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        due_s = self.now_s() + max(0.0, duration_s)
        self._due_s.append(due_s)
        try:
            await asyncio.sleep(0)
            while min(self._due_s) < due_s:  # noqa: ASYNC110 - whoever is due earlier wakes in the next turn
                await asyncio.sleep(0)
            self._ahead_s += max(0.0, due_s - self.now_s())
        finally:
            self._due_s.remove(due_s)


class ManualClock:
    """Time that stands still until `advance` moves it and wakes, in order, everybody whose time has come.

    Args:
        start_s: What `now_s` tells first, in seconds.
        wall_s: What `wall_s` tells first, in seconds since the epoch.
    """

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


async def settle(turns: int = 20) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Recorder(_Recorder):
    """Middleware that keeps the answers to what code of yours reads, without what is personal in them.

    recorder = Recorder()
    async with tp.Client.from_env(middleware=[recorder]) as client: ...
    recorder.save("institute.jsonl")
    """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them for `Sandbox.from_recording`, gzipped if the name ends in .gz. Blocks on the disk.

        Raises:
            DatasetError: There are none, one could not be read, or the file cannot be written.
        """
        write_file(path, self.file(path))


# --- aioresponses ------------------------------------------------------------------------------------


class _MockedResponse(aiohttp.ClientResponse):
    """A response that no request was written for: aiohttp 3.14 asks each for its stream writer."""

    def __init__(self, method: str, url: Any, **given: Any) -> None:
        given.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(method, url, **given)


@cache
def mocked_class() -> type[aioresponses]:
    """`aioresponses` with responses that aiohttp 3.14 accepts."""
    try:
        from aioresponses import aioresponses
    except ModuleNotFoundError:
        raise ConfigError("mocked_aiohttp", "needs aioresponses: pip install aioresponses") from None

    add = partialmethod(cast("Any", aioresponses).add, response_class=_MockedResponse)
    return type("Mocked", (aioresponses,), {"add": add})


def mocked_aiohttp(**options: Any) -> aioresponses:
    """`aioresponses(**options)` for the aiohttp of today: ``with mocked_aiohttp() as web: web.get(…)``.

    Raises:
        ConfigError: aioresponses is not installed.
    """
    return mocked_class()(**options)
