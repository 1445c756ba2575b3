"""The proxy does to a connection what its faults say, and the same again for the same seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import testpress_async as tp
from testpress_async.sandbox import Sandbox
from tests.faults.proxy import CLEAN, Decide, End, Fault, FaultProxy, Read, in_order, sometimes
from tests.support.pages import other_tasks
from tests.support.raw_server import RawServer, http

ASK = b"GET / HTTP/1.1\r\n\r\n"
ANSWER = http(b'{"answer": "' + b"x" * 2000 + b'"}')


@asynccontextmanager
async def connected(
    proxy: FaultProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to *proxy*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_through(proxy: FaultProxy) -> bytes:
    """All bytes that come back for one request."""
    async with connected(proxy) as (reader, writer):
        writer.write(ASK)
        return await reader.read()


async def test_a_client_reads_through_a_clean_proxy(institute: Sandbox) -> None:
    """Without faults nothing is changed, on as many connections as the client opens."""
    async with (
        FaultProxy(institute.url) as proxy,
        tp.Client(proxy.origin, username=institute.username, password=institute.password) as client,
    ):
        ids = [attempt.id async for attempt in client.attempts.list().prefetch(4)]
        assert sorted(ids) == sorted(set(ids))
        assert len(ids) == await client.attempts.list().count()
        assert set(proxy.log) == {CLEAN}


@pytest.mark.parametrize("cut_after", [0, 1, 50, len(ANSWER) - 1])
@pytest.mark.parametrize("end", [End.FIN, End.CUT, End.HALF])
async def test_an_answer_is_cut_at_the_byte(cut_after: int, end: End) -> None:
    """So many bytes, then the end, whatever the upstream still sends."""
    async with (
        RawServer(ANSWER) as upstream,
        FaultProxy(upstream.origin, [Fault(cut_after=cut_after, end=end)]) as proxy,
    ):
        assert await answer_through(proxy) == ANSWER[:cut_after]
        assert await answer_through(proxy) == ANSWER
        assert proxy.requests == 2


async def test_a_reset_is_a_reset() -> None:
    """Not an end: the client's read fails."""
    async with (
        RawServer(ANSWER) as upstream,
        FaultProxy(upstream.origin, [Fault(cut_after=10, end=End.RST)]) as proxy,
    ):
        with pytest.raises(ConnectionResetError):
            await answer_through(proxy)


@pytest.mark.parametrize(("end", "error"), [(End.RST, ConnectionResetError), (End.FIN, None)])
async def test_a_connection_can_end_on_accept(end: End, error: type[OSError] | None) -> None:
    """Before anything was read or asked upstream."""
    async with RawServer(ANSWER) as upstream, FaultProxy(upstream.origin, [Fault(on_accept=end)]) as proxy:
        async with connected(proxy) as (reader, _):
            if error is None:
                assert await reader.read() == b""
            else:
                with pytest.raises(error):
                    await reader.read()
        assert (proxy.requests, upstream.connections) == (0, 0)


async def test_a_black_hole_swallows_until_the_client_goes() -> None:
    """Nothing comes back, not even an end; the proxy's own end frees everybody."""
    async with (
        RawServer(ANSWER) as upstream,
        FaultProxy(upstream.origin, [Fault(cut_after=5, end=End.HOLD)]) as proxy,
        connected(proxy) as (reader, writer),
    ):
        writer.write(ASK)
        assert await reader.readexactly(5) == ANSWER[:5]
        more = asyncio.ensure_future(reader.read())
        writer.write(ASK)
        await proxy.until(2)
        assert not more.done()
        await proxy.__aexit__(None, None, None)
        assert await more == b""
    assert other_tasks() == set()


async def test_half_closed_means_still_listening() -> None:
    """The client reads the end and can go on sending."""
    async with (
        RawServer(ANSWER) as upstream,
        FaultProxy(upstream.origin, [Fault(cut_after=5, end=End.HALF)]) as proxy,
        connected(proxy) as (reader, writer),
    ):
        writer.write(ASK)
        assert await reader.read() == ANSWER[:5]
        writer.write(ASK)
        await proxy.until(2)


async def test_a_script_plays_without_an_upstream() -> None:
    """Heads are read, bytes sent, seconds waited, ends made, in that order."""
    waited: list[float] = []

    async def sleep(duration_s: float) -> None:
        waited.append(duration_s)

    script = [Read.HEAD, b"one", 2.5, Read.HEAD, b"two", End.FIN, b"never"]
    async with FaultProxy(faults=[Fault(script=script)], sleep=sleep) as proxy:
        async with connected(proxy) as (reader, writer):
            writer.write(ASK)
            assert await reader.readexactly(3) == b"one"
            writer.write(ASK)
            assert await reader.read() == b"two"
        assert waited == [2.5]


@pytest.mark.parametrize("seed", [1, 2])
async def test_lateness_and_dripping_follow_the_seed(seed: int) -> None:
    """Each piece waits its latency and a random share of the jitter, the same for the same seed."""

    async def waits() -> list[float]:
        waited: list[float] = []

        async def sleep(duration_s: float) -> None:
            waited.append(duration_s)

        fault = Fault(latency_s=0.2, jitter_s=0.1, drip_bytes=1000)
        async with (
            RawServer(ANSWER) as upstream,
            FaultProxy(upstream.origin, [fault], seed=seed, sleep=sleep) as proxy,
        ):
            assert await answer_through(proxy) == ANSWER
        return waited

    rng = random.Random(seed)
    first = await waits()
    assert first == [0.2 + rng.random() * 0.1 for _ in range(len(first))]
    assert len(first) >= len(ANSWER) / 1000


def drawn(decide: Decide, seed: int, connections: int = 400) -> list[Fault]:
    rng = random.Random(seed)
    return [decide(rng, number) for number in range(connections)]


def test_chance_follows_the_seed() -> None:
    """About the given share of connections break, at bytes up to the given one, and never otherwise."""
    decide = sometimes(0.3, Fault(cut_after=500, end=End.RST), Fault(on_accept=End.FIN))
    faults = drawn(decide, seed=7)
    assert faults == drawn(decide, seed=7) != drawn(decide, seed=8)
    broken = [fault for fault in faults if fault != CLEAN]
    assert 80 < len(broken) < 160
    cuts = {fault.cut_after for fault in broken if fault.cut_after is not None}
    assert cuts <= set(range(501))
    assert len(cuts) > 20
    assert Fault(on_accept=End.FIN) in broken


def test_faults_in_order_end_in_clean_connections() -> None:
    """One for each connection."""
    faults = [Fault(on_accept=End.RST), Fault(cut_after=1)]
    assert drawn(in_order(faults), seed=0, connections=4) == [*faults, CLEAN, CLEAN]


@pytest.mark.parametrize("seed", range(3))
async def test_a_client_reads_everything_through_a_bad_proxy(institute: Sandbox, seed: int) -> None:
    """Cut, reset and refused connections cost tries, never a record."""
    worst = len(ANSWER) * 20
    faults = sometimes(
        0.4,
        Fault(cut_after=worst, end=End.RST),
        Fault(cut_after=worst),
        Fault(on_accept=End.RST),
        Fault(drip_bytes=700),
    )
    retry = tp.RetryPolicy(first_s=0.001, max_tries=20)
    async with (
        FaultProxy(institute.url, faults, seed=seed) as proxy,
        tp.Client(
            proxy.origin, username=institute.username, password=institute.password, retry=retry
        ) as client,
    ):
        ids = [attempt.id async for attempt in client.attempts.list(ordering="date").prefetch(4)]
        assert sorted(ids) == sorted(institute.truth.ids("attempts"))
        assert set(proxy.log) > {CLEAN}
