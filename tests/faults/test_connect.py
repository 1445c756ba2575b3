"""Rows 1 to 13: names, ports, pools, proxies and TLS, until a connection stands or is given up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

import testpress_async as tp
from testpress_async.http.clock import SystemClock
from testpress_async.http.message import Request
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.retry import Retry, RetryQuota
from testpress_async.http.transport import Transport
from testpress_async.sandbox import Sandbox
from tests.faults.asking import ANSWER, IDS, ask, client_to, failure
from tests.faults.proxy import End, Fault, FaultProxy, Read
from tests.support.clock import AutoClock
from tests.support.pages import other_tasks
from tests.support.raw_server import HOLD, RawServer, http

TRIES = RetryPolicy().max_tries
HASTY = Timeouts(connect_s=0.05)
THRICE = RetryPolicy(max_tries=3)
LOGIN = http(b'{"token": "token-SECRET"}')

Addresses = Sequence[tuple[int, str]]
Resolve = Callable[[str], Awaitable[Addresses]]


class Names(AbstractResolver):
    """A resolver that asks a function for (family, address) pairs."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
            for kind, address in await self._resolve(host)
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def session_with(
    *, proxy: str | None = None, **connector: object
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session to lend, with another resolver, authority or proxy."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(**connector),  # type: ignore[arg-type]
        proxy=proxy,
    ) as session:
        yield session


@asynccontextmanager
async def answering(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers every request and login: its port, and the methods that came."""
    methods: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            methods.append(head.split(b" ")[0].decode())
            writer.write(LOGIN if head.startswith(b"POST") else ANSWER)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, port)
    try:
        yield server.sockets[0].getsockname()[1], methods
    finally:
        server.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses and that nobody else gets."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


@contextmanager
def black_hole(port: int = 0) -> Iterator[int]:
    """A port whose queue is full, so that nothing answers a new connection."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            assert filler.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        yield listener.getsockname()[1]


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.row(1)
async def test_a_name_that_does_not_resolve_is_asked_for_a_few_times() -> None:
    """Then it is named, within the deadline, as surely not sent."""

    async def unknown(host: str) -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    clock, names = AutoClock(), Names(unknown)
    async with (
        session_with(resolver=names) as session,
        client_to("http://institute.invalid", session=session, clock=clock) as client,
    ):
        error = await failure(client, tp.ConnectionFailed)
    assert "does not resolve" in str(error)
    assert (error.tries, names.asked, len(clock.slept_s)) == (TRIES, TRIES, TRIES - 1)
    assert sum(clock.slept_s) < Timeouts().total_s


@pytest.mark.row(1)
async def test_a_name_that_resolves_later_is_found() -> None:
    """A passing failure of the name server costs tries, not the call."""
    answers: list[Addresses] = [[], [], [(socket.AF_INET, "127.0.0.1")]]

    async def flaky(host: str) -> Addresses:
        if not (answer := answers.pop(0)):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return answer

    async with (
        answering() as (port, methods),
        session_with(resolver=Names(flaky)) as session,
        client_to(f"http://institute.invalid:{port}", session=session) as client,
    ):
        assert await ask(client) == IDS
        assert methods == ["GET"]


@pytest.mark.row(2)
async def test_a_name_server_that_never_answers_is_covered_by_the_connect_limit() -> None:
    """Nothing was sent, and nothing waits on after the client has closed."""

    async def silent(host: str) -> Addresses:
        await asyncio.Event().wait()
        return []

    async with (
        session_with(resolver=Names(silent)) as session,
        client_to("http://institute.invalid", session=session, timeouts=HASTY, retry=THRICE) as client,
    ):
        error = await failure(client, tp.TimedOut)
    assert (error.limit, error.sent, error.tries) == ("connect_s", False, 3)
    await asyncio.sleep(0)
    assert other_tasks() == set()


@pytest.mark.row(3)
async def test_a_guard_against_private_addresses_can_be_lent() -> None:
    """A resolver that refuses what a public name must not mean: typed, and no connection is made."""

    async def guarded(host: str) -> Addresses:
        raise PermissionError(errno.EACCES, "a public name with a private address")

    async with (
        answering() as (port, methods),
        session_with(resolver=Names(guarded)) as session,
        client_to(f"http://institute.example:{port}", session=session, retry=THRICE) as client,
    ):
        await failure(client, tp.ConnectionFailed)
        assert methods == []


# --- ports -------------------------------------------------------------------------------------------


@pytest.mark.row(4)
@pytest.mark.parametrize("account", [{}, {"token": None, "username": "admin", "password": "SECRET"}])
async def test_a_refused_connection_is_tried_again(account: dict[str, str]) -> None:
    """A login too: it was surely not sent."""
    clock = AutoClock()
    with closed_port() as port:
        async with client_to(f"http://127.0.0.1:{port}", clock=clock, **account) as client:
            error = await failure(client, tp.ConnectionFailed)
    assert (error.tries, error.permanent, len(clock.slept_s)) == (TRIES, False, TRIES - 1)


class _Opening(AutoClock):
    """Runs *act* in the n-th wait."""

    def __init__(self, waits: int, act: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._waits, self._act = waits, act

    async def sleep(self, duration_s: float) -> None:
        await super().sleep(duration_s)
        if len(self.slept_s) == self._waits:
            await self._act()


@pytest.mark.row(4)
async def test_a_server_that_comes_up_between_tries_is_reached() -> None:
    """One login and one request, after two refused connections."""
    async with contextlib.AsyncExitStack() as stack:
        with closed_port() as port:
            pass
        servers: list[list[str]] = []

        async def open_it() -> None:
            servers.append((await stack.enter_async_context(answering(port=port)))[1])

        async with client_to(
            f"http://127.0.0.1:{port}",
            clock=_Opening(2, open_it),
            token=None,
            username="admin",
            password="SECRET",
        ) as client:
            assert await ask(client) == IDS
        assert servers == [["POST", "GET"]]


@pytest.mark.row(4)
async def test_a_post_that_was_refused_a_connection_is_sent_again() -> None:
    """Even one that must not be repeated: no byte of it ever left."""
    with closed_port() as port:
        transport = Transport(
            f"http://127.0.0.1:{port}", Timeouts(), SystemClock(), max_connections=1, max_body_bytes=1
        )
        transport.open()
        retry = Retry(RetryPolicy(), RetryQuota(500), AutoClock(), lambda: 0.0)
        try:
            with pytest.raises(tp.ConnectionFailed) as caught:
                await retry(Request(target="/", method="POST", repeatable=False), transport)
        finally:
            await transport.close()
    assert caught.value.tries == TRIES


@pytest.mark.row(5)
async def test_a_port_that_swallows_connections_runs_into_the_connect_limit() -> None:
    """Nothing was sent; tried again a few times."""
    with black_hole() as port:
        async with client_to(f"http://127.0.0.1:{port}", timeouts=HASTY, retry=THRICE) as client:
            error = await failure(client, tp.TimedOut)
    assert (error.limit, error.sent, error.tries) == ("connect_s", False, 3)


@pytest.mark.row(6)
@pytest.mark.parametrize("end", [End.RST, End.FIN])
async def test_a_connection_that_ends_at_once_is_made_anew(institute: Sandbox, end: End) -> None:
    """Two are broken on accept, the third serves; the institute sees one request."""
    token = institute.token()
    async with (
        FaultProxy(institute.url, [Fault(on_accept=end)] * 2) as proxy,
        client_to(proxy.origin, token=token) as client,
    ):
        assert len(await client.attempts.list()) > 0
        assert (proxy.connections, len(institute.log), client.requests_sent) == (3, 1, 3)


@pytest.mark.row(6)
async def test_a_port_that_resets_every_connection_is_given_up() -> None:
    """After all tries, with a typed error."""
    async with FaultProxy(faults=[Fault(on_accept=End.RST)] * 9) as proxy, client_to(proxy.origin) as client:
        error = await failure(client, tp.AnswerLost)
        assert (error.tries, error.permanent, proxy.connections) == (TRIES, False, TRIES)


@asynccontextmanager
async def one_family(dead: str, how: str) -> AsyncIterator[int]:
    """A port that answers in one address family and is refused or swallowed in the other."""
    async with contextlib.AsyncExitStack() as stack:
        port, _ = await stack.enter_async_context(answering("::1" if dead == "127.0.0.1" else "127.0.0.1"))
        if how == "swallowed":
            stack.enter_context(black_hole(port))
        yield port


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.row(7)
@pytest.mark.skipif(not has_ipv6(), reason="needs an IPv6 loopback")
@pytest.mark.parametrize(
    ("dead", "how"), [("127.0.0.1", "refused"), ("::1", "refused"), ("127.0.0.1", "swallowed")]
)
async def test_one_dead_address_family_does_not_stop_the_other(dead: str, how: str) -> None:
    """Both addresses are known, the dead one first; one try is enough."""
    both = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    both.sort(key=lambda pair: pair[1] != dead)

    async def resolve(host: str) -> Addresses:
        return both

    async with (
        one_family(dead, how) as port,
        session_with(resolver=Names(resolve)) as session,
        client_to(f"http://institute.example:{port}", session=session, retry=THRICE) as client,
    ):
        assert await ask(client) == IDS
        assert client.requests_sent == 1


# --- kept connections and the pool -------------------------------------------------------------------


@pytest.mark.row(8)
@pytest.mark.parametrize("end", [End.RST, End.FIN])
async def test_a_kept_connection_that_dies_costs_one_counted_try(end: End) -> None:
    """The request was read and not answered: it is repeated by us, where limiter and budget see it."""
    clock = AutoClock()
    dying = Fault(script=[Read.HEAD, ANSWER, Read.HEAD, end])
    whole = Fault(script=[Read.HEAD, ANSWER, End.HOLD])
    async with FaultProxy(faults=[dying, whole]) as proxy, client_to(proxy.origin, clock=clock) as client:
        assert await ask(client) == IDS
        assert await ask(client) == IDS
        assert (proxy.requests, client.requests_sent, proxy.connections) == (3, 3, 2)
        assert len(clock.slept_s) == 1


@pytest.mark.row(8)
async def test_a_kept_connection_that_the_server_has_closed_is_not_used() -> None:
    """Its end is seen before the next request goes out, which then needs no second try."""
    clock = AutoClock()
    once = Fault(script=[Read.HEAD, ANSWER, End.FIN])
    async with FaultProxy(faults=[once, once]) as proxy, client_to(proxy.origin, clock=clock) as client:
        for _ in range(2):
            assert await ask(client) == IDS
            await asyncio.gather(*other_tasks())  # the proxy's side is done
        assert (proxy.requests, proxy.connections, clock.slept_s) == (2, 2, [])


@pytest.mark.row(8)
async def test_a_post_whose_outcome_is_unknown_is_not_repeated() -> None:
    """It arrived on a kept connection that was then reset: nobody knows what it did."""
    dying = Fault(script=[Read.HEAD, ANSWER, Read.HEAD, End.RST])
    async with FaultProxy(faults=[dying]) as proxy:
        transport = Transport(
            proxy.origin, Timeouts(), SystemClock(), max_connections=1, max_body_bytes=1 << 20
        )
        transport.open()
        retry = Retry(RetryPolicy(), RetryQuota(500), AutoClock(), lambda: 0.0)
        try:
            await retry(Request(target="/"), transport)
            with pytest.raises(tp.AnswerLost) as caught:
                await retry(Request(target="/", method="POST", repeatable=False), transport)
        finally:
            await transport.close()
        assert (caught.value.tries, proxy.requests, proxy.connections) == (1, 2, 1)


@pytest.mark.row(9)
async def test_waiting_for_a_connection_out_of_a_lent_pool_ends() -> None:
    """A stalled peer holds the only one: the others fail at the connect limit, unsent."""
    async with (
        RawServer([HOLD]) as server,
        session_with(limit=1) as session,
        client_to(server.origin, session=session, timeouts=HASTY, retry=THRICE) as client,
    ):
        stalled = asyncio.ensure_future(ask(client))
        await server.arrival()
        error = await failure(client, tp.TimedOut)
        assert (error.limit, error.sent, error.tries, len(server.heads)) == ("connect_s", False, 3, 1)
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)


@pytest.mark.row(9)
async def test_waiting_behind_a_stalled_peer_ends_at_the_deadline() -> None:
    """With a pool of our own the wait is at the gate; the pool is free again when the peer is given up."""
    async with (
        RawServer([HOLD], ANSWER) as server,
        client_to(server.origin, max_connections=1, clock=SystemClock()) as client,
    ):
        stalled = asyncio.ensure_future(ask(client))
        await server.arrival()
        error = await failure(client.with_options(timeout_s=0.05), tp.TimedOut)
        assert (error.limit, len(server.heads)) == ("total_s", 1)
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)
        assert await ask(client) == IDS


# --- proxies -----------------------------------------------------------------------------------------


def through(port: int) -> str:
    """Address of a proxy that wants a password."""
    return f"http://proxy-user:password-SECRET@127.0.0.1:{port}"


@pytest.mark.row(10)
@pytest.mark.parametrize("origin", ["http://institute.example", "https://institute.example"])
async def test_a_proxy_that_is_down_is_named(origin: str) -> None:
    """Its address and password are not."""
    with closed_port() as port:
        async with (
            session_with(proxy=through(port)) as session,
            client_to(origin, session=session, retry=THRICE) as client,
        ):
            error = await failure(client, tp.ConnectionFailed)
    assert "the proxy" in str(error)
    assert (error.permanent, error.tries) == (False, 3)


@pytest.mark.row(10)
@pytest.mark.parametrize(
    ("status", "permanent"),
    [("407 Proxy Authentication Required", True), ("403 Forbidden", True), ("503 Unavailable", False)],
)
async def test_a_proxy_that_refuses_the_tunnel_is_named(status: str, permanent: bool) -> None:
    """Nothing was sent to the institute; what a proxy may get over is tried again."""
    refusal = Fault(script=[Read.HEAD, http(b"SECRET", status=status), End.FIN])
    async with (
        FaultProxy(faults=[refusal] * 3) as proxy,
        session_with(proxy=through(proxy.port)) as session,
        client_to("https://institute.example", session=session, retry=THRICE) as client,
    ):
        error = await failure(client, tp.ConnectionFailed)
        assert f"the tunnel with status {status[:3]}" in str(error)
        assert (error.permanent, error.tries) == (permanent, 1 if permanent else 3)
        assert proxy.connections == error.tries
        assert all(head.startswith(b"CONNECT institute.example:443 ") for head in proxy.received)


@pytest.mark.row(10)
async def test_a_proxy_that_wants_a_password_for_plain_http_is_a_refusal() -> None:
    """407 is an answer like any other 4xx: final."""
    refusal = Fault(script=[Read.HEAD, http(b"{}", status="407 Proxy Authentication Required"), End.FIN])
    async with (
        FaultProxy(faults=[refusal]) as proxy,
        session_with(proxy=through(proxy.port)) as session,
        client_to("http://institute.example", session=session) as client,
    ):
        error = await failure(client, tp.BadRequest)
        assert (error.status, error.tries, proxy.connections) == (407, 1, 1)


@pytest.mark.row(10)
@pytest.mark.parametrize(
    ("end", "kind"), [(End.RST, tp.AnswerLost), (End.FIN, tp.AnswerLost), (End.HOLD, tp.TimedOut)]
)
async def test_a_proxy_that_breaks_the_tunnel_is_given_up(end: End, kind: type[tp.Error]) -> None:
    """Reset, closed or silent after CONNECT: bounded tries, and the token never left."""
    async with (
        FaultProxy(faults=[Fault(script=[Read.HEAD, end])] * 9) as proxy,
        session_with(proxy=through(proxy.port)) as session,
        client_to("https://institute.example", session=session, retry=THRICE, timeouts=HASTY) as client,
    ):
        assert (await failure(client, kind)).tries == 3
        assert not any(b"Authorization: JWT" in each for each in proxy.received)


# --- TLS ---------------------------------------------------------------------------------------------


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    return tls


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    return tls


@pytest.mark.row(11)
@pytest.mark.parametrize(
    ("fault", "said"),
    [("expired", "has expired"), ("other host", "not valid for"), ("unknown", "unable to get local issuer")],
)
async def test_a_certificate_that_proves_nothing_is_final(fault: str, said: str) -> None:
    """Named, asked for once, nothing sent, and never tried without TLS."""
    authority, clock = trustme.CA(), AutoClock()
    certificate = authority.issue_cert(
        "127.0.0.2" if fault == "other host" else "127.0.0.1",
        not_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_after=datetime(2021, 1, 1, tzinfo=UTC) if fault == "expired" else None,
    )
    trusted = trusting(trustme.CA() if fault == "unknown" else authority)
    async with (
        RawServer(ANSWER, tls=server_side(certificate)) as server,
        session_with(ssl=trusted) as session,
        client_to(server.origin, session=session, clock=clock) as client,
    ):
        error = await failure(client, tp.ConnectionFailed)
        assert said in str(error)
        assert (error.permanent, error.tries, clock.slept_s) == (True, 1, [])
        assert server.heads == []


@pytest.mark.row(11)
async def test_the_clients_own_session_trusts_no_unknown_authority() -> None:
    """The checks are on without anybody's doing."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    async with (
        RawServer(ANSWER, tls=server_side(certificate)) as server,
        client_to(server.origin) as client,
    ):
        assert (await failure(client, tp.ConnectionFailed)).permanent
        assert (client.requests_sent, server.heads) == (1, [])


@pytest.mark.row(11)
async def test_a_certificate_that_proves_the_host_is_taken() -> None:
    """The same servers with nothing wrong answer: the tests above fail for their own reason."""
    authority = trustme.CA()
    async with (
        RawServer(ANSWER, tls=server_side(authority.issue_cert("127.0.0.1"))) as server,
        session_with(ssl=trusting(authority)) as session,
        client_to(server.origin, session=session) as client,
    ):
        assert await ask(client) == IDS


@pytest.mark.row(12)
async def test_a_handshake_that_stalls_runs_into_the_connect_limit() -> None:
    """The server accepts and says nothing: nothing of the request was sent."""
    async with (
        FaultProxy(faults=[Fault(on_accept=End.HOLD)] * 3) as proxy,
        client_to(f"https://127.0.0.1:{proxy.port}", timeouts=HASTY, retry=THRICE) as client,
    ):
        error = await failure(client, tp.TimedOut)
        assert (error.limit, error.sent, error.tries, proxy.connections) == ("connect_s", False, 3, 3)


@pytest.mark.row(13)
async def test_https_to_a_plain_port_is_final() -> None:
    """The handshake cannot work later either; the error asks about the port."""
    script = Fault(script=[b"HTTP/1.1 400 Bad Request\r\n\r\n", End.FIN])
    async with (
        FaultProxy(faults=[script] * 9) as proxy,
        client_to(f"https://127.0.0.1:{proxy.port}") as client,
    ):
        error = await failure(client, tp.ConnectionFailed)
        assert "https port?" in str(error)
        assert (error.permanent, error.tries, proxy.connections) == (True, 1, 1)


@pytest.mark.row(13)
async def test_plain_http_to_a_tls_port_is_given_up() -> None:
    """Typed, after bounded tries."""
    tls = server_side(trustme.CA().issue_cert("127.0.0.1"))
    async with RawServer(ANSWER, tls=tls) as server, client_to(f"http://127.0.0.1:{server.port}") as client:
        assert (await failure(client, tp.AnswerLost)).tries <= TRIES
        assert server.heads == []
