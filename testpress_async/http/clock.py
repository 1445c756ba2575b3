"""The only place that reads a clock or sleeps.

Everything else takes a `Clock`, so that tests move time by hand.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the client needs of time. All values are seconds."""

    def now_s(self) -> float:
        """Monotonic seconds; only differences mean anything."""
        ...

    def wall_s(self) -> float:
        """Seconds since the epoch; may jump. Only for comparing with dates a server sent."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait; zero or less still lets other tasks run once."""
        ...


class SystemClock:
    """The running loop's own clock, so that a virtual-clock loop moves it too."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        return time.time()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(max(0.0, duration_s))
