"""Time, as the sandbox sees it: passed in, so that tests move it by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the sandbox needs of time. All values are seconds."""

    def now_s(self) -> float:
        """Monotonic seconds: throttles and live changes count with them."""
        ...

    def wall_s(self) -> float:
        """Seconds since the epoch: tokens expire and new attempts are dated by them."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait: the latency a rehearsal asked for."""
        ...


class SystemClock:
    """The running loop's clock, so that a virtual-clock loop moves the sandbox too."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        return time.time()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)
