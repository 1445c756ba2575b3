"""What the server's statuses, headers and error bodies mean. Rules only: no I/O, no clock.

Error bodies come in six shapes, sometimes as JSON under ``text/html``, so the bytes are tried as JSON
whatever the content type says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

import msgspec

from testpress_async.errors import (
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    NotFound,
    NotJSON,
    PermissionDenied,
    RateLimited,
    ServerFault,
    StatusError,
)
from testpress_async.http.message import Request, Response

STATUS_ERRORS: dict[int, type[StatusError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
}
MAX_DETAIL_CHARS = 300
MAX_ERROR_BODY_BYTES = 64 * 1024

_DIGITS = re.compile(r"[0-9]{1,9}")  # not int(): that takes "١٢", "+5" and "1_000"

# Of errors only, so they are compiled, and kept by `re`, when the first one comes.
_IN_SECONDS = r"\bin ([0-9]{1,9}(?:\.[0-9]{1,9})?) seconds?\b"  # DRF; "1 second" too
_TAGS = r"(?si)<(script|style)\b.*?</\1>|<[^>]{0,500}>"
_UNPRINTABLE = r"[^\x20-\x7e\xa0-\uffff]+"


# --- addresses ---------------------------------------------------------------------------------------


def query_string(params: Mapping[str, str]) -> str:
    """*params* as an encoded query, without the question mark."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe=',:')}" for name, value in params.items())


def page_number(next_url: str) -> int | None:
    """The page that a `next` link means; None if it names none.

    Nothing else is ever taken from it: samples show another scheme, another host and lost filters, and a
    token must not follow a link to a foreign origin.
    """
    try:
        query = urlsplit(next_url).query
    except ValueError:
        return None
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == "page" and _DIGITS.fullmatch(value):
            return int(value)
    return None


# --- errors ------------------------------------------------------------------------------------------


def error_for(request: Request, response: Response) -> StatusError | None:
    """The typed error an answer stands for; None for 2xx and 3xx."""
    status = response.status
    if status < 400:
        return None
    detail, code = detail_of(response.body)
    default = ServerFault if status >= 500 else BadRequest
    return STATUS_ERRORS.get(status, default)(
        request.method,
        request.shown,
        status,
        detail=detail,
        error_code=code,
        retry_after_s=retry_after_s(response.headers, detail),
    )


def detail_of(body: bytes) -> tuple[str, str | None]:
    """(readable text, error code) of an error body in any of its shapes; ("", None) if empty."""
    try:
        value: object = msgspec.json.decode(body[:MAX_ERROR_BODY_BYTES])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _clean(_without_tags(body[:MAX_ERROR_BODY_BYTES].decode("utf-8", "replace"))), None
    code = _code(value)
    return _clean(_sentence(value)), code


def _sentence(value: object) -> str:
    """Text of a decoded error body: a string, a list, {"detail"}, {"message"}, {field: [text]}."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_sentence, value)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(value, dict):
        return ""
    fields: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]
    for name in ("detail", "message", "error", "title"):
        if text := _sentence(fields.get(name)):
            return text
    return "; ".join(
        text if name == "non_field_errors" else f"{name}: {text}"
        for name, each in fields.items()
        if name != "error_code" and (text := _sentence(each))
    )


def _code(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    fields: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]
    code = fields.get("error_code")
    return _clean(code) or None if isinstance(code, str) else _code(fields.get("detail"))


def _without_tags(text: str) -> str:
    return re.sub(_TAGS, " ", text) if "<" in text else text


def _clean(text: str) -> str:
    """One printable line of bounded length: error texts end up in terminals and logs."""
    line = " ".join(re.sub(_UNPRINTABLE, " ", text).split())
    return line if len(line) <= MAX_DETAIL_CHARS else line[: MAX_DETAIL_CHARS - 1] + "…"


# --- waiting -----------------------------------------------------------------------------------------


def retry_after_s(headers: Mapping[str, str], detail: str) -> float | None:
    """Seconds the server asks to wait: `Retry-After` as digits or date, then "in N seconds" in its words.

    A date counts from the server's own `Date`, so a wrong clock here does not matter. Anything else
    (signs, "inf", other digits) is no answer: None. Source: RFC 9110, sections 5.6.7 and 10.2.3.
    """
    if value := headers.get("Retry-After", "").strip():
        if _DIGITS.fullmatch(value):
            return float(value)
        then, now = http_date(value), http_date(headers.get("Date", ""))
        if then is not None and now is not None:
            return max(0.0, (then - now).total_seconds())
    said = re.search(_IN_SECONDS, detail)
    return float(said[1]) if said else None


def http_date(text: str) -> datetime | None:
    """One of the three date forms of RFC 9110, section 5.6.7; None if it is none of them."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


# --- bodies ------------------------------------------------------------------------------------------

_BOM = b"\xef\xbb\xbf"


def require_json(request: Request, response: Response) -> None:
    """Raise NotJSON if a 2xx body is not one whole JSON document.

    A proxy's HTML page must not pass for an empty list. Where the transfer does not prove that the body is
    whole (no length, no chunks), it is parsed to the end: HTTP libraries report such cut bodies as success.
    """
    body = response.body.removeprefix(_BOM).strip()
    closes = b"}" if body[:1] == b"{" else b"]"
    if body[:1] in (b"{", b"[") and body.endswith(closes) and (response.framed or _parses(body)):
        return
    raise NotJSON("$", _what_else(body), raw=response.body, source=f"{request.method} {request.shown}")


def _parses(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _what_else(body: bytes) -> str:
    if not body:
        return "expected JSON, got an empty body"
    if body[:1] in (b"{", b"["):
        return "expected JSON, got the beginning of it: the body is cut"
    if body[:1] == b"<":
        title = re.search(rb"<title[^>]*>([^<]{1,120})", body[:MAX_ERROR_BODY_BYTES], re.IGNORECASE)
        named = f" titled “{_clean(title[1].decode('utf-8', 'replace'))}”" if title else ""
        return f"expected JSON, got an HTML page{named}: is base_url the institute's own address?"
    return "expected JSON, got something else"


# --- tokens and origins ------------------------------------------------------------------------------

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def checked_token(token: str, parameter: str = "token") -> str:
    """*token* if it can stand in a header; nothing of it is in the error."""
    if not _TOKEN.fullmatch(token):
        raise ConfigError(parameter, "expected a JWT: letters, digits and . _ ~ + / = - only")
    return token
