"""Settings of one request's path: frozen, units in names, checked when built."""

from __future__ import annotations

import math

import msgspec

from testpress_async.errors import ConfigError


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits in seconds. None is not allowed: nothing here means "for ever".

    Attributes:
        total_s: One deadline over all tries of a call, waits included. Tries never multiply it.
        try_s: One try, from asking for a connection to the last byte.
        connect_s: Waiting for a free connection and opening it.
        read_idle_s: Silence between two pieces of an answer.
        min_bytes_per_s: Slowest body accepted, averaged over `read_idle_s`; 0 switches the check off.
    """

    total_s: float = 300.0
    try_s: float = 60.0
    connect_s: float = 10.0
    read_idle_s: float = 30.0
    min_bytes_per_s: float = 1024.0

    def __post_init__(self) -> None:
        for name in ("total_s", "try_s", "connect_s", "read_idle_s"):
            positive(f"Timeouts({name})", getattr(self, name))
        if not (math.isfinite(self.min_bytes_per_s) and self.min_bytes_per_s >= 0):
            raise ConfigError("Timeouts(min_bytes_per_s)", "expected a number of at least 0")


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed try is repeated. Waits are full jitter: uniform between 0 and the bound, and what a
    fault's `Retry-After` asks for on top.

    Attributes:
        max_tries: Tries of one call, the first included. 1 switches retries off.
        first_s: Upper bound of the wait before try 2, in seconds; it doubles from try to try.
        max_s: Upper bound of every such wait, in seconds.
        max_throttles: How many 429s one call sits out; its deadline ends it earlier.
        quota: Size of the retry budget that the client and its clones share.
        cost: What a retry takes out of the budget; success puts it back.
        throttle_cost: The same for a retry after 429.

    Source: the budget and its figures are the AWS SDK "standard" mode in its 2026 revision; full jitter
    is from the AWS Architecture Blog, Exponential Backoff And Jitter (2015).
    """

    max_tries: int = 5
    first_s: float = 0.5
    max_s: float = 20.0
    max_throttles: int = 20
    quota: int = 500
    cost: int = 14
    throttle_cost: int = 5

    def __post_init__(self) -> None:
        if self.max_tries < 1:
            raise ConfigError("RetryPolicy(max_tries)", "expected at least 1: the first try counts")
        positive("RetryPolicy(first_s)", self.first_s)
        positive("RetryPolicy(max_s)", self.max_s)
        for name in ("max_throttles", "quota", "cost", "throttle_cost"):
            if getattr(self, name) < 0:
                raise ConfigError(f"RetryPolicy({name})", "expected a number of at least 0")


def positive(parameter: str, value: float) -> None:
    """Raise ConfigError unless *value* is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(parameter, "expected a finite number of seconds above 0")
