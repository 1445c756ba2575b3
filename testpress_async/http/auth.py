"""The token: obtained once, shared, renewed once when it is refused.

``POST /api/v2.5/auth-token/`` with username and password answers ``{"token": "<jwt>"}``; the header is
``Authorization: JWT <token>``. There is no refresh: renewal is another login. Institutes can limit parallel
logins and lock accounts after refused ones, so all tasks share one login and a refused one is final.
Source: https://developer.testpress.in/docs/ (Authentication).
"""

from __future__ import annotations

import asyncio
import base64
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from testpress_async.errors import (
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    DecodeFailed,
    Error,
    NotFound,
    PermissionDenied,
    StatusError,
)
from testpress_async.http.clock import Clock
from testpress_async.http.events import LoggedIn, Observer
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.wire import checked_token, http_date

LOGIN_PATH = "/api/v2.5/auth-token/"
RENEW_EARLY_SHARE = 0.1  # renew in the last tenth of a token's life …
RENEW_EARLY_MAX_S = 60.0  # … but at most a minute early

REMEDIES = {
    "parallel_login_restriction": "the institute limits parallel sessions: log out elsewhere or pass a token",
    "max_login_exceeded": "too many refused logins or devices: wait until the lock ends",
}


class TokenSource(Protocol):
    """Where tokens come from. Called by one task at a time."""

    can_renew: bool

    async def obtain(self, request: Request, handler: Handler) -> Token: ...


class Token(msgspec.Struct, frozen=True):
    """A JWT and how long it lives in seconds (None: it does not say). Never shown."""

    text: str
    lifetime_s: float | None = None

    def __repr__(self) -> str:
        return "Token(…)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return []


class FixedToken:
    """A token given by the caller: it cannot be renewed."""

    can_renew = False

    def __init__(self, token: str) -> None:
        self._token = checked_token(token)

    async def obtain(self, request: Request, handler: Handler) -> Token:
        return Token(self._token)


class ProvidedToken:
    """Tokens from the caller's own coroutine function, asked again when one is refused."""

    can_renew = True

    def __init__(self, provider: Callable[[], Awaitable[str]]) -> None:
        self._provider = provider

    async def obtain(self, request: Request, handler: Handler) -> Token:
        return Token(checked_token(await self._provider(), "token_provider"))


class PasswordLogin:
    """Tokens from a login. A refused login is remembered and never sent again."""

    can_renew = True

    def __init__(self, username: str, password: str, clock: Clock, path: str = LOGIN_PATH) -> None:
        self._username, self._password, self._clock, self._path = username, password, clock, path
        self._refused: tuple[str, str | None, int] | None = None

    async def obtain(self, request: Request, handler: Handler) -> Token:
        if self._refused is not None:
            raise self._refusal(*self._refused)
        try:
            response = await handler(self._request(request))
        except (BadRequest, AuthenticationFailed, PermissionDenied) as error:
            self._refused = (error.detail, error.error_code, error.status)
            raise self._refusal(*self._refused) from error
        except NotFound as error:  # must not pass for a record, or a page, that is not there
            raise ConfigError(
                "login_path", f"there is no login at {self._path}: the server answers 404"
            ) from error
        return self._token(response)

    def _request(self, cause: Request) -> Request:
        body = msgspec.json.encode({"username": self._username, "password": self._password})
        return Request(
            method="POST",
            target=self._path,
            headers={"Content-Type": "application/json"},
            body=body,
            signed=False,
            lane=cause.lane,
            max_wait_s=cause.max_wait_s,
            deadline_s=cause.deadline_s,
        )

    def _refusal(self, detail: str, code: str | None, status: int) -> StatusError:
        remedy = REMEDIES.get(code or "", "check username and password; a refused login is not repeated")
        said = f"{detail.rstrip('.')} ({remedy})" if detail else remedy
        return AuthenticationFailed("POST", self._path, status, detail=said, error_code=code)

    def _token(self, response: Response) -> Token:
        try:
            answer = msgspec.json.decode(response.body, type=_LoginAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            expected = "expected a login answer with a token"
            raise DecodeFailed("$.token", expected, source=f"POST {self._path}") from None
        return Token(
            checked_token(answer.token, "token in the login answer"),
            lifetime_s(answer.token, now_s=_server_time_s(response.headers, self._clock)),
        )


class _LoginAnswer(msgspec.Struct):
    token: str

    def __repr__(self) -> str:
        return "_LoginAnswer(…)"


class _Claims(msgspec.Struct):
    exp: int | float | None = None


def lifetime_s(token: str, *, now_s: float) -> float | None:
    """Seconds until the JWT's `exp`, from *now_s* (seconds since the epoch); None if it does not say.

    Its signature is the server's business; a 401 stays the only truth about validity.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return None
    return None if claims.exp is None else claims.exp - now_s


def _server_time_s(headers: Mapping[str, str], clock: Clock) -> float:
    """The server's idea of now where it gives one, so that a wrong clock here does not matter."""
    moment = http_date(headers.get("Date", ""))
    return clock.wall_s() if moment is None else moment.timestamp()


class Auth:
    """Middleware: sign requests, log in once for all tasks, renew once when the token is refused."""

    def __init__(
        self, source: TokenSource, clock: Clock, emit: Observer | None = None, *, token: str | None = None
    ) -> None:
        self._source, self._clock, self._emit = source, clock, emit
        self._header = None if token is None else f"JWT {checked_token(token)}"
        self._renew_at_s: float | None = None
        self._proved = True  # whether the server ever took this token; a given one gets the benefit
        self._lock = asyncio.Lock()
        self._logins_done = 0
        self._last_failure: Error | None = None

    async def __call__(self, request: Request, handler: Handler) -> Response:
        if not request.signed:
            return await handler(request)
        header = await self._current(request, handler)
        try:
            return await self._send(request, header, handler)
        except AuthenticationFailed:
            if not self._source.can_renew or (header == self._header and not self._proved):
                raise  # a new token refused at once: another login would be refused just so
        return await self._send(request, await self._renew(header, request, handler), handler)

    async def _send(self, request: Request, header: str, handler: Handler) -> Response:
        try:
            response = await handler(_signed(request, header))
        except (BadRequest, NotFound, PermissionDenied):
            self._prove(header)  # refused for another reason: the token itself was taken
            raise
        self._prove(header)
        return response

    def _prove(self, header: str) -> None:
        if header == self._header:  # not: a late answer to the token before
            self._proved = True

    async def _current(self, request: Request, handler: Handler) -> str:
        if self._header is None:
            return await self._renew(None, request, handler)
        if self._renew_at_s is None or self._clock.now_s() < self._renew_at_s:
            return self._header
        try:
            return await self._renew(self._header, request, handler)
        except Error:
            self._renew_at_s = None  # early renewal was a courtesy; the server decides when the old one ends
            return self._header

    async def _renew(self, refused: str | None, request: Request, handler: Handler) -> str:
        """A header other than *refused*. Tasks that ask while one login runs share its outcome.

        If the task that logs in is cancelled, the next one in line logs in.
        """
        logins_done = self._logins_done
        async with self._lock:
            if self._header is not None and self._header != refused:
                return self._header
            if self._last_failure is not None and self._logins_done != logins_done:
                raise copy.copy(self._last_failure)
            return await self._log_in(request, handler)

    async def _log_in(self, request: Request, handler: Handler) -> str:
        try:
            token = await self._source.obtain(request, handler)
        except Error as error:
            self._logins_done += 1
            self._last_failure = error
            raise
        self._logins_done += 1
        self._last_failure = None
        self._header, self._proved = f"JWT {token.text}", False
        self._renew_at_s = self._renewal_s(token)
        if self._emit and self._source.can_renew:
            self._emit(LoggedIn(lifetime_s=token.lifetime_s))
        return self._header

    def _renewal_s(self, token: Token) -> float | None:
        """When to renew before the server refuses; never for a token that comes already expired."""
        if token.lifetime_s is None or token.lifetime_s <= 0:
            return None
        early_s = min(RENEW_EARLY_MAX_S, token.lifetime_s * RENEW_EARLY_SHARE)
        return self._clock.now_s() + token.lifetime_s - early_s


def _signed(request: Request, header: str) -> Request:
    return msgspec.structs.replace(request, headers={**request.headers, "Authorization": header})
