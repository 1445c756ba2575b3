"""The clocks of tests: the public one that is moved by hand, and one that jumps."""

from __future__ import annotations

import asyncio

from testpress_async.testing import ManualClock, settle

__all__ = ["AutoClock", "ManualClock", "settle"]


class AutoClock(ManualClock):
    """Time that jumps: a sleep takes no real time and moves the clock by what was asked."""

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self._now_s += max(0.0, duration_s)
        await asyncio.sleep(0)

    def jump(self, duration_s: float) -> None:
        """Move on without a turn of the loop, as work on it does."""
        self._now_s += duration_s
