"""`Client`: the async session manager. Opens, shares and closes; binds the resources."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import urlsplit

import aiohttp

from testpress_async.errors import ConfigError
from testpress_async.http.auth import LOGIN_PATH, FixedToken, PasswordLogin, ProvidedToken, TokenSource
from testpress_async.http.caller import Caller, Options
from testpress_async.http.clock import Clock, SystemClock
from testpress_async.http.events import Observer, guarded
from testpress_async.http.message import Lane
from testpress_async.http.pipeline import Middleware
from testpress_async.http.policy import RetryPolicy, Timeouts, positive
from testpress_async.http.session import Session
from testpress_async.http.stats import Stats
from testpress_async.http.window import RatePolicy
from testpress_async.listing.fan_out import FanOut, OnError
from testpress_async.listing.listing import Listing
from testpress_async.models.record import Record
from testpress_async.resources.attempts import Attempts, ContentAttempts
from testpress_async.resources.lists import Courses, Exams, Users, VideoConferences

K = TypeVar("K")
R = TypeVar("R")
M = TypeVar("M", bound=Record)

ENVIRONMENT = ("TESTPRESS_BASE_URL", "TESTPRESS_TOKEN", "TESTPRESS_USERNAME", "TESTPRESS_PASSWORD")
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024


class Client:
    """Talks to one institute with one account. Make it anywhere, open it with ``async with``.

        async with tp.Client("https://institute.testpress.in", username="admin", password="…") as client:
            async for attempt in client.attempts.list(exams=[5]): ...

    Making it needs no running loop and sends nothing. It belongs to the event loop that opens it.

    Args:
        base_url: Address of the institute: scheme and host, an own domain too. Plain http is refused
            except to this machine, unless `allow_http`.
        token: A JWT. Together with username and password it is used until the server refuses it.
        username, password: Of an admin account. One login is shared by all tasks and clones; a refused
            login is never repeated.
        token_provider: Coroutine function that gives a token; asked again when one is refused.
        session: An `aiohttp.ClientSession` to use, never closed here. Lending one means that its own
            settings apply: cookies in its jar that fit the address are sent and new ones kept, its default
            headers, proxy, TLS and connection limit count, and `trust_env=True` reads the proxy and .netrc
            of the environment. For an institute without other cookies lend one with a `DummyCookieJar`.
            Without it none of that happens.
        retry: When failed tries are repeated.
        rate: A known request limit, or none: then it is learned from the first 429.
        timeouts: Limits in seconds. `total_s` is one deadline over all tries of a call.
        max_connections: Most requests on the way at once.
        max_body_bytes: Largest answer accepted, decoded.
        coalesce: Let identical requests that run at the same time share one call upstream. Each caller keeps
            its own deadline and can be cancelled alone; nothing is kept afterwards. Costs a task a request.
        middleware: Your own, around the transport: they see every try.
        on_event: Plain function, or several, called with facts about requests, tries, waits and pages. What
            one raises is logged; while it blocks the whole event loop stands still: it must return at once.
        login_path: Where to log in; older institutes answer on v2.2 or v2.3 too.
        allow_http: Accept plain http to other machines: password and token travel readable.
    Raises:
        ConfigError: A parameter is unusable.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        token_provider: Callable[[], Awaitable[str]] | None = None,
        session: aiohttp.ClientSession | None = None,
        retry: RetryPolicy | None = None,
        rate: RatePolicy | None = None,
        timeouts: Timeouts | None = None,
        max_connections: int = 16,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        coalesce: bool = False,
        middleware: Sequence[Middleware] = (),
        on_event: Observer | Sequence[Observer] | None = None,
        login_path: str = LOGIN_PATH,
        allow_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if max_connections < 1:
            raise ConfigError("max_connections", "expected at least 1")
        if max_body_bytes < 1:
            raise ConfigError("max_body_bytes", "expected at least 1")
        self.base_url = checked_origin(base_url, allow_http=allow_http)
        self._session = Session(
            self.base_url,
            _token_source(token, username, password, token_provider, login_path),
            clock=clock or SystemClock(),
            token=token if username is not None or token_provider is not None else None,
            session=_lendable(session),
            retry=retry or RetryPolicy(),
            rate=rate or RatePolicy(),
            timeouts=timeouts or Timeouts(),
            max_connections=max_connections,
            max_body_bytes=max_body_bytes,
            middleware=middleware,
            emit=guarded(on_event),
        )
        self._clone_of: Client | None = None
        self._bind(Options(coalesce=coalesce))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A client from TESTPRESS_BASE_URL and TESTPRESS_TOKEN or TESTPRESS_USERNAME and _PASSWORD.

        Args:
            environ: Where to look; the process's environment by default.
            options: Any other parameter of `Client`.
        Raises:
            ConfigError: A variable is missing.
        """
        env = os.environ if environ is None else environ
        base_url, token, username, password = (env.get(name) or None for name in ENVIRONMENT)
        if base_url is None:
            raise ConfigError("TESTPRESS_BASE_URL", "is not set: the address of the institute")
        if token is None and (username is None or password is None):
            remedy = "or TESTPRESS_USERNAME and TESTPRESS_PASSWORD of an admin account"
            raise ConfigError("TESTPRESS_TOKEN", f"is not set: set it, {remedy}")
        return cls(base_url, token=token, username=username, password=password, **options)

    def _bind(self, options: Options) -> None:
        self._caller = caller = Caller(self._session, options)
        self.attempts = Attempts(caller)
        self.content_attempts = ContentAttempts(caller)
        self.video_conferences = VideoConferences(caller)
        self.exams = Exams(caller)
        self.users = Users(caller)
        self.courses = Courses(caller)

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    async def __aenter__(self) -> Self:
        self._require_original()
        self._session.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what still runs for this client and close its connections. May be called twice."""
        self._require_original()
        await self._session.close()

    def with_options(
        self,
        *,
        timeout_s: float | None = None,
        priority: Lane | None = None,
        max_wait_s: float | None = None,
        coalesce: bool | None = None,
    ) -> Client:
        """A cheap clone: the same pool, limiter, retry budget and token, other options.

        Args:
            timeout_s: Deadline of each call in seconds, over all tries and waits.
            priority: "interactive" calls pass waiting "bulk" calls, and do not wait long for the limiter.
            max_wait_s: Longest wait for the limiter in seconds before `RateLimited` is raised;
                by default that of `RatePolicy` for "interactive", the deadline for "bulk".
            coalesce: As for `Client`. Calls share only with calls of the same options.
        """
        now = self._caller.options
        if timeout_s is not None:
            positive("timeout_s", timeout_s)
        if max_wait_s is not None and not max_wait_s >= 0:  # nan is neither
            raise ConfigError("max_wait_s", "expected a number of at least 0")
        if priority not in (None, "interactive", "bulk"):
            raise ConfigError("priority", 'expected "interactive" or "bulk"')
        clone = object.__new__(Client)
        clone.base_url, clone._session, clone._clone_of = self.base_url, self._session, self
        clone._bind(
            Options(
                timeout_s=now.timeout_s if timeout_s is None else timeout_s,
                lane=priority or now.lane,
                max_wait_s=now.max_wait_s if max_wait_s is None else max_wait_s,
                coalesce=now.coalesce if coalesce is None else coalesce,
            )
        )
        return clone

    @overload
    def fan_out(
        self,
        parents: Iterable[K] | AsyncIterable[K],
        call: Callable[[K], Listing[M]],
        *,
        concurrency: int = 16,
        on_error: OnError = "raise",
        ordered: bool = False,
    ) -> FanOut[K, M]: ...

    @overload
    def fan_out(
        self,
        parents: Iterable[K] | AsyncIterable[K],
        call: Callable[[K], AsyncIterable[R] | Awaitable[R]],
        *,
        concurrency: int = 16,
        on_error: OnError = "raise",
        ordered: bool = False,
    ) -> FanOut[K, R]: ...

    def fan_out(
        self,
        parents: Iterable[K] | AsyncIterable[K],
        call: Callable[[K], AsyncIterable[R] | Awaitable[R]],
        *,
        concurrency: int = 16,
        on_error: OnError = "raise",
        ordered: bool = False,
    ) -> FanOut[K, R]:
        """Call *call* for each of *parents*, many at once; iterate (parent, record) pairs.

            async with client.fan_out([423, 424], client.attempts.user_answers) as results:
                async for attempt_id, answer in results: ...

        See `FanOut` for the parameters.
        """
        return FanOut(parents, call, concurrency=concurrency, on_error=on_error, ordered=ordered)

    @property
    def clock(self) -> Clock:
        """What this client and its clones tell the time by."""
        return self._caller.session.clock

    @property
    def requests_per_s(self) -> float | None:
        """The server's limit, given or learned; None while none is known."""
        limits = self._caller.session.gate.learned
        return min((limit.requests / limit.per_s for limit in limits), default=None)

    @property
    def requests_sent(self) -> int:
        """Requests this client and its clones have sent: every try, login and redirect hop."""
        return self._session.gate.granted

    def stats(self) -> Stats:
        """How this client and its clones stand, and what they did since it was made. Costs microseconds."""
        return self._session.stats()

    def _require_original(self) -> None:
        if self._clone_of is not None:
            raise ConfigError("client", "is a clone: open and close the client it was made from")


def checked_origin(base_url: str, *, allow_http: bool) -> str:
    """Scheme and host of *base_url*. Raises ConfigError if a token must not go there."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("base_url", "is not a usable address") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError("base_url", "expected an address such as https://institute.testpress.in")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("base_url", "must not hold a password; pass username and password")
    if parts.path not in ("", "/") or parts.query or parts.fragment or not _PLAIN_HOST.fullmatch(host):
        raise ConfigError("base_url", "expected scheme and host only, such as https://institute.testpress.in")
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS and not allow_http:
        raise ConfigError(
            "base_url", "plain http would show the token to the network: use https or allow_http"
        )
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}" + (f":{port}" if port else "")


_PLAIN_HOST = re.compile(r"[A-Za-z0-9._:-]+")


def _lendable(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession | None:
    """*session*, unless its settings would get in the way of every request."""
    if session is not None and session.auth is not None:
        raise ConfigError(
            "session", "has an `auth` of its own, which clashes with the token: lend one without"
        )
    if session is not None and session.raise_for_status is not False:
        raise ConfigError("session", "has `raise_for_status`, which hides the answers: lend one without")
    return session


def _token_source(
    token: str | None,
    username: str | None,
    password: str | None,
    provider: Callable[[], Awaitable[str]] | None,
    login_path: str,
) -> Callable[[Clock], TokenSource]:
    if (username is None) != (password is None):
        raise ConfigError("password" if password is None else "username", "is missing: they come together")
    if username is not None and provider is not None:
        raise ConfigError("token_provider", "give either this or username and password")
    if provider is not None:
        return lambda clock: ProvidedToken(provider)
    if username is not None and password is not None:
        return lambda clock: PasswordLogin(username, password, clock, login_path)
    if token is not None:
        return lambda clock: FixedToken(token)
    raise ConfigError("token", "is missing: pass token, or username and password, or token_provider")
