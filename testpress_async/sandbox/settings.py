"""Everything a sandbox institute can be told, as one frozen value; and the clock it goes by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol, TypedDict

from testpress_async.sandbox.faults import KINDS


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most *requests* accepted in any *per_s* seconds, per user (Django REST framework's rule)."""

    requests: int
    per_s: float

    def __post_init__(self) -> None:
        if self.requests < 1 or not self.per_s > 0:
            raise ValueError(f"rate: needs at least one request in more than 0 s, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What happens to the attempts while they are read: events per second, spread evenly.

    Attributes:
        inserts_per_s: New attempts, started now.
        deletes_per_s: Attempts that vanish, any of them.
        edits_per_s: Attempts whose score changes; a running one finishes.
        backdated_per_s: New attempts with an old start, as after a late upload.
        seed: Decides which attempts are hit.
    """

    inserts_per_s: float = 0.0
    deletes_per_s: float = 0.0
    edits_per_s: float = 0.0
    backdated_per_s: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.inserts_per_s, self.deletes_per_s, self.edits_per_s, self.backdated_per_s) < 0:
            raise ValueError(f"live: a rate below 0 per second means nothing, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How large, how slow and how unreliable the institute is.

    Attributes:
        attempts, content_attempts, exams, users, courses, conferences: How many of each there are;
            content attempts are half as many as attempts unless told. Attempts cost no memory.
        seed: Same seed, same records.
        first_attempt_id: Id of the oldest attempt; above 2**31 rehearses large institutes.
        first_day, last_day: The attempts were started in these days of Asia/Kolkata, both included.
        latency_ms: Wait before every answer, in milliseconds.
        rate: Limits per user, answered with 429 and `Retry-After`; several apply together.
        fail_rate: Share of requests, 0 to 1, that get a 500, 502, 503 or half an answer.
        faults: Share of requests, 0 to 1, that suffer each kind of `KINDS`, such as `{"cut": 0.1}`; together
            at most 1. The seed decides which. Logins suffer the kinds for logins only.
        live: Changes while reading; None keeps the institute still.
        token_ttl_s: Life of a token in seconds.
        username, password: The admin's. "student" with the same password logs in and is not an admin.
        max_bad_logins: After so many wrong passwords an account is locked.
        port: Of 127.0.0.1; 0 takes a free one.
        per_page: Page size of attempts and exams; `answers_per_page` of user answers and content
            attempts; `rows_per_page` of users, courses and attendance.
        next_keeps_filters: Whether `next` repeats the other query parameters; the documentation's
            samples do not.
        ignored_filters: Query parameters the server silently ignores, such as "date_0".
        utc_offset_min: Zone of the days that date filters mean, in minutes east of UTC.
        until_inclusive: Whether `date_1` and `completed_before` include the day they name.
        unstable_ties: Let attempts that started in the same instant change places from one request to
            the next, as a database without a second sort key does.
        gzip: Compress for clients that accept it.
        cached_pages: Rendered pages kept in memory.
        log_size: Requests remembered in `Sandbox.log`.
    """

    attempts: int = 2_000
    content_attempts: int | None = None
    exams: int = 8
    users: int = 300
    courses: int = 6
    conferences: int = 20
    seed: int = 1
    first_attempt_id: int = 1
    first_day: date = date(2023, 1, 1)
    last_day: date = date(2025, 6, 30)
    latency_ms: float = 0.0
    rate: RateLimit | tuple[RateLimit, ...] | None = None
    fail_rate: float = 0.0
    faults: Mapping[str, float] = field(default_factory=dict[str, float], hash=False)
    live: Live | None = None
    token_ttl_s: float = 3_600.0
    username: str = "admin"
    password: str = "sandbox"  # noqa: S105 - guards nothing but invented records on loopback
    max_bad_logins: int = 5
    port: int = 0
    per_page: int = 200
    answers_per_page: int = 250
    rows_per_page: int = 20
    next_keeps_filters: bool = True
    ignored_filters: frozenset[str] = frozenset()
    utc_offset_min: int = 330
    until_inclusive: bool = True
    unstable_ties: bool = False
    gzip: bool = True
    cached_pages: int = 64
    log_size: int = 10_000

    def __post_init__(self) -> None:
        for name in ("attempts", "content_attempts", "conferences", "latency_ms", "cached_pages", "log_size"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: cannot be below 0")
        sizes = ("per_page", "answers_per_page", "rows_per_page")
        for name in ("exams", "users", "courses", "max_bad_logins", "first_attempt_id", *sizes):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: cannot be below 1")
        if abs(self.utc_offset_min) > 840:
            raise ValueError("utc_offset_min: no zone is more than 14 h from UTC")
        if not 0 <= self.fail_rate <= 1:
            raise ValueError("fail_rate: is a share, 0 to 1")
        _require_shares(self.faults)
        if not self.token_ttl_s > 0:
            raise ValueError("token_ttl_s: must be above 0 s")
        if self.last_day < self.first_day:
            raise ValueError("last_day: lies before first_day")

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        """`rate` as a tuple, empty if nothing is limited."""
        if self.rate is None:
            return ()
        return self.rate if isinstance(self.rate, tuple) else (self.rate,)


def _require_shares(faults: Mapping[str, float]) -> None:
    for kind, share in faults.items():
        if kind not in KINDS:
            raise ValueError(f"faults: there is no {kind!r}; there are {', '.join(KINDS)}")
        if not 0 <= share <= 1:
            raise ValueError(f"faults: the share of {kind!r} is 0 to 1, not {share:g}")
    for of_logins in (False, True):
        total = sum(share for kind, share in faults.items() if KINDS[kind].of_logins == of_logins)
        if total > 1 + 1e-9:  # ten tenths are a little more
            raise ValueError("faults: the shares of all kinds are more than 1 together")


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments of `Sandbox`."""

    attempts: int
    content_attempts: int | None
    exams: int
    users: int
    courses: int
    conferences: int
    seed: int
    first_attempt_id: int
    first_day: date
    last_day: date
    latency_ms: float
    rate: RateLimit | tuple[RateLimit, ...] | None
    fail_rate: float
    faults: Mapping[str, float]
    live: Live | None
    token_ttl_s: float
    username: str
    password: str
    max_bad_logins: int
    port: int
    per_page: int
    answers_per_page: int
    rows_per_page: int
    next_keeps_filters: bool
    ignored_filters: frozenset[str]
    utc_offset_min: int
    until_inclusive: bool
    unstable_ties: bool
    gzip: bool
    cached_pages: int
    log_size: int


class Clock(Protocol):
    """What the sandbox needs of time. All values are seconds."""

    def now_s(self) -> float:
        """Monotonic seconds: throttles and live changes count with them."""
        ...

    def wall_s(self) -> float:
        """Seconds since the epoch: tokens expire and new attempts are dated by them."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait: the latency a rehearsal asked for."""
        ...


class SystemClock:
    """The running loop's clock, so that a virtual-clock loop moves the sandbox too."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        return time.time()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)
