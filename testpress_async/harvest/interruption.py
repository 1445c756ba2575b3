"""Work in a thread that ends when the task that waits for it is cancelled, and not later than that task."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


class Interruption:
    """A way to stop work from another thread, and to learn there how far it is."""

    def __init__(self, told: Callable[[str], object] | None = None) -> None:
        self._lock, self._stopped, self._told = Lock(), False, told
        self._interrupt: Callable[[], object] | None = None

    def stop(self) -> None:
        """Stop what runs, and what would run next."""
        with self._lock:
            self._stopped = True
            if self._interrupt is not None:
                self._interrupt()

    @contextlib.contextmanager
    def over(self, interrupt: Callable[[], object]) -> Generator[None]:
        """Within, *interrupt* is what stops the work."""
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None

    def check(self) -> None:
        """Raise CancelledError if all is to stop."""
        if self._stopped:
            raise asyncio.CancelledError

    def begins(self, step: str) -> None:
        """Say what is done next, unless all is to stop."""
        self.check()
        if self._told is not None:
            self._told(step)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """*items*, until all is to stop."""
        for item in items:
            self.check()
            yield item


async def in_thread(work: Callable[[Interruption], T], told: Callable[[str], object] | None = None) -> T:
    """*work* in a thread. Cancelling stops it, and waits until it has cleaned up: nothing goes on unseen.

    *told* is called on the loop with what `Interruption.begins`.
    """
    tell = None if told is None else partial(asyncio.get_running_loop().call_soon_threadsafe, told)
    interruption = Interruption(tell)

    def stoppable() -> T:
        try:
            return work(interruption)
        except asyncio.CancelledError as error:
            traceback.clear_frames(error.__traceback__)  # they hold files that were being read
            raise

    running = asyncio.create_task(asyncio.to_thread(stoppable))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        interruption.stop()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # looked at: that it failed is what we asked for
        raise
