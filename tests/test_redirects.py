"""Redirects stay on the institute's origin; nothing is sent anywhere else."""

from __future__ import annotations

import pytest

from testpress_async.errors import AnswerLost, AuthenticationFailed, ForeignOrigin
from testpress_async.http.clock import SystemClock
from testpress_async.http.message import Request
from testpress_async.http.policy import Timeouts
from testpress_async.http.redirects import Redirects, origin_of
from testpress_async.http.transport import Transport
from tests.support.handlers import Scripted, reply
from tests.support.raw_server import RawServer, http

HOME = "https://institute.example"
GET = Request(target="/api/v2.5/admin/attempts", headers={"Authorization": "JWT secret"})
OK = reply()


def moved(location: str | None, status: int = 302):
    return reply(status, b"", {} if location is None else {"Location": location})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "/api/v2.5/admin/attempts/?page=2",
        "https://institute.example/api/v2.5/admin/attempts/?page=2",
        "HTTPS://INSTITUTE.example:443/api/v2.5/admin/attempts/?page=2#top",
        "//institute.example/api/v2.5/admin/attempts/?page=2",
        " attempts/?page=2 ",
    ],
)
async def test_a_redirect_within_the_institute_is_followed(status: int, location: str) -> None:
    """Same scheme, host and port, however spelled: the request goes there, headers and all."""
    handler = Scripted([moved(location, status), OK])
    assert await Redirects(HOME)(GET, handler) is OK
    assert handler.targets == [GET.target, "/api/v2.5/admin/attempts/?page=2"]
    assert handler.requests[1].headers == GET.headers


async def test_a_redirect_without_query_is_followed_to_the_bare_path() -> None:
    """Nothing is added to where the server points."""
    handler = Scripted([moved("/api/b/"), OK])
    await Redirects(HOME)(Request(target="/api/a/?page=2"), handler)
    assert handler.targets[1] == "/api/b/"


@pytest.mark.parametrize("status", [300, 304, 305])
async def test_other_3xx_are_not_redirects(status: int) -> None:
    """They are handed up as they are."""
    answer = moved("/api/b/", status)
    assert await Redirects(HOME)(GET, Scripted([answer])) is answer


async def test_three_hops_are_followed_and_no_more() -> None:
    """A circle ends, as an error that no retry repeats."""
    handler = Scripted([moved("/api/a/")] * 3 + [OK])
    assert await Redirects(HOME)(GET, handler) is OK
    handler = Scripted(default=moved("/api/a/"))
    with pytest.raises(AnswerLost, match="more than 3 times") as caught:
        await Redirects(HOME)(GET, handler)
    assert caught.value.permanent
    assert len(handler.requests) == 4


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://evil.example/api/a/", "https://evil.example:443"),
        ("http://institute.example/api/a/", "http://institute.example:80"),
        ("https://institute.example:8443/api/a/", "https://institute.example:8443"),
        ("https://institute.example.evil.example/api/", "https://institute.example.evil.example:443"),
        ("//evil.example/api/a/", "https://evil.example:443"),
        ("https://institute.example@evil.example/api/a/", "an unusable address"),
        ("https://user:pw@institute.example/api/a/", "an unusable address"),
        ("https://evil.example\\@institute.example/api/a/", "an unusable address"),
        ("\\\\evil.example/api/a/", "an unusable address"),
        ("https:\\\\evil.example/api/", "an unusable address"),
        ("ftp://institute.example/api/a/", "an unusable address"),
        ("javascript:alert(1)", "an unusable address"),
        ("https://institute.example:99999/api/", "an unusable address"),
        ("https://[half/api/", "an unusable address"),
    ],
)
async def test_a_redirect_elsewhere_is_named_not_followed(location: str, shown: str) -> None:
    """The error names the origin, never userinfo or the rest of the address."""
    handler = Scripted([moved(location)])
    with pytest.raises(ForeignOrigin) as caught:
        await Redirects(HOME)(GET, handler)
    assert caught.value.location == shown
    assert len(handler.requests) == 1
    assert "pw" not in str(caught.value)
    assert ("use it as base_url" in str(caught.value)) == (shown != "an unusable address")


@pytest.mark.parametrize("location", ["/api/v2.5/auth-token/", "https://evil.example/api/", ""])
async def test_a_post_is_never_followed(location: str) -> None:
    """A login's password goes where it was configured to go and nowhere else."""
    handler = Scripted([moved(location)])
    with pytest.raises(ForeignOrigin, match="login is never redirected"):
        await Redirects(HOME)(Request(target="/api/v2.5/auth-token/", method="POST"), handler)
    assert len(handler.requests) == 1


@pytest.mark.parametrize(
    "location", ["/login/?next=/api/a/", "https://institute.example/accounts/login/", "/"]
)
async def test_a_redirect_to_a_login_page_is_a_refused_token(location: str) -> None:
    """Outside the API there are pages for people, not answers."""
    handler = Scripted([moved(location)])
    with pytest.raises(AuthenticationFailed, match="login page") as caught:
        await Redirects(HOME)(GET, handler)
    assert caught.value.status == 302
    assert len(handler.requests) == 1


@pytest.mark.parametrize("location", [None, ""])
async def test_a_redirect_to_nowhere_ends(location: str | None) -> None:
    """Without a Location the request points at itself, and the hops run out."""
    with pytest.raises(AnswerLost):
        await Redirects(HOME)(GET, Scripted(default=moved(location)))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x", ("https", "a.example", 443)),
        ("http://a.example:80", ("http", "a.example", 80)),
        ("http://[::1]:8000/", ("http", "::1", 8000)),
        ("https://a.example:x/", None),
        ("a.example", None),
        ("", None),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int] | None) -> None:
    """An origin is scheme, host in lower case, and port, given or by default."""
    assert origin_of(url) == origin


@pytest.mark.row(57, 60)
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/api/a/",
        "//127.0.0.1:{port}/api/a/",
        "http://user@127.0.0.1:{port}/api/a/",
        "http://127.0.0.1:{port}\\@127.0.0.1/api/a/",
        "\\\\127.0.0.1:{port}/api/a/",
    ],
)
async def test_nothing_reaches_a_foreign_listener(location: str) -> None:
    """Over real sockets: not a byte, not even a connection, arrives where the redirect points."""
    async with RawServer(http()) as foreign:
        answer = http(b"", status="302 Found", headers={"Location": location.format(port=foreign.port)})
        async with RawServer(answer) as home:
            transport = Transport(
                home.origin, Timeouts(), SystemClock(), max_connections=2, max_body_bytes=1024
            )
            transport.open()
            try:
                with pytest.raises(ForeignOrigin):
                    await Redirects(home.origin)(GET, transport)
            finally:
                await transport.close()
            assert home.targets == [GET.target]
        assert foreign.connections == 0
