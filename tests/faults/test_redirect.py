"""Rows 56 to 65 of the fault matrix: redirects and `next`, over real sockets.

Every host name leads to this machine, and a second listener stands where each foreign address points: what
is sent there would be seen. It must see nothing at all, neither a credential nor a connection.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import testpress_async as tp
from testpress_async.listing.links import MAX_TOLD, foreign_origin
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock
from tests.support.exporting import ATTEMPTS, export
from tests.support.exporting import opened as sandbox
from tests.support.pages import NO_RETRIES
from tests.support.raw_server import RawServer, Script, http

from .institute import SECRET, Foreign, Loopback, attempts, ids, require_discreet, rows

HOME = "institute.example"
STATUSES = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
PASSWORD = "a-pass" + "word"
TOKEN = "a.token." + "x"
LOGIN: dict[str, Any] = {"username": SECRET, "password": PASSWORD}
GIVEN: dict[str, Any] = {"token": TOKEN}
PATH = "/api/v2.5/admin/attempts/"
LISTING_LOG = "testpress_async.listing"

FOREIGN = [
    "http://elsewhere.example:{port}/api/a/",
    "http://institute.example:{port}/api/a/",
    "http://sub.institute.example:{port}/api/a/",
    "http://institute.example.elsewhere.example:{port}/api/a/",
    "http://127.0.0.1:{port}/api/a/",
    "http://[::1]:{port}/api/a/",
    "https://institute.example:{home}/api/a/",
    "https://elsewhere.example:{port}/api/a/",
    "//elsewhere.example:{port}/api/a/",
    "///elsewhere.example:{port}/api/a/",
    "\\\\elsewhere.example:{port}/api/a/",
    "/\\elsewhere.example:{port}/api/a/",
    "http:\\\\elsewhere.example:{port}/api/a/",
    "http://institute.example:{home}@elsewhere.example:{port}/api/a/",
    "http://user:pw@institute.example:{home}/api/a/",
    "http://elsewhere.example:{port}\\@institute.example:{home}/api/a/",
    "http://elsewhere.example:{port}#@institute.example:{home}/api/a/",
    "http://elsewhere.example:{port}/api/ with spaces/",
    "http://institute.example:{home}/api/ with spaces/",
    "/api/a/?q=with spaces",
    "/api/ä/",
    "/api/\x7f/",
    "http://institute.example:99999999/api/a/",
    "http://[::1/api/a/",
    "file:///etc/passwd",
    "file://elsewhere.example:{port}/api/a/",
    "ftp://elsewhere.example:{port}/api/a/",
    "ftp://institute.example:{home}/api/a/",
    "gopher://elsewhere.example:{port}/1",
    "javascript:alert(1)",
    "data:application/json,[]",
]


@contextlib.asynccontextmanager
async def institute(
    *scripts: Script, keep: bool = False, **options: Any
) -> AsyncGenerator[tuple[RawServer, tp.Client]]:
    """A server of the name HOME, and a client that finds every name on this machine."""
    connector = aiohttp.TCPConnector(resolver=Loopback())
    async with (
        RawServer(*scripts, keep=keep) as server,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        given = {"allow_http": True, "retry": NO_RETRIES, "session": session, "clock": AutoClock(), **options}
        async with tp.Client(f"http://{HOME}:{server.port}", **given) as client:
            yield server, client


def moved(location: str, status: str = "302 Found") -> bytes:
    """A redirect whose body is a page, for those who believe it."""
    return http(rows({"id": 666}), status=status, headers={"Location": location})


# --- to somewhere else (57, 58, 60) ------------------------------------------------------------------


async def test_the_foreign_listener_sees_whoever_follows() -> None:
    """The control: aiohttp itself does go there, with the header it was given."""
    connector = aiohttp.TCPConnector(resolver=Loopback())
    async with Foreign() as foreign, RawServer(moved(f"http://elsewhere.example:{foreign.port}/")) as server:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://{HOME}:{server.port}/", headers={"X-Key": TOKEN}) as answer,
        ):
            assert answer.status == 200
        assert TOKEN.encode() in foreign.received
        with pytest.raises(AssertionError):
            foreign.require_untouched()


@pytest.mark.row(57, 60)
@pytest.mark.parametrize("location", FOREIGN)
@pytest.mark.parametrize("account", [GIVEN, LOGIN], ids=["get", "login"])
async def test_nothing_is_sent_where_a_redirect_points(location: str, account: dict[str, Any]) -> None:
    """Whatever the status and however the address is spelled: an error, and one request to the institute."""
    for status in STATUSES:
        async with Foreign() as foreign:
            script: list[Any] = []
            async with institute(script, **account) as (server, client):
                there = location.format(port=foreign.port, home=server.port)
                script.append(moved(there, status))
                with pytest.raises((tp.ForeignOrigin, tp.AuthenticationFailed)) as caught:
                    await attempts(client)
                assert len(server.heads) == 1
            foreign.require_untouched()
            require_discreet(caught.value, PASSWORD, TOKEN, "with spaces", "user:pw", "passwd")


@pytest.mark.row(57)
@pytest.mark.parametrize("status", STATUSES)
async def test_the_error_names_the_origin_and_what_may_help(status: str) -> None:
    """Scheme, host and port, so that a moved institute can be told from an attack."""
    async with Foreign() as foreign:
        location = f"http://elsewhere.example:{foreign.port}/api/?email={SECRET}"
        async with institute(moved(location, status), **GIVEN) as (_, client):
            with pytest.raises(tp.ForeignOrigin, match="use it as base_url") as caught:
                await attempts(client)
        assert caught.value.location == f"http://elsewhere.example:{foreign.port}"
        require_discreet(caught.value)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Vouches for HOME."""
    return trustme.CA()


@pytest.mark.row(58)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("account", [GIVEN, LOGIN], ids=["get", "login"])
@pytest.mark.parametrize("host", [HOME, "elsewhere.example"])
async def test_https_is_never_left_for_http(
    authority: trustme.CA, status: str, account: dict[str, Any], host: str
) -> None:
    """Not even to the same name: the token would travel readable."""
    tls, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(HOME).configure_cert(tls)
    authority.configure_trust(trusting)
    connector = aiohttp.TCPConnector(resolver=Loopback(), ssl=trusting)
    async with (
        Foreign() as foreign,
        RawServer(moved(f"http://{host}:{foreign.port}/api/", status), tls=tls) as home,
    ):
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            tp.Client(f"https://{HOME}:{home.port}", session=session, retry=NO_RETRIES, **account) as client,
        ):
            with pytest.raises(tp.ForeignOrigin) as caught:
                await attempts(client)
        assert len(home.heads) == 1
        foreign.require_untouched()
    require_discreet(caught.value, PASSWORD, TOKEN)


# --- within the institute (56, 59) -------------------------------------------------------------------


@pytest.mark.row(56)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("hops", [1, 2, 3])
async def test_three_hops_within_the_institute_are_followed(status: str, hops: int) -> None:
    """Absolute or relative; the token goes along, to the same origin."""
    script = [[], [], [], []]
    async with institute(*script, **GIVEN) as (server, client):
        home = f"http://{HOME.upper()}:{server.port}"
        places = [f"{home}/api/a/?page=1", "/api/b/", "../c/?x=%20y"][:hops]
        for piece, place in zip(script, places, strict=False):
            piece.append(moved(place, status))
        script[hops].append(http(rows({"id": 1})))
        assert ids(await attempts(client)) == [1]
        assert server.targets == [PATH, "/api/a/?page=1", "/api/b/", "/api/c/?x=%20y"][: hops + 1]
        assert all(f"\r\nAuthorization: JWT {TOKEN}\r\n".encode() in head for head in server.heads)
        assert all(head.startswith(b"GET ") for head in server.heads)


@pytest.mark.row(56)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("location", ["/api/v2.5/auth-token/", "http://institute.example:{home}/api/x/", ""])
async def test_a_login_is_never_redirected(status: str, location: str) -> None:
    """Not even to the same origin: the password is posted once, where it was meant to go."""
    script: list[Any] = []
    async with institute(script, **LOGIN) as (server, client):
        script.append(moved(location.format(home=server.port), status))
        with pytest.raises(tp.ForeignOrigin, match="A login is never redirected") as caught:
            await attempts(client)
        assert [head.split(b" ")[0] for head in server.heads] == [b"POST"]
    require_discreet(caught.value, PASSWORD)


@pytest.mark.row(59)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("location", [PATH, "", "?page=1"])
async def test_a_circle_ends_after_three_hops(status: str, location: str) -> None:
    """As an error that is not tried again: it would go round as well."""
    async with institute(moved(location, status), retry=tp.RetryPolicy(), **GIVEN) as (server, client):
        with pytest.raises(tp.AnswerLost, match="redirected more than 3 times") as caught:
            await attempts(client)
        assert len(server.heads) == 4
    assert (caught.value.permanent, caught.value.tries) == (True, 1)


@pytest.mark.row(59)
async def test_a_long_chain_ends_after_three_hops() -> None:
    """Fifty different places are not visited."""
    chain = [moved(f"/api/{place}/") for place in range(50)]
    async with institute(*chain, keep=True, **GIVEN) as (server, client):
        with pytest.raises(tp.AnswerLost, match="redirected more than 3 times"):
            await attempts(client)
        assert server.targets == [PATH, "/api/0/", "/api/1/", "/api/2/"]


# --- next (61 to 64) ---------------------------------------------------------------------------------

NEXT = [
    "http://elsewhere.example:{port}{path}?page=2",
    "https://elsewhere.example:{port}{path}?page=2",
    "http://127.0.0.1:{port}{path}?page=2",
    "http://10.0.0.1{path}?page=2",
    "http://169.254.169.254/latest/meta-data/?page=2",
    "//elsewhere.example:{port}{path}?page=2",
    "http://user:pw@elsewhere.example:{port}{path}?page=2",
    "http://institute.example@elsewhere.example:{port}/?page=2",
    "\\\\elsewhere.example:{port}\\?page=2",
    "file:///etc/passwd?page=2",
    "ftp://elsewhere.example:{port}/?page=2",
    "javascript:alert(1)?page=2",
    "/../../auth-token/?page=2",
    "?page=2&exams=9&ordering=id&token=1",
    "{path}?exams=9&page=2#?page=7",
]


@pytest.mark.row(61, 63)
@pytest.mark.parametrize("link", NEXT)
@pytest.mark.parametrize("window", [1, 4])
async def test_only_the_page_number_of_next_is_used(link: str, window: int) -> None:
    """Page 2 is asked for at the institute, with our own path and filters, wherever the link points."""
    async with Foreign() as foreign:
        there = link.format(port=foreign.port, path=PATH)
        pages = http(rows({"id": 1}, next=there, count=2)), http(rows({"id": 2}, count=2))
        async with institute(*pages, keep=True, **GIVEN) as (server, client):
            listing = client.attempts.list(exams=5, ordering="date")
            assert ids([record async for record in listing.prefetch(window)]) == [1, 2]
            assert server.targets == [f"{PATH}?exams=5&ordering=date", f"{PATH}?exams=5&ordering=date&page=2"]
        foreign.require_untouched()


# what the log is told of each of NEXT; None: it leads home
TOLD = [
    "http://elsewhere.example:{port}",
    "https://elsewhere.example:{port}",
    "http://127.0.0.1:{port}",
    "http://10.0.0.1:80",
    "http://169.254.169.254:80",
    "http://elsewhere.example:{port}",
    *["an unusable address"] * 6,
    *[None] * 3,
]


@pytest.mark.row(61)
@pytest.mark.parametrize(
    ("link", "told"),
    [
        *zip(NEXT, TOLD, strict=True),
        ("https://institute.example:{home}{path}?page=2", "https://institute.example:{home}"),
        ("http://institute.example:1{path}?page=2", "http://institute.example:1"),
        ("http://institute.example{path}?page=2", "http://institute.example:80"),
        ("http://institute.example:{home}.elsewhere.example/?page=2", "an unusable address"),
        ("http://[::1]:{port}/?page=2", "http://[::1]:{port}"),
        ("http://a\x1bc.example/?page=2", "an unusable address"),
        ("http://INSTITUTE.example:{home}{path}?q=//elsewhere.example&page=2", None),
        ("http://institute.example:{home}?page=2", None),
        ("//institute.example:{home}{path}?page=2", None),
        ("//institute.example:{home}{path}?q=a\\b&page=2", None),
    ],
)
async def test_the_log_is_told_once_where_next_leads_away(
    caplog: pytest.LogCaptureFixture, link: str, told: str | None
) -> None:
    """Scheme, host and port; not the rest of the address, which repeats the filters. At home: nothing."""

    def there(text: str, page: int) -> str:
        text = text.replace("page=2", f"page={page}&email={SECRET}")
        return text.format(port=1234, home=server.port, path=PATH)

    script: list[list[Any]] = [[], [], []]
    async with institute(*script, **GIVEN, keep=True) as (server, client):
        script[0].append(http(rows({"id": 1}, next=there(link, 2), count=3)))
        script[1].append(http(rows({"id": 2}, next=there(link, 3), count=3)))
        script[2].append(http(rows({"id": 3}, count=3)))
        assert ids(await attempts(client)) == [1, 2, 3]
        texts = [record.getMessage() for record in caplog.records if record.name == LISTING_LOG]
        if told is None:
            assert texts == []
        else:
            assert [(record.levelname, record.name) for record in caplog.records] == [
                ("WARNING", LISTING_LOG)
            ]
            assert f" attempts points to {there(told, 0)}, not " in texts[0]
        assert SECRET not in caplog.text
        assert "\x1b" not in caplog.text


@pytest.mark.row(61)
@given(st.text() | st.from_regex(r"\A(https?:)?//[^/]*/.*\Z"))
def test_whatever_next_is_the_log_stays_readable(link: str) -> None:
    """No address is too broken to be told of, and none brings more than an origin into the log."""
    told = foreign_origin(f"https://{HOME}", link)
    assert told in (None, "an unusable address") or re.fullmatch(
        r"https?://[\w.:\[\]-]{1,270}", told, re.ASCII
    )


@pytest.mark.row(61)
async def test_the_log_is_told_once_of_a_list_however_often_it_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of each list and each place, and for a client with its clones; raw or not, page by page or at once."""
    elsewhere = [f"http://{host}.example/?page=2" for host in ("a", "a", "a", "b", "a", "a")]
    pages = [http(rows({"id": 1}, next=there)) for there in elsewhere]
    async with institute(*pages, keep=True, **GIVEN) as (_, client):
        listing = client.attempts.list()
        await listing
        await listing.raw_page(1)
        await client.with_options(timeout_s=3).attempts.list(exams=5)
        await listing  # leads to b
        await client.exams.list()
        await client.exams.list()
    told = [record.args for record in caplog.records if record.name == LISTING_LOG]
    a, b = "http://a.example:80", "http://b.example:80"
    assert told == [("attempts", a), ("attempts", b), ("exams", a)]


@pytest.mark.row(61)
async def test_a_server_that_names_ever_more_places_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After some of them the log knows."""
    pages = [http(rows({"id": n}, next=f"http://h{n}.example/?page={n + 1}")) for n in range(1, 100)]
    async with institute(*pages, http(rows({"id": 100})), keep=True, **GIVEN) as (_, client):
        assert len(await attempts(client)) == 100
    assert len([record for record in caplog.records if record.name == LISTING_LOG]) == MAX_TOLD


@pytest.mark.row(61)
async def test_a_log_that_fails_does_not_end_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only told must not cost a record."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger(LISTING_LOG), "handlers", [Broken()])
    pages = http(rows({"id": 1}, next="http://elsewhere.example/?page=2")), http(rows({"id": 2}))
    async with institute(*pages, keep=True, **GIVEN) as (_, client):
        assert ids(await attempts(client)) == [1, 2]


WRONG_NEXT = {
    "itself": (1, "?page=1"),
    "past a page": (1, "?page=3"),
    "far away": (1, "?page=999999999"),
    "zero": (1, "?page=0"),
    "itself, later": (2, "?page=2"),
    "back to the beginning": (2, "?page=1"),
}


@pytest.mark.row(62, 63)
@pytest.mark.parametrize(("at", "link"), WRONG_NEXT.values(), ids=WRONG_NEXT.keys())
@pytest.mark.parametrize("window", [1, 4])
async def test_next_leads_to_the_very_next_page_or_is_refused(at: int, link: str, window: int) -> None:
    """A circle is not read for ever, and no page is left out."""
    first = rows({"id": 1}, next=f"http://x{link}" if at == 1 else "http://x/?page=2")
    pages = http(first), http(rows({"id": 2}, next=f"http://x{link}"))
    async with institute(*pages, keep=True, **GIVEN) as (server, client):
        with pytest.raises(tp.ListingChanged, match=f"expected {at + 1}") as caught:
            await client.attempts.list().collect(window=window)
        assert caught.value.page == at
        assert len(server.heads) == at


@pytest.mark.row(62)
@pytest.mark.parametrize(
    "link", ["?cursor=abc", "?page=", "?page=-2", "?page=٢", "?page=2x", "x", "?page=1234567890"]
)
async def test_next_without_a_plain_page_number_is_refused(link: str) -> None:
    """It is not guessed at, and not repeated: it may hold the filters."""
    body = rows({"id": 1}, next=f"http://x/?email={SECRET}" + link.replace("?", "&"))
    async with institute(http(body), **GIVEN) as (_, client):
        with pytest.raises(tp.DecodeFailed) as caught:
            await attempts(client)
    assert caught.value.path == "$.next"
    require_discreet(caught.value)


@pytest.mark.row(62)
@pytest.mark.parametrize("window", [1, 4])
async def test_a_server_that_ignores_the_page_is_noticed(window: int) -> None:
    """The same records under each number are no listing."""
    pages = [http(rows({"id": 1}, {"id": 2}, next=f"/?page={n}", count=20, per_page=2)) for n in range(2, 9)]
    async with institute(*pages, keep=True, **GIVEN) as (_, client):
        with pytest.raises(tp.ListingChanged, match="same page came twice"):
            await client.attempts.list().collect(window=window)


@pytest.mark.row(63)
async def test_filters_hold_on_every_page_of_a_server_that_forgets_them() -> None:
    """The documentation's own example has a `next` without them."""
    async with sandbox(next_keeps_filters=False, per_page=5) as (there, client):
        found = [attempt async for attempt in client.attempts.list(exams=1)]
        queries = [dict(parse_qsl(seen.query)) for seen in there.log if seen.path == ATTEMPTS]
    assert len(queries) > 1
    assert all(query.get("exams") == "1" for query in queries)
    assert {attempt.exam_id for attempt in found} == {1}


@pytest.mark.row(64)
@pytest.mark.parametrize("window", [1, 4])
async def test_an_empty_page_with_a_next_is_not_the_end(window: int) -> None:
    """Records were deleted, or a proxy was clever: only a missing `next` ends a list."""
    pages = (
        http(rows({"id": 1}, next="/?page=2", count=4)),
        http(rows(next="/?page=3", count=4)),
        http(rows({"id": 2}, count=4)),
    )
    async with institute(*pages, keep=True, **GIVEN) as (_, client):
        assert ids(await client.attempts.list().collect(window=window)) == [1, 2]


@pytest.mark.row(64)
async def test_an_end_that_comes_too_early_shows_in_the_count() -> None:
    """A list ends where the server ends it; that more was counted is there to be seen."""
    async with institute(http(rows({"id": 1}, count=400, per_page=200)), **GIVEN) as (_, client):
        page = await client.attempts.list()
    assert (page.is_last, page.count, len(page)) == (True, 400, 1)


@pytest.mark.row(64)
@pytest.mark.parametrize(
    "pages",
    [
        [rows({"id": 1}, count=400, per_page=200)],
        [rows({"id": 1}, next="/?page=2", count=3), rows(count=3)],
    ],
    ids=["ends early", "ends on an empty page"],
)
async def test_an_export_does_not_take_a_list_that_ends_early_for_complete(
    tmp_path: Path, pages: list[bytes]
) -> None:
    """It is reported as unproven; what came is kept."""
    async with sandbox() as (there, client):
        serve(there, pages)
        report = await export(client, tmp_path, "attempts")
    assert report.unproven == ("attempts",)
    assert {json.loads(line)["id"] for line in (tmp_path / "attempts.jsonl").read_text().splitlines()} == {1}


def serve(there: Sandbox, pages: list[bytes]) -> None:
    """Let the sandbox answer page n with the n-th of *pages*, however often it is asked."""
    for number, body in reversed(list(enumerate(pages, 1))):
        query = f"page={number}" if number > 1 else ""
        there.script(Fault(path=ATTEMPTS, query=query, status=200, body=body, times=None))
