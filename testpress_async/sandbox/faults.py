"""Faults on demand: what goes wrong, for which requests, how often; by rule, or by name."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule. The first rule that matches a request and is not used up decides; the rest see nothing.

    Attributes:
        path: Beginning of the path the rule is for; "" for every path.
        query: Text the query string must contain, such as "page=3".
        method: "GET" or "POST"; None for both.
        skip: Matching requests that pass unharmed first.
        times: Requests that are hit then; None for all.
        status: Answer with this status, `headers` and `body` instead of the institute's own answer.
            None leaves the answer as it is.
        change: Makes another body out of the institute's own, before it is compressed.
        expire_tokens: Let every token handed out so far be expired first.
        cut_after_bytes: Send only so many bytes of the body; the headers promise all.
        then: What comes after the cut: the connection is closed, reset, or stays silent.
        drip_s: Send the body byte by byte, with so many seconds before each.
        hold: Wait for this event before answering.
        drop: Close the connection without a byte of an answer.
    """

    path: str = ""
    query: str = ""
    method: str | None = None
    skip: int = 0
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    change: Callable[[bytes], bytes] | None = None
    expire_tokens: bool = False
    cut_after_bytes: int | None = None
    then: Literal["close", "reset", "silence"] = "close"
    drip_s: float | None = None
    hold: asyncio.Event | None = None
    drop: bool = False

    def matches(self, method: str, path: str, query: str) -> bool:
        """Whether the rule is for such a request."""
        return self.method in (None, method) and path.startswith(self.path) and self.query in query


@dataclass(slots=True)
class Scripted:
    """A rule in force. `seen`: matching requests so far; `hits`: those it harmed."""

    fault: Fault
    seen: int = 0
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether it will not harm another request."""
        return self.fault.times is not None and self.hits >= self.fault.times


class Script:
    """The rules in force, oldest first."""

    def __init__(self) -> None:
        self.rules: list[Scripted] = []

    def add(self, fault: Fault) -> Scripted:
        """Put a rule in force; the answer counts what it does."""
        self.rules.append(scripted := Scripted(fault))
        return scripted

    def fault_for(self, method: str, path: str, query: str) -> Fault | None:
        """The fault this request suffers; counts it."""
        for rule in self.rules:
            if rule.is_spent or not rule.fault.matches(method, path, query):
                continue
            rule.seen += 1
            if rule.seen > rule.fault.skip:
                rule.hits += 1
                return rule.fault
        return None


# -- by name, for `Settings.faults` and `testpress sandbox --fault` ---------------------------------------

ELSEWHERE: Final = "https://elsewhere.example"
BOMB_MIB: Final = 64  # unpacked; twice what a client takes unless told otherwise

_HTML = {"Content-Type": "text/html; charset=utf-8"}
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    Attributes:
        summary: What the server does, in a few words.
        fault: The rule that does it.
        of_logins: Whether it is for logins; the others leave logins alone.
    """

    summary: str
    fault: Fault
    of_logins: bool = False


class _Page(msgspec.Struct):
    """The page of any list."""

    count: int
    next: str | None
    previous: str | None
    per_page: int
    results: list[dict[str, object]] | dict[str, list[dict[str, object]]]

    @property
    def records(self) -> list[dict[str, object]]:
        return next(iter(self.results.values())) if isinstance(self.results, dict) else self.results


def _changing_pages(change: Callable[[_Page], None]) -> Fault:
    """A fault that changes the page of a list; whatever is no page stays as it is."""

    def changed(body: bytes) -> bytes:
        try:
            page = msgspec.json.decode(body, type=_Page)
        except msgspec.ValidationError:
            return body
        change(page)
        return msgspec.json.encode(page)

    return Fault(change=changed)


def _spoil_a_record(page: _Page) -> None:
    """Put an object where a number or text belongs, in the record in the middle."""
    if page.records:
        record = page.records[len(page.records) // 2]
        field = next(name for name, value in record.items() if name != "id" and isinstance(value, str | int))
        record[field] = {"unexpected": True}


def _miscount(page: _Page) -> None:
    page.count += 1


def _point_elsewhere(page: _Page) -> None:
    if page.next:
        page.next = f"{ELSEWHERE}/?{page.next.partition('?')[2]}"


def _go_back(page: _Page) -> None:
    page.next = f"{ELSEWHERE}/?page=1"


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(_MIB)
    return b"".join(packer.compress(zeros) for _ in range(BOMB_MIB)) + packer.flush()


def _too_many(retry_after: str | None) -> Fault:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Fault(status=429, headers=headers, body=b'{"detail": "Request was throttled."}')


_MAINTENANCE = b"<html><head><title>Maintenance</title></head><body>Back soon.</body></html>"

KINDS: Final[Mapping[str, Kind]] = {
    "hang-up": Kind("closes the connection without an answer", Fault(drop=True)),
    "reset": Kind("resets the connection within the body", Fault(cut_after_bytes=20, then="reset")),
    "cut": Kind("closes the connection within the body", Fault(cut_after_bytes=20)),
    "stall": Kind("goes silent within the body", Fault(cut_after_bytes=20, then="silence")),
    "drip": Kind("sends the body byte by byte, one a second", Fault(drip_s=1.0)),
    "html": Kind("answers 200 with a page of HTML", Fault(status=200, headers=_HTML, body=_MAINTENANCE)),
    "empty": Kind("answers 200 without a body", Fault(status=200)),
    "not-json": Kind("answers 200 with half a JSON document", Fault(status=200, body=b'{"count": 3, "resu')),
    "bad-gzip": Kind(
        "answers with gzip that breaks off",
        Fault(status=200, headers={"Content-Encoding": "gzip"}, body=zlib.compress(b"{}", wbits=31)[:-6]),
    ),
    "gzip-bomb": Kind(
        f"answers with {BOMB_MIB} MiB, a thousandth on the wire",
        Fault(status=200, headers={"Content-Encoding": "gzip"}, change=lambda _: _bomb()),
    ),
    "bad-record": Kind("sends a page with one record of another shape", _changing_pages(_spoil_a_record)),
    "wrong-count": Kind("counts one record too many", _changing_pages(_miscount)),
    "next-foreign": Kind("lets `next` lead to another host", _changing_pages(_point_elsewhere)),
    "next-back": Kind("lets `next` lead back to page 1", _changing_pages(_go_back)),
    "redirect-foreign": Kind(
        "redirects to another host", Fault(status=302, headers={"Location": f"{ELSEWHERE}/"})
    ),
    "login-page": Kind("redirects to a login page", Fault(status=302, headers={"Location": "/login/"})),
    "expired-token": Kind("lets all tokens be expired", Fault(expire_tokens=True)),
    "other-session": Kind(
        "refuses, as somebody else has logged in",
        Fault(
            status=401,
            headers=_HTML,
            body=b'{"error_code": "parallel_login_restriction", "detail": "Logged in elsewhere."}',
        ),
    ),
    "login-locked": Kind(
        "refuses logins, as there were too many",
        Fault(
            status=403,
            headers=_HTML,
            body=b'{"error_code": "max_login_exceeded", "detail": "Too many failed logins."}',
        ),
        of_logins=True,
    ),
    "login-down": Kind("answers logins with 500", Fault(status=500), of_logins=True),
    "429": Kind("answers 429, asking for 1 second", _too_many("1")),
    "429-without-header": Kind("answers 429 without saying how long", _too_many(None)),
    "429-for-an-hour": Kind("answers 429, asking for an hour", _too_many("3600")),
    "500": Kind("answers 500", Fault(status=500, body=b'{"detail": "Internal server error."}')),
    "502": Kind("answers 502 with HTML", Fault(status=502, headers=_HTML, body=b"<h1>502 Bad Gateway</h1>")),
    "503": Kind(
        "answers 503, asking for 1 second",
        Fault(status=503, headers={**_HTML, "Retry-After": "1"}, body=b"<h1>Service Unavailable</h1>"),
    ),
}
"""By name. A request suffers one at most. `fail_rate` mixes 500, 502, 503 and cut, for logins too."""
