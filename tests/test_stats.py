"""`client.stats()`: the numbers are those of the institute, and reading them disturbs nothing."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

import testpress_async as tp
from testpress_async.http.gate import Gate
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.support.clock import AutoClock, settle
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_the_numbers_are_those_of_the_institute() -> None:
    """Under faults, a limit and a lost token, what was counted here was counted there."""
    async with Sandbox(attempts=240, per_page=20, rate=RateLimit(6, 60.0)) as institute:
        institute.script(Fault(path="/api/v2.5/admin/attempts/", status=503, times=2))
        institute.script(Fault(path="/api/v2.5/admin/attempts/", query="page=9", expire_tokens=True))
        account = {"username": institute.username, "password": institute.password}
        client = tp.Client(institute.url, **account)
        async with client:
            await client.attempts.list().collect(window=4)
            with pytest.raises(tp.NotFound):
                await client.attempts.get(999_999_999)
            stats = client.stats()
        statuses = [seen.status for seen in institute.log]
        logins = sum(seen.path == "/api/v2.5/auth-token/" for seen in institute.log)
    assert (stats.calls, stats.failed_calls) == (13, 1)
    assert stats.requests == len(statuses) == client.requests_sent
    assert stats.throttled == statuses.count(429) > 0
    assert stats.logins == logins == 2
    assert stats.repeated_tries == 2 + stats.throttled
    assert stats.waits > 0
    assert stats.waited_s >= 60
    assert [limit.per_s for limit in stats.limits] == [60.0]
    assert (stats.in_flight, stats.queued) == (0, 0)
    assert 0 < stats.retry_quota < stats.retry_quota_capacity == tp.RetryPolicy().quota
    assert client.stats() == stats, "closing changes nothing"


async def test_bytes_are_those_that_came_over_the_wire() -> None:
    """Bodies are packed; a clone counts for its client."""
    async with (
        Sandbox(attempts=60, per_page=20) as institute,
        tp.Client(institute.url, token=institute.token()) as client,
    ):
        pages = [page async for page in client.with_options().attempts.list().raw_pages()]
        received = client.stats().received_bytes
        assert client.with_options().stats() == client.stats()
    decoded = sum(len(row) for page in pages for rows in page.rows.values() for row in rows)
    assert 0 < received < decoded / 2


async def test_the_pool_is_shown_as_it_is() -> None:
    """Requests on the way and those that wait for a place."""
    hold = asyncio.Event()
    async with Sandbox() as institute:
        institute.script(Fault(path="/api/v2.5/admin/exams/", hold=hold, times=None))
        async with tp.Client(institute.url, token=institute.token(), max_connections=2) as client:
            before = client.stats()
            calls = [asyncio.ensure_future(client.exams.list().count()) for _ in range(5)]
            await settle()
            stats = client.stats()
            hold.set()
            await asyncio.gather(*calls)
            after = client.stats()
    assert (before.in_flight, before.queued, before.max_in_flight, before.calls) == (0, 0, 2, 0)
    assert (stats.in_flight, stats.queued, stats.max_in_flight) == (2, 3, 2)
    assert (after.in_flight, after.queued, after.waits) == (0, 0, 3)


def test_it_can_be_read_outside_of_any_loop() -> None:
    """Before opening, too; as plain data for a health endpoint, frozen, with every number by its name."""
    stats = tp.Client("https://institute.test", token="t", rate=tp.RatePolicy(requests=5, per_s=1)).stats()
    plain = msgspec.to_builtins(stats)
    assert plain["limits"] == ({"requests": 5, "per_s": 1.0},)
    assert plain["max_in_flight"] == 16
    assert msgspec.json.decode(msgspec.json.encode(stats), type=tp.Stats) == stats
    assert repr(stats).startswith("Stats(calls=0, failed_calls=0, requests=0, ")
    assert set(plain) <= set((tp.Stats.__doc__ or "").replace(",", " ").replace(":", " ").split())
    with pytest.raises(AttributeError):
        stats.calls = 1  # type: ignore[misc]


async def test_waits_of_those_who_left_are_not_counted() -> None:
    """A wait counts when it ends with a ticket."""
    clock = AutoClock()
    gate = Gate(tp.RatePolicy(), clock, max_in_flight=1)
    first = gate.try_enter("bulk")
    assert first is not None
    gone, kept = (asyncio.ensure_future(gate.enter("bulk", max_wait_s=None)) for _ in range(2))
    await settle()
    gone.cancel()
    await clock.sleep(3.0)
    first.accepted()
    (await kept).accepted()
    assert (gate.waits, gate.waited_s) == (1, 3.0)
