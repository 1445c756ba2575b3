"""Facts for observers: frozen, without tokens, record values or personal filters.

An observer is a plain function. If it raises, the error is logged and the request goes on. It runs on the
event loop: while it blocks, everything on that loop stands still, this client and the rest of the program.
Answers that come meanwhile are not lost, but deadlines go on running. So hand slow work to a queue or a
thread. When nobody listens, no event object is built.

`docs/events.md` is the reference page; a test keeps it equal to the classes.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence

import msgspec

from testpress_async.errors import ConfigError
from testpress_async.http.logs import EVENTS, tell


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all facts."""


class CallEvent(Event, frozen=True, kw_only=True):
    """Base of the facts about one call.

    Attributes:
        call: Number of the call, the same on all of its facts; no other call of this process has it. What a
            shared call (`coalesce`) does bears the number of the first caller.
    """

    call: int = 0


class RequestStarted(CallEvent, frozen=True, kw_only=True):
    """A call begins: one per call, however many tries it takes. `origin`: scheme, host and port."""

    method: str
    url: str
    origin: str = ""


class RequestFinished(CallEvent, frozen=True, kw_only=True):
    """A call ended well, or with *error* (its class name). `body_bytes` is the decoded size."""

    method: str
    url: str
    status: int | None
    body_bytes: int
    elapsed_s: float
    error: str | None = None


class TryFailed(CallEvent, frozen=True, kw_only=True):
    """A try failed and will be repeated after `wait_s` (429: when the limiter lets it)."""

    method: str
    url: str
    try_no: int
    error: str
    wait_s: float


class RateWaiting(CallEvent, frozen=True, kw_only=True):
    """A try begins to wait for the limiter. `expected_s`: None if until another request ends.

    `RateWaited` follows when it may go, or the call's `RequestFinished` when it gives up.
    """

    url: str
    expected_s: float | None


class RateWaited(CallEvent, frozen=True, kw_only=True):
    """A try waited `waited_s` for the rate limiter before it was sent."""

    url: str
    waited_s: float


class Throttled(CallEvent, frozen=True, kw_only=True):
    """The server answered 429 and asked for `retry_after_s` (None: it did not say)."""

    url: str
    retry_after_s: float | None


class LoggedIn(CallEvent, frozen=True, kw_only=True):
    """A new token was obtained. `lifetime_s` comes from its `exp`; None if it has none."""

    lifetime_s: float | None


class PageRead(Event, frozen=True, kw_only=True):
    """A page of a listing was decoded. `count` is the server's total, None if it gave none."""

    url: str
    page: int
    records: int
    rejected: int
    count: int | None


Observer = Callable[[Event], object]


def guarded(observers: Observer | Sequence[Observer] | None) -> Observer | None:
    """All of *observers* as one, unable to hurt each other or the request they watch; None if there are none.

    Raises:
        ConfigError: One is no plain function: nobody would await a coroutine.
    """
    several = [observers] if callable(observers) else observers or ()
    guards = [_guarded(each) for each in several]
    if len(guards) < 2:
        return guards[0] if guards else None

    def notify_all(event: Event) -> None:
        for notify in guards:
            notify(event)

    return notify_all


def _guarded(observer: Observer) -> Observer:
    if not callable(observer) or inspect.iscoroutinefunction(observer):
        raise ConfigError("on_event", "expected a plain function; it can put events into an asyncio.Queue")

    def notify(event: Event) -> None:
        try:
            observer(event)
        except Exception:
            text = "on_event failed on %s; the request goes on"
            tell(EVENTS, logging.ERROR, text, type(event).__name__, exc_info=True)

    return notify
