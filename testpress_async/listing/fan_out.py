"""One call per parent, many at once: bounded, with back-pressure, in a scope that cancels what is left.

Each worker reads one parent after the other, page by page, and hands each page over; it goes on when the
consumer has taken the page. So at most `concurrency` pages are held, however slow the consumer is, and as
bytes, decoded when they are taken: one hot page in the processor's cache instead of many cold ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from typing import Any, Generic, Literal, TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from testpress_async.errors import ConfigError, Error
from testpress_async.listing.handover import Handover
from testpress_async.listing.listing import Listing
from testpress_async.listing.page import Page
from testpress_async.listing.results import Results
from testpress_async.listing.stream import PageStream

K = TypeVar("K")
R = TypeVar("R")
OnError = Literal["raise", "skip", "collect"]


class FanOut(Results[tuple[K, R]], Generic[K, R]):
    """Records of many parents. Use it with ``async with`` and iterate it once.

        async with client.fan_out(ids, client.attempts.user_answers, concurrency=16) as results:
            async for attempt_id, answer in results: ...

    Args:
        parents: What `call` is called with; any iterable, also an async one. Read only as fast as needed.
        call: Gives a `Listing`, another async iterable, or an awaitable of one record.
        on_error: "raise" ends everything with the first error of any parent, raised as itself and never in
            an exception group; other parents that fail in the same moment are cancelled and not heard of.
            "skip" leaves that parent out; "collect" does too, and keeps (parent, error) in `errors`, one for
            each. Only errors of this library count as failures of a parent: anything else is a bug and is
            raised. What the loop's own body raises goes through unchanged.
        ordered: Keep the parents' order. Records of one parent always come in the server's order.
    """

    def __init__(
        self,
        parents: Iterable[K] | AsyncIterable[K],
        call: Callable[[K], AsyncIterable[R] | Awaitable[R]],
        *,
        concurrency: int = 16,
        on_error: OnError = "raise",
        ordered: bool = False,
    ) -> None:
        super().__init__("fan_out", "async with client.fan_out(...) as results:")
        if concurrency < 1:
            raise ConfigError("concurrency", "expected a number of at least 1")
        if on_error not in ("raise", "skip", "collect"):
            raise ConfigError("on_error", 'expected "raise", "skip" or "collect"')
        self._parents, self._call, self._concurrency = parents, call, concurrency
        self._on_error, self._ordered = on_error, ordered
        self.errors: list[tuple[K, Error]] = []

    # --- inside ------------------------------------------------------------------------------------

    async def _bring(self, group: TaskGroup) -> AsyncGenerator[tuple[K, R], None]:
        handover = Handover[tuple[K, _Found[R]]]()
        group.start_soon(self._crew, handover)
        while (given := await handover.take()) is not None:
            (parent, found), taken = given
            records = await self._records(parent, found)
            if not taken.done():
                taken.set_result(None)  # the next page may come while these are looked at
            for record in records:
                yield parent, record
            del records  # its memory is the best place for the next ones

    async def _records(self, parent: K, found: _Found[R]) -> Sequence[R]:
        if isinstance(found, Exception):
            raise found
        if isinstance(found, PageStream):
            try:
                return (await anext(found)).items
            except Error as error:
                if not self._left_out(parent, error):
                    raise
                return ()
        return found

    def _left_out(self, parent: K, error: Exception) -> bool:
        """Whether to go on without *parent*: if that is wanted, and the error is one of this library."""
        if not isinstance(error, Error) or self._on_error == "raise":
            return False
        if self._on_error == "collect":
            self.errors.append((parent, error))
        return True

    async def _crew(self, handover: Handover[tuple[K, _Found[R]]]) -> None:
        async with contextlib.aclosing(_each(self._parents)) as parents:
            line = _Line(parents, in_turn=self._ordered)
            async with anyio.create_task_group() as crew:
                for _ in range(self._concurrency):
                    crew.start_soon(self._work, line, handover)
        handover.end()

    async def _work(self, line: _Line[K], handover: Handover[tuple[K, _Found[R]]]) -> None:
        """Read one parent after the other."""
        while (called := await line.call()) is not None:
            parent, turn, failure = called
            if failure is not None:
                await turn.comes()
                await handover.give((parent, failure))
                return
            try:
                async with contextlib.aclosing(_findings(self._call, parent)) as findings:
                    async for found in findings:
                        await turn.comes()
                        await handover.give((parent, found))
            except Exception as error:
                await turn.comes()
                if not self._left_out(parent, error):
                    await handover.give((parent, error))
            await turn.comes()
            turn.over.set()


class _Turn:
    """When who reads in the parents' order may hand over: after those before."""

    def __init__(self, before: asyncio.Event | None) -> None:
        self._before, self.over = before, asyncio.Event()

    async def comes(self) -> None:
        if self._before is not None:
            await self._before.wait()


class _Line(Generic[K]):
    """The parents, one by one for several workers. Only if *in_turn* there is something to wait for."""

    def __init__(self, parents: AsyncGenerator[K, None], *, in_turn: bool) -> None:
        self._parents, self._in_turn = parents, in_turn
        self._lock = asyncio.Lock()
        self._last: _Turn | None = None

    async def call(self) -> tuple[K, _Turn, Exception | None] | None:
        """The next parent, its turn, and why there is none if they cannot be read; None at the end."""
        parent, failure = cast(K, None), None
        async with self._lock:
            try:
                parent = await anext(self._parents)
            except StopAsyncIteration:
                return None
            except Exception as error:
                failure = error
            before = self._last.over if self._in_turn and self._last else None
            self._last = _Turn(before)
            return parent, self._last, failure


_Found = Sequence[R] | PageStream[Page[Any]] | Exception
"""What a worker hands over: records, a page that is to be decoded, or why there are none."""


async def _each(parents: Iterable[K] | AsyncIterable[K]) -> AsyncGenerator[K, None]:
    if isinstance(parents, AsyncIterable):
        async with _closing(aiter(parents)) as source:
            async for parent in source:
                yield parent
    else:
        for parent in parents:
            yield parent


@contextlib.asynccontextmanager
async def _closing(source: AsyncIterator[R]) -> AsyncGenerator[AsyncIterator[R], None]:
    """*source*, closed at the end if it is a generator: left to the collector, that would be a stray task."""
    try:
        yield source
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def _findings(
    call: Callable[[K], AsyncIterable[R] | Awaitable[R]], parent: K
) -> AsyncGenerator[_Found[R], None]:
    found = call(parent)
    if isinstance(found, Listing):
        listing = cast(Listing[Any], found)  # its records are what it iterates, R
        async with contextlib.aclosing(listing.pages()) as pages:
            while await pages.fetch():
                yield pages
    elif isinstance(found, AsyncIterable):
        async with _closing(aiter(found)) as records:
            async for record in records:
                yield [record]
    else:
        yield [await found]
