"""Where tasks lay what they bring, one thing each, and wait until it is taken: nothing else is held."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """From many tasks to one. Two futures do what a stream between tasks does, for a third of its cost."""

    def __init__(self) -> None:
        self._laid: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._awaited: asyncio.Future[None] | None = None
        self._ended = False

    async def give(self, thing: T) -> None:
        """Lay *thing* down; returns when it has been taken and what came of it is known."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._laid.append((thing, taken))
        self._wake()
        await taken

    def end(self) -> None:
        """Nobody gives any more."""
        self._ended = True
        self._wake()

    async def take(self) -> tuple[T, asyncio.Future[None]] | None:
        """The next thing and the future to let its giver go on; None at the end."""
        while not self._laid:
            if self._ended:
                return None
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
        return self._laid.popleft()

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
