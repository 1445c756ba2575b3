"""What goes down the pipeline and what comes up: two frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Lane = Literal["interactive", "bulk"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the configured institute.

    Attributes:
        target: Path and query, already encoded. Never a whole URL: the origin is the transport's.
        signed: Whether it carries the token; the login does not.
        repeatable: Whether sending it twice does no harm.
        deadline_s: Moment on the clock after which no try may run; set by the deadline middleware.
    """

    target: str
    method: Literal["GET", "POST"] = "GET"
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    signed: bool = True
    repeatable: bool = True
    lane: Lane = "bulk"
    timeout_s: float | None = None
    max_wait_s: float | None = None
    deadline_s: float | None = None

    @property
    def shown(self) -> str:
        """Path and harmless filters, for errors, logs and events."""
        return shown(self.target)

    def __repr__(self) -> str:
        return (
            f"Request({self.method} {self.shown})"  # the headers hold the token, a login's body the password
        )

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("method", self.method), ("target", self.shown)]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer with its whole decoded body.

    Attributes:
        headers: Case-insensitive.
        framed: Whether the transfer itself proved that the body is whole (a length or chunks).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    framed: bool = True

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"  # the body is personal, or a token

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("status", self.status), ("body_bytes", len(self.body))]


_PLAIN = frozenset("0123456789-,:.TZ")


def shown(target: str) -> str:
    """*target* without values that can be personal: a search text, an e-mail address."""
    path, mark, query = target.partition("?")
    if not mark:
        return path
    return path + "?" + "&".join(_shown_pair(pair) for pair in query.split("&"))


def _shown_pair(pair: str) -> str:
    name, _, value = pair.partition("=")
    harmless = name == "ordering" or _PLAIN.issuperset(value.replace("%2C", ",").replace("%3A", ":"))
    return pair if harmless else f"{name}=…"
