"""What statuses, headers and bodies mean."""

from __future__ import annotations

import string
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from testpress_async.errors import (
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    NotFound,
    NotJSON,
    PermissionDenied,
    RateLimited,
    ServerFault,
)
from testpress_async.http.check import check
from testpress_async.http.message import Request, Response
from testpress_async.http.wire import (
    MAX_DETAIL_CHARS,
    MAX_ERROR_BODY_BYTES,
    checked_token,
    detail_of,
    error_for,
    http_date,
    page_number,
    query_string,
    require_json,
    retry_after_s,
)
from tests.support.handlers import Scripted, reply

GET = Request(target="/api/x/?search=asha")
DATE = "Sun, 06 Nov 1994 08:49:07 GMT"


# --- addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("https://institute.example/api/a/?page=2", 2),
        ("http://demo.testbench.in:8000/api/a/?state=1&page=12", 12),
        ("/api/a/?page=3&exams=5", 3),
        ("/api/a/?page=3#?page=4", 3),
        ("/api/a/#?page=4", None),
        ("?page=4", 4),
        ("https://institute.example/api/a/", None),
        ("", None),
        ("?page=", None),
        ("?page=-1", None),
        ("?page=+5", None),
        ("?page=1_0", None),
        ("?page=١٢", None),
        ("?page=1.5", None),
        ("?page=0123456789", None),
        ("?my_page=2", None),
        ("?page=last&page=7", 7),
        ("http://[half/?page=2", None),
    ],
)
def test_only_a_plain_page_number_is_taken_from_a_link(link: str, page: int | None) -> None:
    """Scheme, host and filters of a `next` link are never trusted."""
    assert page_number(link) == page


def test_queries_are_encoded() -> None:
    """Names and values cannot break out of the query; commas and colons stay readable."""
    query = query_string({"exams": "5,6", "t": "10:00", "q": "a&b=c d#é/", "k&": "1"})
    assert query == "exams=5,6&t=10:00&q=a%26b%3Dc%20d%23%C3%A9%2F&k%26=1"
    assert query_string({}) == ""


# --- error bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "detail", "code"),
    [
        (b'{"detail": "Not found"}', "Not found", None),
        (b'{"detail": {"error_code": "x", "message": "Too many", "title": "T"}}', "Too many", "x"),
        (b'{"detail": {"error_code": "x", "title": "Only a title"}}', "Only a title", "x"),
        (b'{"error_code": "scheduled", "detail": "Later", "title": "T"}', "Later", "scheduled"),
        (b'{"error_code": "max_login_exceeded"}', "", "max_login_exceeded"),
        (b'{"error_code": 7, "message": "m"}', "m", None),
        (b'{"username": ["Required."], "password": "Empty."}', "username: Required.; password: Empty.", None),
        (b'{"non_field_errors": ["Unable to log in."]}', "Unable to log in.", None),
        (b'{"exams": {"0": ["Not an id."]}}', "exams: 0: Not an id.", None),
        (b'["One.", "Two.", 3]', "One.; Two.", None),
        (b'"Just words"', "Just words", None),
        (b'{"message": "m"}', "m", None),
        (b'{"error": "e"}', "e", None),
        (b'{"detail": null, "error": "e"}', "e", None),
        (b"42", "", None),
        (b"null", "", None),
        (b"{}", "", None),
        (b"", "", None),
        (b"Server is down", "Server is down", None),
        (b'{"detail": not json', '{"detail": not json', None),
        (b"\xff\xfe broken", "\ufffd\ufffd broken", None),
        (
            b"<html><head><style>p{a:b}</style><script>alert(1)</script><title>502</title></head>"
            b"<body><h1>Bad\n Gateway</h1></body></html>",
            "502 Bad Gateway",
            None,
        ),
    ],
)
def test_every_shape_of_error_body_is_read(body: bytes, detail: str, code: str | None) -> None:
    """The server's own words come out of any of its shapes."""
    assert detail_of(body) == (detail, code)


def test_json_sent_as_html_is_read_as_json() -> None:
    """The 403 of parallel logins is JSON under text/html; content types are not believed."""
    body = b'{"error_code": "parallel_login_restriction", "detail": "Too many logins"}'
    error = error_for(GET, reply(403, body, {"Content-Type": "text/html"}))
    assert isinstance(error, PermissionDenied)
    assert (error.detail, error.error_code) == ("Too many logins", "parallel_login_restriction")


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(lambda text: msgspec.json.encode(text))))
def test_detail_is_one_short_printable_line(body: bytes) -> None:
    """No body can put control characters or pages of text into a terminal or log."""
    detail, _ = detail_of(body)
    assert len(detail) <= MAX_DETAIL_CHARS
    assert detail == " ".join(detail.split())
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in detail)


def test_a_long_detail_is_cut_with_a_mark() -> None:
    """A cut text shows that it was cut."""
    detail, _ = detail_of(msgspec.json.encode({"detail": "x" * 1000}))
    assert detail == "x" * (MAX_DETAIL_CHARS - 1) + "…"
    assert detail_of(b'"' + b"y" * MAX_DETAIL_CHARS + b'"')[0] == "y" * MAX_DETAIL_CHARS


def test_escapes_for_terminals_are_removed() -> None:
    """An error text cannot move the cursor or forge a line of a log."""
    assert detail_of(b'{"detail": "a\\u001b[2Jb\\r\\nc\\u009bd"}') == ("a [2Jb c d", None)


def test_a_deeply_nested_body_is_no_crash() -> None:
    """Hostile nesting is refused by the parser and read as text."""
    depth = MAX_ERROR_BODY_BYTES // 2
    detail, code = detail_of(b"[" * depth + b"]" * depth)
    assert len(detail) == MAX_DETAIL_CHARS
    assert code is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, BadRequest),
        (401, AuthenticationFailed),
        (403, PermissionDenied),
        (404, NotFound),
        (408, BadRequest),
        (418, BadRequest),
        (429, RateLimited),
        (500, ServerFault),
        (503, ServerFault),
        (599, ServerFault),
    ],
)
def test_every_error_status_has_its_class(status: int, expected: type) -> None:
    """The error knows the request without personal filters, the status and what the server said."""
    error = error_for(GET, reply(status, b'{"detail": "No."}', {"Retry-After": "3"}))
    assert type(error) is expected
    assert error is not None
    assert (error.method, error.url, error.status) == ("GET", "/api/x/?search=…", status)
    assert (error.detail, error.retry_after_s) == ("No.", 3.0)


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 304])
def test_success_and_redirects_are_no_errors(status: int) -> None:
    """Below 400 nothing was refused."""
    assert error_for(GET, reply(status)) is None


# --- waiting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("999999999", 999_999_999.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        ("Sun Nov  6 08:49:37 1994", 30.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("Sun, 06 Nov 1994 14:19:37 +0530", 30.0),
    ],
)
def test_retry_after_is_seconds_or_one_of_three_dates(value: str, seconds: float) -> None:
    """A date counts from the server's own Date; one that has passed is no wait."""
    assert retry_after_s(CIMultiDict({"retry-after": value, "date": DATE}), "") == seconds


@pytest.mark.parametrize(
    "value",
    ["-1", "1.5", "inf", "nan", "١٢", "+5", "1_000", "1234567890", "1e3", "0x10", "soon", "", "3 s", "5,5"],
)
def test_absurd_waits_are_no_waits(value: str) -> None:
    """Only plain digits and dates are believed."""
    assert retry_after_s(CIMultiDict({"Retry-After": value, "Date": DATE}), "") is None


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_a_date_without_the_servers_own_date_says_nothing(date: str | None) -> None:
    """Our clock may be wrong, so it is not used instead."""
    headers = CIMultiDict({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
    if date:
        headers["Date"] = date
    assert retry_after_s(headers, "") is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Request was throttled. Expected available in 12 seconds.", 12.0),
        ("Expected available in 1 second.", 1.0),
        ("in 0.75 seconds", 0.75),
        ("in 3 minutes", None),
        ("in -3 seconds", None),
        ("in ١٢ seconds", None),
        ("in 1234567890 seconds", None),
        ("begin 5 seconds", None),
        ("Throttled.", None),
        ("", None),
    ],
)
def test_the_wait_is_read_from_the_words_of_the_body(said: str, seconds: float | None) -> None:
    """The API's own client reads "in N seconds"; so does this one."""
    assert retry_after_s(CIMultiDict(), said) == seconds
    assert retry_after_s(CIMultiDict({"Retry-After": "soon"}), said) == seconds


def test_the_header_counts_before_the_words() -> None:
    """Where both speak, the header is the standard."""
    assert retry_after_s(CIMultiDict({"Retry-After": "4"}), "in 9 seconds") == 4.0


@pytest.mark.parametrize("text", ["", "x", "Sun, 99 Nov 1994 08:49:37 GMT", "1", "a, b c d", "\x00"])
def test_what_is_no_date_is_none(text: str) -> None:
    """A header full of anything is no crash."""
    assert http_date(text) is None


@given(st.text(max_size=60))
def test_no_text_crashes_the_reading_of_dates(text: str) -> None:
    """Dates are aware or nothing."""
    moment = http_date(text)
    assert moment is None or moment.tzinfo is not None


def test_dates_without_a_zone_are_utc() -> None:
    """HTTP dates are always UTC, asctime form included."""
    assert http_date("Sun Nov  6 08:49:37 1994") == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


# --- JSON or not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b' {"a": [1]} \n', b"\xef\xbb\xbf{}", b'{"count": 0, "results": []}']
)
@pytest.mark.parametrize("framed", [True, False])
def test_whole_json_passes(body: bytes, framed: bool) -> None:
    """Objects and lists pass, with a byte-order mark or white space too."""
    require_json(GET, Response(status=200, headers={}, body=body, framed=framed))


@pytest.mark.row(38, 39)
@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "an empty body"),
        (b" \n", "an empty body"),
        (b'{"results": [1', "the body is cut"),
        (b"[{}", "the body is cut"),
        (b"<html><title>Sign\n in</title>", "titled “Sign in”"),
        (b"<!doctype html><p>hi", "got an HTML page: is base_url"),
        (b"OK", "something else"),
        (b"null", "something else"),
        (b'"{}"', "something else"),
    ],
)
def test_what_is_not_json_is_named(body: bytes, what: str) -> None:
    """A page of a proxy is an error that says what came, never an empty list."""
    with pytest.raises(NotJSON, match=what) as caught:
        require_json(GET, reply(200, body))
    assert caught.value.raw == body
    assert str(caught.value).startswith("GET /api/x/?search=…: $: ")


@pytest.mark.parametrize(
    "body", [b'{"a": {"b": 1}', b'[{"a": 1}, [2]', b'{"a": 1]}', b"[" * 200_000 + b"]" * 200_000]
)
def test_an_unframed_body_is_parsed_to_its_end(body: bytes) -> None:
    """Without length or chunks a body that happens to end in a bracket may still be cut."""
    require_json(GET, Response(status=200, headers={}, body=body, framed=True))
    with pytest.raises(NotJSON):
        require_json(GET, Response(status=200, headers={}, body=body, framed=False))


@pytest.mark.row(17)
def test_an_unframed_cut_that_ends_in_a_bracket_is_found() -> None:
    """The last byte proves nothing when the connection's end is the only frame."""
    body = b'{"count": 2, "results": [{"id": 1}'
    require_json(GET, reply(200, body))
    with pytest.raises(NotJSON, match="cut"):
        require_json(GET, Response(status=200, headers={}, body=body, framed=False))


async def test_check_raises_what_an_answer_stands_for() -> None:
    """Success must be JSON, errors are raised, redirects are somebody else's."""
    good, moved = reply(200), reply(302)
    assert await check(GET, Scripted([good])) is good
    assert await check(GET, Scripted([moved])) is moved
    with pytest.raises(NotFound):
        await check(GET, Scripted([reply(404)]))
    with pytest.raises(NotJSON):
        await check(GET, Scripted([reply(200, b"<html>")]))


# --- tokens ------------------------------------------------------------------------------------------


@given(st.text(alphabet=string.ascii_letters + string.digits + "._~+/=-", min_size=1))
def test_tokens_of_header_characters_pass(token: str) -> None:
    """Any JWT passes unchanged."""
    assert checked_token(token) is token


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "a\n", "a\x00", "é", "abc,def", "٣"])
def test_a_token_that_could_break_a_header_is_refused_unseen(token: str) -> None:
    """The refusal names the parameter and holds nothing of the token."""
    with pytest.raises(ConfigError) as caught:
        checked_token(token, "token_provider")
    assert caught.value.parameter == "token_provider"
    assert not token or token not in str(caught.value)
