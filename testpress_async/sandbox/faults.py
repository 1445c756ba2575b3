"""Faults on demand: what goes wrong, for which requests, how often."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field


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
        cut_after_bytes: Close the connection after so many bytes of the body; the headers promise all.
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
    cut_after_bytes: int | None = None
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
