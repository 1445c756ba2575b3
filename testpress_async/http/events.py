"""Facts for observers: frozen, without tokens, record values or personal filters.

An observer is a plain function. It runs on the event loop, so it should return at once; if it raises, the
error is logged and the request goes on. When nobody listens, no event object is built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

log = logging.getLogger("testpress_async.events")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all facts."""


class RequestStarted(Event, frozen=True, kw_only=True):
    """A call begins: one per call, however many tries it takes."""

    method: str
    url: str


class RequestFinished(Event, frozen=True, kw_only=True):
    """A call ended well, or with *error* (its class name). `body_bytes` is the decoded size."""

    method: str
    url: str
    status: int | None
    body_bytes: int
    elapsed_s: float
    error: str | None = None


class TryFailed(Event, frozen=True, kw_only=True):
    """A try failed and will be repeated after `wait_s` (429: when the limiter lets it)."""

    method: str
    url: str
    try_no: int
    error: str
    wait_s: float


class RateWaited(Event, frozen=True, kw_only=True):
    """A try waited `waited_s` for the rate limiter before it was sent."""

    url: str
    waited_s: float


class Throttled(Event, frozen=True, kw_only=True):
    """The server answered 429 and asked for `retry_after_s` (None: it did not say)."""

    url: str
    retry_after_s: float | None


class LoggedIn(Event, frozen=True, kw_only=True):
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


def guarded(observer: Observer) -> Observer:
    """*observer*, unable to hurt the request it watches."""

    def notify(event: Event) -> None:
        try:
            observer(event)
        except Exception:
            log.exception("on_event failed on %s; the request goes on", type(event).__name__)

    return notify
