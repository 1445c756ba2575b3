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
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
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
    RateLimited,
    StatusError,
)
from testpress_async.http.clock import Clock
from testpress_async.http.events import LoggedIn, Observer
from testpress_async.http.logs import seconds, tell
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.ratelimit import Outdated
from testpress_async.http.wire import checked_token, http_date

log = logging.getLogger("testpress_async.auth")

LOGIN_PATH = "/api/v2.5/auth-token/"
RENEW_EARLY_SHARE = 0.1  # renew in the last tenth of a token's life …
RENEW_EARLY_MAX_S = 60.0  # … but at most a minute early
VAIN_LOGIN_PAUSE_S, MAX_VAIN_LOGIN_PAUSE_S = 60.0, 300.0  # after a new token was refused; doubles between
TRANSIENT_REFUSALS = frozenset({408})  # a 4xx that says nothing about who logs in

REMEDIES = {  # error codes about sessions and logins: logging in again is what makes them worse
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
        except NotFound as error:  # must not pass for a record, or a page, that is not there
            raise ConfigError(
                "login_path", f"there is no login at {self._path}: the server answers 404"
            ) from error
        except StatusError as error:
            if not _refuses(error):
                raise
            self._refused = (error.detail, error.error_code, error.status)
            raise self._refusal(*self._refused) from error
        return self._token(response)

    def _request(self, cause: Request) -> Request:
        body = msgspec.json.encode({"username": self._username, "password": self._password})
        return Request(
            method="POST",
            target=self._path,
            headers={"Content-Type": "application/json"},
            body=body,
            signed=False,
            lane="interactive",  # whoever is queued behind it waits for its token or has a dead one
            max_wait_s=math.inf if cause.lane == "bulk" and cause.max_wait_s is None else cause.max_wait_s,
            deadline_s=cause.deadline_s,
            call=cause.call,
        )

    def _refusal(self, detail: str, code: str | None, status: int) -> StatusError:
        remedy = REMEDIES.get(code or "", "check username and password; a refused login is not repeated")
        return AuthenticationFailed(
            "POST", self._path, status, detail=_with_remedy(detail, remedy), error_code=code
        )

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


def _refuses(error: StatusError) -> bool:
    """Whether *error* is the login's final answer: said so, or a lock that every further login prolongs."""
    if isinstance(error, BadRequest):
        return error.status not in TRANSIENT_REFUSALS
    return isinstance(error, AuthenticationFailed | PermissionDenied) or error.error_code in REMEDIES


def _with_remedy(detail: str, remedy: str) -> str:
    return f"{detail.rstrip('.')} ({remedy})" if detail else remedy


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
        return None if claims.exp is None else claims.exp - now_s
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError, RecursionError):
        return None


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
        self._obtained_s = -math.inf
        self._vain_logins = 0  # in a row, whose tokens the server never took
        self._lock = asyncio.Lock()
        self._logins_done = 0
        self.logins = 0  # that brought a token
        self._last_failure: Error | None = None

    @property
    def header(self) -> str | None:
        """What signs a request that is sent now."""
        return self._header

    @property
    def is_ending(self) -> bool:
        """Whether the token is about to end, as far as it says."""
        return self._renew_at_s is not None and self._clock.now_s() >= self._renew_at_s

    async def __call__(self, request: Request, handler: Handler) -> Response:
        if not request.signed:
            return await handler(request)
        renewed = False
        while True:
            await self._prepare(request, handler)
            headers = SigningHeaders(request.headers, self)
            try:
                return await self._send(msgspec.structs.replace(request, headers=headers), headers, handler)
            except Outdated:
                continue
            except AuthenticationFailed as error:
                if not self._worth_a_login(error, headers.used, renewed=renewed):
                    raise
            await self._renew(headers.used, request, handler)
            renewed = True

    async def _send(self, request: Request, headers: SigningHeaders, handler: Handler) -> Response:
        try:
            response = await handler(request)
        except StatusError as error:
            if isinstance(error, BadRequest | NotFound | PermissionDenied):
                self._prove(headers.used)  # refused for another reason: the token itself was taken
            if remedy := REMEDIES.get(error.error_code or ""):
                error.detail = _with_remedy(error.detail, remedy)
            raise
        self._prove(headers.used)
        return response

    def _worth_a_login(self, error: AuthenticationFailed, refused: str | None, *, renewed: bool) -> bool:
        """Whether a request that was refused with the header *refused* should go again with another."""
        if not self._source.can_renew or error.error_code in REMEDIES:
            return False  # pushed out by somebody else's session: a login would push theirs out, and so on
        if refused != self._header:
            return True  # there is a newer one
        age_s = self._clock.now_s() - self._obtained_s
        if not self._proved:  # a new token, refused: another is refused just so, unless time has passed
            return age_s >= min(
                VAIN_LOGIN_PAUSE_S * 2.0 ** min(self._vain_logins, 30), MAX_VAIN_LOGIN_PAUSE_S
            )
        return not renewed or age_s >= VAIN_LOGIN_PAUSE_S  # it may have ended while we waited for the limiter

    def _prove(self, header: str | None) -> None:
        if header == self._header:  # not: a late answer to the token before
            self._proved, self._vain_logins = True, 0

    async def _prepare(self, request: Request, handler: Handler) -> None:
        """Get the first token, or a new one shortly before the old one ends."""
        if self._header is None:
            await self._renew(None, request, handler)
        elif self.is_ending:
            try:
                await self._renew(self._header, request, handler)
            except Error:
                self._renew_at_s = None  # a courtesy only; the server decides when the old one ends

    async def _renew(self, refused: str | None, request: Request, handler: Handler) -> None:
        """Get a header other than *refused*. Tasks that ask while one login runs share its outcome.

        If the task that logs in is cancelled, the next one in line logs in.
        """
        logins_done = self._logins_done
        async with self._lock:
            if self._header is not None and self._header != refused:
                return
            if self._last_failure is not None and self._logins_done != logins_done:
                raise copy.copy(self._last_failure)
            await self._log_in(request, handler)

    async def _log_in(self, request: Request, handler: Handler) -> None:
        try:
            token = await self._source.obtain(request, handler)
        except Error as error:
            if not isinstance(error, RateLimited) or error.sent:  # else: one caller's own impatience
                self._logins_done += 1
                self._last_failure = copy.copy(error)  # before its owner writes into it, as iterations do
            raise
        self._logins_done += 1
        self._last_failure = None
        self._vain_logins = 0 if self._proved else self._vain_logins + 1
        self._header, self._proved = f"JWT {token.text}", False
        self._obtained_s = self._clock.now_s()
        self._renew_at_s = self._renewal_s(token)
        if self._source.can_renew:
            self.logins += 1
            if self._emit:
                self._emit(LoggedIn(call=request.call, lifetime_s=token.lifetime_s))
            tell(log, logging.INFO, "logged in; the token lasts %s", seconds(token.lifetime_s))

    def _renewal_s(self, token: Token) -> float | None:
        """When to renew before the server refuses; never for a token that comes already expired."""
        if token.lifetime_s is None or token.lifetime_s <= 0:
            return None
        early_s = min(RENEW_EARLY_MAX_S, token.lifetime_s * RENEW_EARLY_SHARE)
        return self._clock.now_s() + token.lifetime_s - early_s


class SigningHeaders(Mapping[str, str]):
    """Headers that are signed when they are first read, which is after the wait for the limiter.

    That wait can outlive a token. From then on they stay as they are: an answer is about what was sent.
    `used` is the signature.
    """

    def __init__(self, plain: Mapping[str, str], auth: Auth) -> None:
        self._plain, self._auth = plain, auth
        self.used = auth.header
        self._signed = False

    @property
    def outdated(self) -> bool:
        """Whether it is better to log in again than to send them."""
        return self._auth.is_ending

    def __getitem__(self, name: str) -> str:
        if name != "Authorization":
            return self._plain[name]
        if not self._signed:
            self.used, self._signed = self._auth.header, True
        if self.used is None:
            raise KeyError(name)
        return self.used

    def __iter__(self) -> Iterator[str]:
        return iter((*self._plain, "Authorization"))

    def __len__(self) -> int:
        return len(self._plain) + 1

    def __repr__(self) -> str:
        return "SigningHeaders(…)"
