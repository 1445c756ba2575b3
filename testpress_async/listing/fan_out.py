"""One call per parent, many at once: bounded, with back-pressure, in a scope that cancels what is left.

Each worker reads the records of one parent page by page and hands the pages over one by one; it goes on when
the consumer has taken the page. So at most `concurrency` pages are held, however slow the consumer is.
"""

from __future__ import annotations

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
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, cast

import anyio
from anyio.abc import AsyncResource, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from testpress_async.errors import ConfigError, Error
from testpress_async.listing.listing import Listing

K = TypeVar("K")
R = TypeVar("R")
OnError = Literal["raise", "skip", "collect"]


class FanOut(Generic[K, R]):
    """Records of many parents. Use it with ``async with`` and iterate it once.

        async with client.fan_out(ids, client.attempts.user_answers, concurrency=16) as results:
            async for attempt_id, answer in results: ...

    Args:
        parents: What `call` is called with; any iterable, also an async one. Read only as fast as needed.
        call: Gives a `Listing`, another async iterable, or an awaitable of one record.
        on_error: "raise" ends everything with the first error of any parent; "skip" leaves that parent out;
            "collect" does too, and keeps (parent, error) in `errors`. Only errors of this library count as
            failures of a parent: anything else is a bug and is raised.
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
        if concurrency < 1:
            raise ConfigError("concurrency", "expected a number of at least 1")
        if on_error not in ("raise", "skip", "collect"):
            raise ConfigError("on_error", 'expected "raise", "skip" or "collect"')
        self._parents, self._call, self._concurrency = parents, call, concurrency
        self._on_error, self._ordered = on_error, ordered
        self.errors: list[tuple[K, Error]] = []
        self._group: TaskGroup | None = None
        self._results: AsyncGenerator[tuple[K, R], None] | None = None
        self._streams: set[MemoryObjectSendStream[Any] | MemoryObjectReceiveStream[Any]] = set()

    async def __aenter__(self) -> FanOut[K, R]:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what still runs and wait for it. What the body raised goes on unchanged."""
        if self._group is None:
            return
        self._group.cancel_scope.cancel()
        try:
            if self._results is not None:
                await self._results.aclose()
            await self._group.__aexit__(None, None, None)
        finally:
            for stream in self._streams:  # of workers that were cancelled before they began
                stream.close()

    def __aiter__(self) -> AsyncIterator[tuple[K, R]]:
        if self._group is None:
            raise ConfigError("fan_out", "is used with `async with client.fan_out(...) as results:`")
        if self._results is not None:
            raise ConfigError("fan_out", "is iterated once; make a new one")
        self._results = self._in_order(self._group) if self._ordered else self._as_completed(self._group)
        return self._results

    # --- inside ------------------------------------------------------------------------------------

    async def _as_completed(self, group: TaskGroup) -> AsyncGenerator[tuple[K, R], None]:
        send, receive = anyio.create_memory_object_stream[_Batch[K, R]](0)
        self._streams |= {send, receive}

        async def outlet() -> MemoryObjectSendStream[_Batch[K, R]]:
            self._streams.add(out := send.clone())
            return out

        group.start_soon(self._feed, group, outlet, send)
        async with receive:
            async for parent, batch in receive:
                for record in _checked(batch):
                    yield parent, record

    async def _in_order(self, group: TaskGroup) -> AsyncGenerator[tuple[K, R], None]:
        line, parents = anyio.create_memory_object_stream[MemoryObjectReceiveStream[_Batch[K, R]]](
            self._concurrency
        )
        self._streams |= {line, parents}

        async def outlet() -> MemoryObjectSendStream[_Batch[K, R]]:
            send, receive = anyio.create_memory_object_stream[_Batch[K, R]](0)
            self._streams |= {send, receive}
            await line.send(receive)
            return send

        group.start_soon(self._feed, group, outlet, line)
        async with parents:
            async for receive in parents:
                async with receive:
                    async for parent, batch in receive:
                        for record in _checked(batch):
                            yield parent, record
                self._streams.discard(receive)

    async def _feed(self, group: TaskGroup, outlet: _Outlet[K, R], closes: AsyncResource) -> None:
        """Start one task per parent, at most `concurrency` at a time."""
        slots = anyio.Semaphore(self._concurrency)
        async with closes, contextlib.aclosing(_each(self._parents)) as parents:
            try:
                async for parent in parents:
                    await slots.acquire()
                    group.start_soon(self._one, parent, await outlet(), slots)
            except anyio.BrokenResourceError:
                return  # the consumer has stopped; its scope cancels the rest
            except Exception as error:  # the parents' own iterator failed
                with contextlib.suppress(anyio.BrokenResourceError):
                    async with await outlet() as out:
                        await out.send((cast(K, None), error))

    async def _one(
        self, parent: K, out: MemoryObjectSendStream[_Batch[K, R]], slots: anyio.Semaphore
    ) -> None:
        async with out:
            try:
                async with contextlib.aclosing(_batches(self._call, parent)) as batches:
                    async for batch in batches:
                        await out.send((parent, batch))
            except anyio.BrokenResourceError:
                return  # the consumer has stopped; its scope cancels the rest
            except Exception as error:
                if not isinstance(error, Error) or self._on_error == "raise":
                    with contextlib.suppress(anyio.BrokenResourceError):
                        await out.send((parent, error))
                elif self._on_error == "collect":
                    self.errors.append((parent, error))
        self._streams.discard(out)
        slots.release()


_Batch = tuple[K, Sequence[R] | Exception]
_Outlet = Callable[[], Awaitable[MemoryObjectSendStream[_Batch[K, R]]]]


def _checked(batch: Sequence[R] | Exception) -> Sequence[R]:
    if isinstance(batch, Exception):
        raise batch
    return batch


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


async def _batches(
    call: Callable[[K], AsyncIterable[R] | Awaitable[R]], parent: K
) -> AsyncGenerator[Sequence[R], None]:
    found = call(parent)
    if isinstance(found, Listing):
        listing = cast(Listing[Any], found)  # its records are what it iterates, R
        async with contextlib.aclosing(listing.pages()) as pages:
            async for page in pages:
                yield page.items
    elif isinstance(found, AsyncIterable):
        async with _closing(aiter(found)) as records:
            async for record in records:
                yield [record]
    else:
        yield [await found]
