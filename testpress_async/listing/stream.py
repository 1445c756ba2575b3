"""Pages in order, with up to `window` of them on the way at once.

With a window of 1 there is no task at all: each page is fetched when it is asked for. With more, each page is
a task of the client's own scope; the stream cancels them when it is closed, dropped or fails. Bodies are kept
as bytes until a page is taken and decoded then, one hot page at a time; a large one in another thread.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from testpress_async.errors import ConfigError, Error, NotFound
from testpress_async.http.caller import Caller
from testpress_async.listing.walk import Walk

T = TypeVar("T")
P = TypeVar("P")

# Bodies from here on are decoded in another thread, so that the loop goes on serving others. Measured on
# pages of attempts (CPython 3.11, 2 cores): a hop there and back costs 0.11 to 0.16 ms; decoding takes 0.3 ms
# for 0.12 MB (the documented 200 records), 1.5 ms for 0.5 MB, 3 ms for 1 MB, 12 ms for 4 MB. So the hop is a
# tenth of the work at about 0.5 MB, and one page alone would hold the loop for 5 ms at about 1.5 MB.
OFF_LOOP_BYTES = 512 * 1024

# Pages that are here are decoded one after the other for so long. A turn of the loop for every single page
# costs an eighth of a page's time; much less often, and requests for more leave late, and neighbours wait.
TURN_AFTER_S = 0.001


class PageStream(Generic[P]):
    """Async iterator over pages. Iterate once; close with `aclose()` or just drop it.

    Args:
        target_of: Path and query of a page number.
        read: Decodes (page number, body). Large bodies are read in another thread, so it only computes.
        take: Turns (page number, what was read) into a page and tells *walk* what it learned.
        token_of: Resume token for (page number).
    """

    def __init__(
        self,
        caller: Caller,
        walk: Walk,
        *,
        target_of: Callable[[int], str],
        read: Callable[[int, bytes], T],
        take: Callable[[Walk, int, T], P],
        token_of: Callable[[int], str],
        window: int,
    ) -> None:
        self._caller, self._walk, self._window = caller, walk, window
        self._target_of, self._token_of = target_of, token_of
        self._decode = _decoder(read, take)
        self._coming: deque[tuple[int, asyncio.Task[bytes] | None]] = deque()
        self._turn_s = -math.inf  # when the loop last had one
        self._body: tuple[int, bytes] | None = None  # of the next page, here and not yet decoded

    def __aiter__(self) -> PageStream[P]:
        return self

    async def fetch(self) -> bool:
        """Get the next page's body, which `__anext__` then decodes; False at the end."""
        if self._walk.ended and self._body is None:
            return False
        number = 0
        try:
            self._ask()
            if self._body is None and self._coming:
                number, task = self._coming[0]
                body = await self._arrival(number, task)
                if self._coming:  # else closed by somebody else meanwhile
                    self._coming.popleft()
                self._body = None if body is None else (number, body)
            if self._body is None:
                await self.aclose()
            return self._body is not None
        except BaseException as error:
            await self._end_with(error, number)
            raise

    async def __anext__(self) -> P:
        if not await self.fetch() or self._body is None:
            raise StopAsyncIteration
        (number, body), self._body = self._body, None
        try:
            page = await self._decode(self._walk, number, body)
        except BaseException as error:
            await self._end_with(error, number)
            raise
        if self._walk.ended:
            if self._coming:
                await self.aclose()
        elif self._window > 1:
            self._ask()  # refill while the caller works on this page
        return page

    async def _arrival(self, number: int, task: asyncio.Task[bytes] | None) -> bytes | None:
        """The body of page *number*; None if the list has ended before."""
        try:
            return await (_fetch(self._caller, self._target_of(number)) if task is None else self._turn(task))
        except NotFound as error:
            self._walk.missing(number, error)
            return None
        except asyncio.CancelledError:
            if task is not None and task.cancelled() and not _cancelling():
                raise ConfigError("client", "was closed while a listing was being iterated") from None
            raise

    async def _turn(self, coming: asyncio.Task[bytes]) -> bytes:
        """What *coming* brings. Meanwhile the loop has a turn, unless it had one a moment ago.

        Awaiting a task that is done gives it none, and the requests made meanwhile wait for one to leave.
        """
        clock = self._caller.session.clock
        if coming.done():
            if clock.now_s() - self._turn_s < TURN_AFTER_S:
                return coming.result()
            await clock.sleep(0)
        body = await coming
        self._turn_s = clock.now_s()
        return body

    async def _end_with(self, error: BaseException, number: int) -> None:
        await self.aclose()
        if isinstance(error, Error) and error.resume_token is None and number:
            error.resume_token = self._token_of(number)

    async def aclose(self) -> None:
        """End: no further request starts, and none is left running when this returns."""
        self._walk.ended = True
        if tasks := self._drop():
            await asyncio.gather(*tasks, return_exceptions=True)

    def __del__(self) -> None:
        self._drop()

    def _drop(self) -> list[asyncio.Task[bytes]]:
        if not self._coming:
            return []
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


async def decoded(read: Callable[[int, bytes], T], number: int, body: bytes) -> T:
    """What *read* makes of page *number*; it runs in another thread if *body* is large."""
    if len(body) < OFF_LOOP_BYTES:
        return read(number, body)
    return await asyncio.to_thread(read, number, body)


def _decoder(
    read: Callable[[int, bytes], T], take: Callable[[Walk, int, T], P]
) -> Callable[[Walk, int, bytes], Awaitable[P]]:
    async def decode(walk: Walk, number: int, body: bytes) -> P:
        return take(walk, number, await decoded(read, number, body))

    return decode


async def _fetch(caller: Caller, target: str) -> bytes:
    """No method: a task that held its stream would keep a dropped stream alive."""
    return (await caller.get(target)).body


def _cancelling() -> bool:
    """Whether somebody wants the running task itself to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
