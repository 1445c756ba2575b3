"""What tasks bring, inside a scope of its own: iterated once, and nothing runs on behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

from testpress_async.errors import ConfigError

T = TypeVar("T")


class Closable(Protocol):
    def close(self) -> None: ...


class Results(Generic[T]):
    """Use it with ``async with`` and iterate it once; leaving the block ends all that still runs.

    A subclass says in `_bring` how the results come about, and notes in `_streams` what is to be closed.

    Args:
        name: Of what the user called, and `usage`: how it is meant to be used.
    """

    def __init__(self, name: str, usage: str) -> None:
        self._name, self._usage = name, usage
        self._group: TaskGroup | None = None
        self._results: AsyncGenerator[T, None] | None = None
        self._streams: set[Closable] = set()

    def _bring(self, group: TaskGroup) -> AsyncGenerator[T, None]:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
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

    def __aiter__(self) -> AsyncIterator[T]:
        if self._group is None:
            raise ConfigError(self._name, f"is used with `{self._usage}`")
        if self._results is not None:
            raise ConfigError(self._name, "is iterated once; make a new one")
        self._results = self._bring(self._group)
        return self._results
