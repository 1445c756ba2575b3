"""`testpress sandbox`: an invented institute on this machine."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from testpress_async.cli import exits
from testpress_async.cli.output import err
from testpress_async.errors import ConfigError
from testpress_async.sandbox import KINDS, Live, RateLimit, Settings, serve

DEFAULT_FAULT_SHARE = 0.1
_FAULTS_HELP = (
    f"What goes wrong, as KIND or KIND:SHARE of the requests ({DEFAULT_FAULT_SHARE:g} unless told); may be "
    f"repeated. KIND is one of: {', '.join(KINDS)}. The seed decides which requests are hit."
)


async def sandbox(
    *,
    port: int = 8765,
    attempts: int = 2_000,
    exams: int = 8,
    users: int = 300,
    seed: int = 1,
    latency_ms: float = 0.0,
    rate: float | None = None,
    fail_rate: float = 0.0,
    fault: Annotated[list[str] | None, Parameter(help=_FAULTS_HELP)] = None,
    live: bool = False,
    token_ttl_s: float = 3_600.0,
    unstable_ties: bool = False,
    ignored_filters: str = "",
) -> int:
    """Run an invented institute on this machine until Ctrl-C, on good days or on bad ones.

    Parameters
    ----------
    port
        Port of 127.0.0.1; 0 takes a free one.
    attempts
        How many exam attempts it has; they take no memory.
    exams
        How many exams.
    users
        How many students.
    seed
        The same seed gives the same records.
    latency_ms
        Wait before each answer.
    rate
        Requests a second it allows before it answers 429.
    fail_rate
        Share of requests, 0 to 1, that fail or break off.
    live
        Insert, edit and delete attempts while being read.
    token_ttl_s
        How long a token lives, in seconds.
    unstable_ties
        Let attempts of equal date change places from page to page.
    ignored_filters
        Query parameters to ignore silently: date_0,date_1.
    """
    try:
        settings = Settings(
            port=port,
            attempts=attempts,
            exams=exams,
            users=users,
            seed=seed,
            latency_ms=latency_ms,
            rate=None if rate is None else limit_of(rate),
            fail_rate=fail_rate,
            faults=dict(map(_kind_and_share, fault or ())),
            live=Live(inserts_per_s=2, deletes_per_s=0.5, edits_per_s=2) if live else None,
            token_ttl_s=token_ttl_s,
            unstable_ties=unstable_ties,
            ignored_filters=frozenset(filter(None, ignored_filters.split(","))),
        )
    except ValueError as error:
        raise ConfigError("sandbox", str(error)) from None
    try:
        await serve(settings, err.print)
    except OSError as error:
        raise ConfigError("--port", f"{port} cannot be used: {error.strerror}") from None
    return exits.DONE


def limit_of(rate: float) -> RateLimit:
    """By the second or, where that makes no whole number, by the minute: as servers count."""
    if rate >= 1 and rate % 1 == 0:
        return RateLimit(int(rate), 1.0)
    return RateLimit(max(1, round(rate * 60)), 60.0)


def _kind_and_share(text: str) -> tuple[str, float]:
    """`cut:0.2` as ("cut", 0.2)."""
    kind, colon, share = text.partition(":")
    try:
        return kind, float(share) if colon else DEFAULT_FAULT_SHARE
    except ValueError:
        raise ConfigError("--fault", f"expected KIND or KIND:SHARE, such as cut:0.2, got {text!r}") from None
