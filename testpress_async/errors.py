"""What can go wrong.

    Error
    ├── ConfigError            a parameter, address or setting is unusable; raised before any I/O
    ├── ConnectionFailed       the request was surely not sent
    ├── AnswerLost             it was sent, the answer did not arrive whole
    ├── TimedOut               a limit of `Timeouts` ran out
    ├── StatusError            the server answered, and said no
    │   ├── BadRequest             400 and every other 4xx without a class of its own
    │   ├── AuthenticationFailed   401, or a login that was refused
    │   ├── PermissionDenied       403
    │   ├── NotFound               404
    │   ├── RateLimited            429, or a wait longer than the caller allows
    │   └── ServerFault            5xx
    ├── DecodeFailed           the answer is not what the API documents
    │   └── NotJSON                it is not JSON at all (a proxy's HTML page, an empty body)
    ├── ForeignOrigin          a redirect points away from the institute; nothing was sent there
    ├── BodyTooLarge           the answer is larger than `max_body_bytes`
    ├── ListingChanged         the server repeats pages or walks backwards
    └── DatasetError           the dataset on disk cannot be read or written

Facts are attributes; the sentence is built in `__str__`. Every error can be copied and pickled.
No error holds a password, a token or, in its text, a value out of a record.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AnswerLost",
    "AuthenticationFailed",
    "BadRequest",
    "BodyTooLarge",
    "ConfigError",
    "ConnectionFailed",
    "DatasetError",
    "DecodeFailed",
    "Error",
    "ForeignOrigin",
    "ListingChanged",
    "NotFound",
    "NotJSON",
    "PermissionDenied",
    "RateLimited",
    "ServerFault",
    "StatusError",
    "TimedOut",
]


class Error(Exception):
    """Base of everything this library raises on purpose.

    Attributes:
        tries: Requests sent for the failed call, the first included; 0 if none was.
        resume_token: Where a failed iteration stopped: `listing.resume(token)` goes on from there.
            None for calls that are not iterations.
    """

    tries: int = 0
    resume_token: str | None = None
    _left_out_of_pickles: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {k: v for k, v in self.__dict__.items() if k not in self._left_out_of_pickles}
        return _restore, (type(self), facts)


def _restore(cls: type[Error], facts: dict[str, Any]) -> Error:
    error = cls.__new__(cls)
    error.__dict__.update(facts)
    return error


class ConfigError(Error):
    """A parameter, address or setting is unusable. `parameter` names it; nothing was sent."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__()
        self.parameter, self.problem = parameter, problem

    def __str__(self) -> str:
        return f"{self.parameter}: {self.problem}"


class _RequestError(Error):
    """One request failed: `method`, `url` (without personal filter values) and `reason`."""

    def __init__(self, method: str, url: str, reason: str) -> None:
        super().__init__()
        self.method, self.url, self.reason = method, url, reason

    def __str__(self) -> str:
        return f"{self.method} {self.url}: {self.reason}{_after(self.tries)}"


class _Unanswered(_RequestError):
    def __init__(self, method: str, url: str, reason: str, *, permanent: bool = False) -> None:
        super().__init__(method, url, reason)
        self.permanent = permanent


class ConnectionFailed(_Unanswered):
    """No connection: the request was surely not sent. `permanent`: trying again cannot help (TLS)."""


class AnswerLost(_Unanswered):
    """The request was sent; the connection broke or the answer arrived incomplete or corrupt.

    `permanent`: the server speaks something else than was agreed, trying again cannot help.
    """


class TimedOut(_RequestError):
    """A limit ran out: `limit` is the field of `Timeouts`, `value` its value.

    `sent`: whether the request may have reached the server.
    """

    def __init__(self, method: str, url: str, limit: str, value: float, *, sent: bool = True) -> None:
        super().__init__(method, url, f"{limit}={value:g} ran out")
        self.limit, self.value, self.sent = limit, value, sent


class ForeignOrigin(_RequestError):
    """A redirect leads away from the configured institute; it was not followed, no token left.

    `location` is the origin it pointed to.
    """

    def __init__(self, method: str, url: str, location: str, remedy: str = "") -> None:
        reason = f"redirects to {location}, which is not the configured institute; not followed"
        super().__init__(method, url, f"{reason}. {remedy}" if remedy else reason)
        self.location = location


class BodyTooLarge(_RequestError):
    """The decoded answer passed `limit_bytes` (`Client(max_body_bytes=…)`); reading stopped there."""

    def __init__(self, method: str, url: str, limit_bytes: int) -> None:
        super().__init__(method, url, f"the answer is larger than max_body_bytes={limit_bytes}")
        self.limit_bytes = limit_bytes


class StatusError(Error):
    """The server answered with an error status.

    Attributes:
        status: HTTP status code.
        detail: The server's own words, out of any of the shapes it uses; "" if it gave none.
        error_code: Its machine-readable code, such as "parallel_login_restriction", if any.
        retry_after_s: Seconds it asked to wait, from `Retry-After` or its words; None if neither.
    """

    def __init__(
        self,
        method: str,
        url: str,
        status: int,
        *,
        detail: str = "",
        error_code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__()
        self.method, self.url, self.status = method, url, status
        self.detail, self.error_code, self.retry_after_s = detail, error_code, retry_after_s

    def __str__(self) -> str:
        code = f" [{self.error_code}]" if self.error_code else ""
        said = f": {self.detail}" if self.detail else ""
        wait = "" if self.retry_after_s is None else f" (asks to wait {self.retry_after_s:g} s)"
        return f"{self.method} {self.url} answered {self.status}{code}{said}{wait}{_after(self.tries)}"


class BadRequest(StatusError):
    """400, or another 4xx: the request itself is at fault, sending it again cannot help."""


class AuthenticationFailed(StatusError):
    """The token or the login was refused. A refused login is never repeated: accounts get locked."""


class PermissionDenied(StatusError):
    """403: logged in, but not allowed; the admin endpoints need an admin account."""


class NotFound(StatusError):
    """404: no such record."""


class RateLimited(StatusError):
    """429, or our own limiter would have to wait longer than the caller allows.

    `sent`: False if it was our limiter; `status` is 429 then too, and the server was not asked.
    """

    def __init__(
        self,
        method: str,
        url: str,
        status: int,
        *,
        detail: str = "",
        error_code: str | None = None,
        retry_after_s: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(
            method, url, status, detail=detail, error_code=error_code, retry_after_s=retry_after_s
        )
        self.sent = sent


class ServerFault(StatusError):
    """5xx: the server or a proxy before it failed."""


class _Veiled:
    """Bytes that no dump of an object's attributes shows: error trackers like to make those."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<{len(self.value)} bytes>"


class DecodeFailed(Error):
    """The answer does not have the documented shape.

    Attributes:
        path: JSON path of the place, such as ``$.results[3].date``.
        expected: What was expected there and what kind of value was found; never the value itself.
        record_id: `id` of the record it lies in; None if unknown.
        raw: The bytes of the record (or of the whole answer). May be personal: not in the text,
            not in the repr nor in a dump of the attributes, and left out when the error is pickled.
    """

    _left_out_of_pickles: ClassVar[frozenset[str]] = frozenset({"raw"})

    def __init__(
        self, path: str, expected: str, *, record_id: int | None = None, raw: bytes = b"", source: str = ""
    ) -> None:
        super().__init__()
        self.path, self.expected, self.record_id, self.source = path, expected, record_id, source
        self.__dict__["raw"] = _Veiled(raw)

    @property
    def raw(self) -> bytes:
        veiled = self.__dict__.get("raw")
        return veiled.value if isinstance(veiled, _Veiled) else b""

    def __str__(self) -> str:
        source = f"{self.source}: " if self.source else ""
        record = "" if self.record_id is None else f" (record {self.record_id})"
        return f"{source}{self.path}{record}: {self.expected}{_after(self.tries)}"


class NotJSON(DecodeFailed):
    """The server answered 2xx with something that is not JSON: an HTML page, an empty or cut body."""


class ListingChanged(Error):
    """The server repeats a page or sends us backwards. `page` is the page number it happened on."""

    def __init__(self, url: str, page: int, reason: str) -> None:
        super().__init__()
        self.url, self.page, self.reason = url, page, reason

    def __str__(self) -> str:
        return f"GET {self.url} page {self.page}: {self.reason}"


class DatasetError(Error):
    """The dataset on disk cannot be read or written. `path` is the file, `remedy` what helps."""

    def __init__(self, path: str, problem: str, remedy: str = "") -> None:
        super().__init__()
        self.path, self.problem, self.remedy = path, problem, remedy

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" + (f". {self.remedy}" if self.remedy else "")


def _after(tries: int) -> str:
    return f" (after {tries} tries)" if tries > 1 else ""
