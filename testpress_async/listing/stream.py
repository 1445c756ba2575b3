"""Pages in order, with up to `window` of them on the way at once.

With a window of 1 there is no task at all: each page is fetched when it is asked for. With more, each page is
a task of the client's own scope; the stream cancels them when it is closed, dropped or fails. Bodies are kept
as bytes until a page is taken and decoded then, one hot page at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from testpress_async.errors import ConfigError, Error, NotFound
from testpress_async.http.caller import Caller
from testpress_async.listing.walk import Walk

P = TypeVar("P")


class PageStream(Generic[P]):
    """Async iterator over pages. Iterate once; close with `aclose()` or just drop it.

    Args:
        target_of: Path and query of a page number.
        decode: Turns (page number, body) into a page and tells *walk* what it learned.
        token_of: Resume token for (page number).
    """

    def __init__(
        self,
        caller: Caller,
        walk: Walk,
        *,
        target_of: Callable[[int], str],
        decode: Callable[[Walk, int, bytes], P],
        token_of: Callable[[int], str],
        window: int,
    ) -> None:
        self._caller, self._walk, self._window = caller, walk, window
        self._target_of, self._decode, self._token_of = target_of, decode, token_of
        self._coming: deque[tuple[int, asyncio.Task[bytes] | None]] = deque()

    def __aiter__(self) -> PageStream[P]:
        return self

    async def __anext__(self) -> P:
        number = 0
        try:
            self._ask()
            if not self._coming:
                raise StopAsyncIteration
            number, task = self._coming[0]
            try:
                body = await (_fetch(self._caller, self._target_of(number)) if task is None else task)
            except NotFound as error:
                self._walk.missing(number, error)
                raise StopAsyncIteration from None
            except asyncio.CancelledError:
                if task is not None and task.cancelled() and not _cancelling():
                    raise ConfigError("client", "was closed while a listing was being iterated") from None
                raise
            page = self._decode(self._walk, number, body)
            self._coming.popleft()
        except BaseException as error:
            await self.aclose()
            if isinstance(error, Error) and error.resume_token is None and number:
                error.resume_token = self._token_of(number)
            raise
        if self._walk.ended:
            await self.aclose()
        elif self._window > 1:
            self._ask()  # refill while the caller works on this page
        return page

    async def aclose(self) -> None:
        """End: no further request starts, and none is left running when this returns."""
        self._walk.ended = True
        tasks = self._drop()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def __del__(self) -> None:
        self._drop()

    def _drop(self) -> list[asyncio.Task[bytes]]:
        tasks = [task for _, task in self._coming if task is not None]
        self._coming.clear()
        for task in tasks:
            task.cancel()
        return tasks

    def _ask(self) -> None:
        for number in self._walk.wanted():
            fetching = _fetch(self._caller, self._target_of(number)) if self._window > 1 else None
            task = None if fetching is None else self._caller.spawn(fetching)
            self._coming.append((number, task))


async def _fetch(caller: Caller, target: str) -> bytes:
    """No method: a task that held its stream would keep a dropped stream alive."""
    return (await caller.get(target)).body


def _cancelling() -> bool:
    """Whether somebody wants the running task itself to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
