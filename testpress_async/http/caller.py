"""A session with one caller's options: what resources and listings send their requests through."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import msgspec

from testpress_async.http.events import Observer
from testpress_async.http.message import Lane, Request, Response
from testpress_async.http.session import Session

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a clone changes. None: the client's own setting."""

    timeout_s: float | None = None
    lane: Lane = "bulk"
    max_wait_s: float | None = None
    coalesce: bool = False


class Caller:
    """Sends requests with *options* over the shared *session*."""

    def __init__(self, session: Session, options: Options) -> None:
        self.session, self.options = session, options

    @property
    def emit(self) -> Observer | None:
        return self.session.emit

    async def get(self, target: str) -> Response:
        """GET *target*, a path with its query, already encoded."""
        options = self.options
        return await self.session.send(
            Request(
                target=target,
                timeout_s=options.timeout_s,
                lane=options.lane,
                max_wait_s=options.max_wait_s,
            ),
            coalesce=options.coalesce,
        )

    def spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run *work* as a task that ends with the client at the latest."""
        return self.session.spawn(work)
