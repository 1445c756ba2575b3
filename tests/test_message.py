"""Requests and responses as values, and what of a target may be shown."""

from __future__ import annotations

import pytest

from testpress_async.http.message import Request, Response, shown
from testpress_async.http.pipeline import Handler, compose
from tests.support.handlers import Scripted, reply


@pytest.mark.parametrize(
    "target",
    [
        "/api/v2.5/admin/attempts/",
        "/a/?page=2",
        "/a/?exams=5%2C6&page=3",
        "/a/?date_0=2024-01-01&date_1=2024-01-31T10%3A00%3A00Z",
        "/a/?ordering=-date",
        "/a/?users=",
    ],
)
def test_harmless_filters_are_shown(target: str) -> None:
    """Numbers, dates and orderings help to find an error and name nobody."""
    assert shown(target) == target


@pytest.mark.parametrize(
    ("target", "harmless"),
    [
        ("/a/?search=Asha%20Rao&page=2", "/a/?search=…&page=2"),
        ("/a/?email=asha%40example.org", "/a/?email=…"),
        ("/a/?page=2&username=asha", "/a/?page=2&username=…"),
        ("/a/?q=%2C%3Ax", "/a/?q=…"),
        ("/a/?token", "/a/?token"),
    ],
)
def test_personal_filters_are_hidden(target: str, harmless: str) -> None:
    """A search text or an e-mail address never reaches an error or a log."""
    assert shown(target) == harmless
    assert Request(target=target).shown == harmless


async def test_the_first_middleware_is_the_outermost() -> None:
    """Requests pass the list from left to right, answers from right to left."""
    order: list[str] = []

    def named(name: str):
        async def middleware(request: Request, handler: Handler):
            order.append(f"{name} in")
            response = await handler(request)
            order.append(f"{name} out")
            return response

        return middleware

    answer = reply()
    assert await compose([named("a"), named("b")], Scripted([answer]))(Request(target="/")) is answer
    assert order == ["a in", "b in", "b out", "a out"]


def test_requests_are_frozen() -> None:
    """A middleware that wants another request makes one."""
    with pytest.raises(AttributeError):
        Request(target="/a").target = "/b"  # type: ignore[misc]


def test_neither_headers_nor_bodies_are_in_a_repr() -> None:
    """A log line or a pretty traceback shows what was asked, not who asked or what came."""
    request = Request(target="/a/?q=asha", headers={"Authorization": "JWT secret"}, body=b"secret")
    response = Response(status=200, headers={"Set-Cookie": "secret"}, body=b"secret")
    assert repr(request) == "Request(GET /a/?q=…)"
    assert request.__rich_repr__() == [("method", "GET"), ("target", "/a/?q=…")]
    assert repr(response) == "Response(200, 6 bytes)"
    assert response.__rich_repr__() == [("status", 200), ("body_bytes", 6)]
