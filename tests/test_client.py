"""`Client`: made anywhere, opened once, cloned cheaply; its secrets stay inside."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import aiohttp
import pytest

import testpress_async as tp
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.support.pages import ORIGIN, Pages, book

SECRET = "s3cret"


# --- making one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://institute.testpress.in", "https://institute.testpress.in"),
        ("https://institute.testpress.in/", "https://institute.testpress.in"),
        ("https://Learn.Own-Domain.com:8443", "https://learn.own-domain.com:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
    ],
)
def test_usable_addresses(given: str, origin: str) -> None:
    """Scheme and host, own domains too; plain http to this machine only. No loop is needed."""
    assert tp.Client(given, token="t").base_url == origin


@pytest.mark.parametrize(
    "given",
    [
        "",
        "institute.testpress.in",
        "ftp://institute.testpress.in",
        "https://",
        "http://institute.testpress.in",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        f"https://admin:{SECRET}@institute.testpress.in",
        "https://institute.testpress.in/api/v2.5/",
        "https://institute.testpress.in?x=1",
        "https://institute.testpress.in#x",
        "https://institute.testpress.in:99999",
        "https://[broken",
        "https://a b.example",
    ],
)
def test_unusable_addresses(given: str) -> None:
    """A token must not go there; the error repeats no password."""
    with pytest.raises(tp.ConfigError) as caught:
        tp.Client(given, token="t")
    assert caught.value.parameter == "base_url"
    assert SECRET not in str(caught.value)


def test_plain_http_can_be_allowed() -> None:
    """For whoever knows the network."""
    assert tp.Client("http://testpress.lan", token="t", allow_http=True).base_url == "http://testpress.lan"


async def provider() -> str:
    return "t"


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({}, "token"),
        ({"username": "admin"}, "password"),
        ({"password": SECRET}, "username"),
        ({"token": f"{SECRET}\r\nX-Evil: 1"}, "token"),
        ({"token": ""}, "token"),
        ({"username": "a", "password": SECRET, "token_provider": provider}, "token_provider"),
        ({"token": "t", "max_connections": 0}, "max_connections"),
        ({"token": "t", "max_body_bytes": 0}, "max_body_bytes"),
    ],
)
def test_unusable_parameters_are_named(given: dict[str, Any], parameter: str) -> None:
    """Before anything is sent, and without a secret in the text."""
    with pytest.raises(tp.ConfigError) as caught:
        tp.Client(ORIGIN, **given)
    assert caught.value.parameter == parameter
    assert SECRET not in f"{caught.value!r}"


async def test_a_client_can_be_made_from_the_environment(institute: Sandbox) -> None:
    """By password or by token; other options pass through."""
    by_password = {
        "TESTPRESS_BASE_URL": institute.url,
        "TESTPRESS_USERNAME": institute.username,
        "TESTPRESS_PASSWORD": institute.password,
    }
    by_token = {"TESTPRESS_BASE_URL": institute.url, "TESTPRESS_TOKEN": institute.token()}
    for environ in (by_password, by_token):
        async with tp.Client.from_env(environ, max_connections=2) as client:
            assert await client.courses.list().count() == 3
    assert [seen.method for seen in institute.log] == ["POST", "GET", "GET"]


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, "TESTPRESS_BASE_URL"),
        ({"TESTPRESS_BASE_URL": "", "TESTPRESS_TOKEN": "t"}, "TESTPRESS_BASE_URL"),
        ({"TESTPRESS_BASE_URL": ORIGIN}, "TESTPRESS_TOKEN"),
        ({"TESTPRESS_BASE_URL": ORIGIN, "TESTPRESS_USERNAME": "admin"}, "TESTPRESS_TOKEN"),
    ],
)
def test_a_missing_variable_is_named(environ: dict[str, str], missing: str) -> None:
    """What to set, in the error."""
    with pytest.raises(tp.ConfigError, match="is not set") as caught:
        tp.Client.from_env(environ)
    assert caught.value.parameter == missing


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server."""
    monkeypatch.setenv("TESTPRESS_BASE_URL", ORIGIN)
    monkeypatch.setenv("TESTPRESS_TOKEN", "t")
    assert tp.Client.from_env().base_url == ORIGIN


def test_the_repr_shows_no_secret() -> None:
    """It ends up in logs."""
    client = tp.Client(ORIGIN, token=SECRET, username="admin", password=SECRET)
    assert repr(client) == f"Client({ORIGIN!r})"


# --- tokens --------------------------------------------------------------------------------------------


async def test_a_token_provider_is_asked_again_when_its_token_is_refused(institute: Sandbox) -> None:
    """Not before."""
    handed_out = list[str]()

    async def fresh() -> str:
        handed_out.append(institute.token())
        return handed_out[-1]

    async with tp.Client(institute.url, token_provider=fresh) as client:
        for _ in range(3):
            await client.courses.list().count()
        assert len(handed_out) == 1


async def test_a_given_token_comes_before_the_login(institute: Sandbox) -> None:
    """With both, the password waits until the token is refused."""
    async with tp.Client(
        institute.url, token=institute.token(), username=institute.username, password=institute.password
    ) as client:
        await client.courses.list().count()
        assert [seen.method for seen in institute.log] == ["GET"]
        institute.script(Fault(path="/api/v2.5/admin/", status=401))
        await client.courses.list().count()
    assert Counter(seen.method for seen in institute.log) == {"GET": 3, "POST": 1}


# --- opening and closing -------------------------------------------------------------------------------


async def test_use_outside_the_block_is_named() -> None:
    """Before it, after it, entered twice."""
    pages = Pages(book([1]))
    client = pages.client()
    with pytest.raises(tp.ConfigError, match="is not open"):
        await client.attempts.list()
    async with client:
        with pytest.raises(tp.ConfigError, match="already open"):
            await client.__aenter__()
    with pytest.raises(tp.ConfigError, match="is closed"):
        await client.attempts.list()
    with pytest.raises(tp.ConfigError, match="is closed"):
        await client.__aenter__()
    assert pages.asked == []


async def test_closing_twice_does_no_harm() -> None:
    """Also before it was ever opened."""
    client = tp.Client(ORIGIN, token="t")
    async with client:
        await client.aclose()
    await client.aclose()
    await tp.Client(ORIGIN, token="t").aclose()


async def test_a_borrowed_session_is_never_closed(institute: Sandbox) -> None:
    """Its owner closes it."""
    async with aiohttp.ClientSession() as session:
        async with tp.Client(institute.url, token=institute.token(), session=session) as client:
            assert await client.courses.list().count() == 3
        assert not session.closed


def test_a_client_belongs_to_one_loop() -> None:
    """Use from another loop is named instead of hanging."""
    client = Pages(book([1])).client()

    async def use() -> None:
        await client.attempts.list()

    first = asyncio.new_event_loop()
    try:
        first.run_until_complete(client.__aenter__())
        with pytest.raises(tp.ConfigError, match="another event loop"):
            asyncio.run(use())
        first.run_until_complete(client.aclose())
    finally:
        first.close()


# --- clones --------------------------------------------------------------------------------------------


async def test_a_clone_shares_the_login_and_cannot_be_opened_or_closed(
    institute: Sandbox, client: tp.Client
) -> None:
    """One session for all; who opened it closes it."""
    clone = client.with_options(timeout_s=30, priority="interactive", max_wait_s=1)
    assert await client.courses.list().count() == await clone.courses.list().count() == 3
    assert Counter(seen.method for seen in institute.log) == {"POST": 1, "GET": 2}
    for use in (clone.__aenter__, clone.aclose):
        with pytest.raises(tp.ConfigError, match="is a clone"):
            await use()


async def test_options_reach_every_request_and_add_up() -> None:
    """A clone of a clone keeps what it does not change; the original keeps its own."""
    seen = list[tuple[object, ...]]()

    async def look(request: tp.Request, handler: tp.Handler) -> tp.Response:
        seen.append((request.timeout_s, request.lane, request.max_wait_s))
        return await pages(request, handler)

    pages = Pages(book([1]))
    async with tp.Client(ORIGIN, token="t", middleware=[look]) as client:
        first = client.with_options(timeout_s=9, priority="interactive")
        for each in (client, first, first.with_options(max_wait_s=2)):
            await each.attempts.list()
    assert seen == [(None, "bulk", None), (9, "interactive", None), (9, "interactive", 2)]


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"max_wait_s": -1}, "max_wait_s"),
        ({"max_wait_s": float("nan")}, "max_wait_s"),
        ({"priority": "high"}, "priority"),
    ],
)
def test_unusable_options_are_named(options: dict[str, Any], parameter: str) -> None:
    """At once."""
    with pytest.raises(tp.ConfigError) as caught:
        tp.Client(ORIGIN, token="t").with_options(**options)
    assert caught.value.parameter == parameter


async def test_a_deadline_ends_a_call_that_hangs(institute: Sandbox, client: tp.Client) -> None:
    """In the middle of a try, and the client stays usable."""
    await client.courses.list().count()
    institute.script(Fault(path="/api/v2.5/admin/courses/", hold=asyncio.Event()))
    with pytest.raises(tp.TimedOut) as caught:
        await client.with_options(timeout_s=0.05).courses.list()
    assert (caught.value.limit, caught.value.value) == ("total_s", 0.05)
    assert await client.courses.list().count() == 3


# --- middleware and events -----------------------------------------------------------------------------


async def test_a_middleware_of_the_user_sees_every_try(institute: Sandbox) -> None:
    """Login and repeated tries included."""
    seen = list[tuple[str, int]]()

    async def look(request: tp.Request, handler: tp.Handler) -> tp.Response:
        response = await handler(request)
        seen.append((request.method, response.status))
        return response

    institute.script(Fault(path="/api/v2.5/admin/", status=503, times=2))
    async with tp.Client(
        institute.url,
        username=institute.username,
        password=institute.password,
        middleware=[look],
        retry=tp.RetryPolicy(first_s=0.001),
    ) as client:
        await client.courses.list().count()
    assert seen == [("POST", 200), ("GET", 503), ("GET", 503), ("GET", 200)]


async def test_events_come_in_order_and_hold_no_secret(institute: Sandbox) -> None:
    """The facts of one call, from its start to the page."""
    events = list[tp.Event]()
    institute.script(Fault(path="/api/v2.5/admin/", status=503))
    async with tp.Client(
        institute.url,
        username=institute.username,
        password=institute.password,
        on_event=events.append,
        retry=tp.RetryPolicy(first_s=0.001),
    ) as client:
        await client.users.list(q="asha")
    kinds = [type(event) for event in events]
    assert kinds == [tp.RequestStarted, tp.LoggedIn, tp.TryFailed, tp.RequestFinished, tp.PageRead]
    assert "asha" not in repr(events)
    assert institute.password not in repr(events)
    finished = events[3]
    assert isinstance(finished, tp.RequestFinished)
    assert (finished.status, finished.error) == (200, None)
    assert finished.body_bytes > 0


async def test_a_failed_call_finishes_with_its_error() -> None:
    """By the name of its class."""
    events = list[tp.Event]()
    async with Pages({}).client(on_event=events.append) as client:
        with pytest.raises(tp.NotFound):
            await client.attempts.list()
    finished = events[-1]
    assert isinstance(finished, tp.RequestFinished)
    assert (finished.status, finished.error) == (404, "NotFound")


async def test_an_observer_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the request goes on."""

    def broken(event: tp.Event) -> None:
        raise ValueError("observer")

    with caplog.at_level(logging.ERROR, "testpress_async.events"):
        async with Pages(book([1, 2])).client(on_event=broken) as client:
            assert len(await client.attempts.list()) == 2
    assert "on_event failed on RequestStarted" in caplog.text


async def test_nobody_listens_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events cost nothing without an observer."""

    def refuse(*args: object, **facts: object) -> None:
        raise AssertionError("an event was built")

    for module, name in (
        ("session", "RequestStarted"),
        ("session", "RequestFinished"),
        ("auth", "LoggedIn"),
        ("retry", "TryFailed"),
        ("ratelimit", "RateWaiting"),
        ("ratelimit", "RateWaited"),
        ("ratelimit", "Throttled"),
    ):
        monkeypatch.setattr(f"testpress_async.http.{module}.{name}", refuse)
    monkeypatch.setattr("testpress_async.listing.listing.PageRead", refuse)
    async with Pages(book([1], [2])).client() as client:
        assert [attempt.id async for attempt in client.attempts.list()] == [1, 2]
    async with Pages(book([1])).client(on_event=print) as client:
        with pytest.raises(AssertionError, match="an event was built"):
            await client.attempts.list()


# --- request limits ------------------------------------------------------------------------------------


async def read_thirty_pages(institute: Sandbox, **options: Any) -> Counter[int]:
    """Statuses the institute answered while all its attempts were read."""
    async with tp.Client(institute.url, token=institute.token(), **options) as client:
        found = [attempt.id async for attempt in client.attempts.list().prefetch(8)]
    assert found == institute.truth.ids("attempts")
    return Counter(seen.status for seen in institute.log)


async def test_a_known_limit_is_kept() -> None:
    """The server never has to refuse."""
    async with Sandbox(attempts=300, per_page=10, rate=RateLimit(20, 0.5)) as institute:
        statuses = await read_thirty_pages(institute, rate=tp.RatePolicy(requests=20, per_s=0.5))
    assert statuses == {200: 30}


async def test_an_unknown_limit_is_sat_out() -> None:
    """429 with `Retry-After` pauses everybody; no record is lost."""
    events = list[tp.Event]()
    async with Sandbox(attempts=300, per_page=10, rate=RateLimit(20, 0.5)) as institute:
        statuses = await read_thirty_pages(institute, on_event=events.append)
    assert statuses[200] == 30
    assert statuses[429] >= 1
    throttled = [event for event in events if isinstance(event, tp.Throttled)]
    assert [event.retry_after_s for event in throttled] == [1.0] * statuses[429]


async def test_a_login_path_that_does_not_exist_never_passes_for_the_end_of_a_list() -> None:
    """A 404 of the login in the middle of a listing is a setting to correct, not a last page."""
    async with (
        Sandbox(attempts=60, per_page=5) as institute,
        tp.Client(
            institute.url,
            token=institute.token(),
            username=institute.username,
            password=institute.password,
            login_path="/api/v9/auth-token/",
        ) as client,
    ):
        pages = client.attempts.list().pages()
        assert len(await anext(pages)) == 5
        institute.revoke_tokens()
        with pytest.raises(tp.ConfigError) as caught:
            await anext(pages)
    assert caught.value.parameter == "login_path"


async def test_closing_the_client_ends_an_iteration_with_an_error_not_a_cancellation() -> None:
    """Nobody cancelled the reader, so it must not look as if somebody had."""
    held = asyncio.Event()
    async with Sandbox(attempts=60, per_page=5) as institute:
        client = tp.Client(institute.url, username=institute.username, password=institute.password)
        async with client:
            institute.script(Fault(path="/api/v2.5/admin/attempts/", query="page=3", hold=held))

            async def read() -> None:
                async for _ in client.attempts.list().prefetch(4):
                    pass

            reader = asyncio.ensure_future(read())
            while institute.in_flight != 1 or institute.requests < 5:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0)
        with pytest.raises(tp.ConfigError, match="closed"):
            await reader
        held.set()
