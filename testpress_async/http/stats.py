"""What a client did since it was made, and how it stands: for a health endpoint or a dashboard."""

from __future__ import annotations

import msgspec

from testpress_async.http.window import Limit


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a client and its clones; counts are since it was made. Plain data: `msgspec.to_builtins`.

    Attributes:
        calls: Calls begun: one per page or record asked for, however many tries it takes.
        failed_calls: Those that ended with an error; cancelled ones are not among them.
        requests: Requests sent: every try, login and redirect hop.
        repeated_tries: Tries that failed and were repeated, those after a 429 included.
        throttled: Answers 429.
        logins: Logins, or calls of `token_provider`, that brought a token.
        received_bytes: Bodies as they came over the wire, most of them packed.
        waits: Tries that had to wait for the limiter or a free place.
        waited_s: How long in all, in seconds.
        limits: Request limits in force, given or learned, shortest period first; none while none is known.
        in_flight: Requests on the way now.
        queued: Tries that wait for the limiter now.
        max_in_flight: How many may be on the way at once: `max_connections`, fewer after signs of overload.
        retry_quota: What is left of the shared retry budget; at 0 nothing is repeated.
        retry_quota_capacity: Its full size, `RetryPolicy.quota`.
    """

    calls: int
    failed_calls: int
    requests: int
    repeated_tries: int
    throttled: int
    logins: int
    received_bytes: int
    waits: int
    waited_s: float
    limits: tuple[Limit, ...]
    in_flight: int
    queued: int
    max_in_flight: int
    retry_quota: int
    retry_quota_capacity: int
