"""What goes down the pipeline and what comes up: two frozen values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal
from urllib.parse import unquote_plus

import msgspec

Lane = Literal["interactive", "bulk"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the configured institute.

    Attributes:
        target: Path and query, already encoded. Never a whole URL: the origin is the transport's.
        signed: Whether it carries the token; the login does not.
        repeatable: Whether sending it twice does no harm.
        deadline_s: Moment on the clock after which no try may run; set by the deadline middleware.
        call: Number of the call it belongs to, as in its events; 0 while nobody listens to those.
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
    call: int = 0

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


class Target(str):
    """Path and query whose repr, and so any dump of an object that holds it, shows no personal filter."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(shown(self))


def shown(target: str) -> str:
    """*target* without values that can be personal: a search text, an e-mail address."""
    path, mark, query = str(target).partition("?")  # a `Target` stays here
    if not mark:
        return path
    return path + "?" + "&".join(_shown_pair(pair) for pair in query.split("&"))


def _shown_pair(pair: str) -> str:
    name, _, value = pair.partition("=")
    harmless = name == "ordering" or _PLAIN.issuperset(value.replace("%2C", ",").replace("%3A", ":"))
    return pair if harmless else f"{name}=…"


# --- the server's words --------------------------------------------------------------------------------

MIN_ECHO_CHARS = 4  # shorter values would be found in words that have nothing to do with them
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def without_secrets(request: Request, text: str) -> str:
    """*text*, the server's own words, without e-mail addresses and what *request* carried in secret.

    Servers and proxies echo what they were sent: a debug page shows the headers, a refusal the values.
    """
    for secret in sorted(_carried(request), key=len, reverse=True):
        if len(secret) >= MIN_ECHO_CHARS:
            text = _without_beginning(secret, text.replace(secret, "…"))
    return _EMAIL.sub("…", text)


def _carried(request: Request) -> Iterator[str]:
    """Token, values of a login, personal filters."""
    if header := request.headers.get("Authorization"):
        yield header.rpartition(" ")[2]
    if request.body is not None:
        yield from msgspec.json.decode(request.body, type=dict[str, str]).values()
    for pair in request.target.partition("?")[2].split("&"):
        if _shown_pair(pair) != pair:
            value = pair.partition("=")[2]
            yield from (value, unquote_plus(value))


def _without_beginning(secret: str, text: str) -> str:
    """*text* that was cut to a length, without the first part of *secret* at its end."""
    stem = text.removesuffix("…")
    if stem == text:
        return text
    for length in range(len(secret) - 1, MIN_ECHO_CHARS - 1, -1):
        if stem.endswith(secret[:length]):
            return stem[:-length] + "…"
    return text
