"""One token for all tasks: obtained once, renewed once, a refused login never repeated."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable
from email.utils import formatdate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    DecodeFailed,
    Error,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerFault,
    StatusError,
)
from testpress_async.http.auth import (
    LOGIN_PATH,
    Auth,
    FixedToken,
    PasswordLogin,
    ProvidedToken,
    SigningHeaders,
    Token,
    lifetime_s,
)
from testpress_async.http.events import Event, LoggedIn
from testpress_async.http.message import Request, Response
from tests.support.clock import ManualClock, settle
from tests.support.handlers import Scripted, reply

GET = Request(target="/api/a/")
PASSWORD = "hunter2-is-secret"


def jwt(payload: object, *, serial: int = 0) -> str:
    """An unsigned token with these claims; *serial* makes it another one."""
    part = base64.urlsafe_b64encode(msgspec.json.encode(payload)).rstrip(b"=").decode()
    return f"e30.{part}.sig{serial}"


def refuse(status: int, detail: str = "Unable to log in.", code: str | None = None) -> Error:
    kinds = {400: BadRequest, 401: AuthenticationFailed, 403: PermissionDenied}
    return kinds[status]("POST", LOGIN_PATH, status, detail=detail, error_code=code)


class Institute:
    """A handler that logs in and accepts the tokens it is told to."""

    def __init__(self, clock: ManualClock, claims: Callable[[int], object] = lambda serial: {}) -> None:
        self.clock, self.claims = clock, claims
        self.accepts: Callable[[str], bool] = lambda token: True
        self.login_failures: list[BaseException] = []
        self.logins: list[Request] = []
        self.calls: list[str] = []
        self.hold: asyncio.Event | None = None
        self.date: str | None = None

    async def __call__(self, request: Request) -> Response:
        if request.target == LOGIN_PATH:
            return await self._log_in(request)
        token = request.headers["Authorization"]
        self.calls.append(token)
        await asyncio.sleep(0)
        if not self.accepts(token):
            raise AuthenticationFailed("GET", request.target, 401, detail="Signature has expired.")
        return reply()

    async def _log_in(self, request: Request) -> Response:
        self.logins.append(request)
        if self.hold:
            await self.hold.wait()
        await asyncio.sleep(0)
        if self.login_failures:
            raise self.login_failures.pop(0)
        serial = len(self.logins)
        token = jwt(self.claims(serial), serial=serial)
        headers = {"Date": self.date} if self.date else {}
        return reply(200, msgspec.json.encode({"token": token}), headers)


def password_auth(clock: ManualClock, *, token: str | None = None, emit=None) -> Auth:
    return Auth(PasswordLogin("admin", PASSWORD, clock), clock, emit, token=token)


# --- logging in --------------------------------------------------------------------------------------


async def test_the_first_signed_request_logs_in() -> None:
    """Login goes first, unsigned, as JSON; its token signs the request and those that follow."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    cause = Request(target="/api/a/", lane="interactive", max_wait_s=2, deadline_s=9)
    await auth(cause, institute)
    await auth(GET, institute)
    [login] = institute.logins
    assert (login.method, login.target, login.signed) == ("POST", LOGIN_PATH, False)
    assert (login.lane, login.max_wait_s, login.deadline_s) == ("interactive", 2, 9)
    assert msgspec.json.decode(login.body or b"") == {"username": "admin", "password": PASSWORD}
    assert institute.calls == [f"JWT {jwt({}, serial=1)}"] * 2


async def test_unsigned_requests_need_no_token() -> None:
    """Nothing is obtained or added for a request that is not signed."""
    handler = Scripted([reply()])
    await password_auth(ManualClock())(Request(target="/", signed=False), handler)
    assert handler.requests == [Request(target="/", signed=False)]


async def test_other_headers_stay() -> None:
    """Signing adds a header and takes none away."""
    handler = Scripted([reply()])
    await Auth(FixedToken("t"), ManualClock())(Request(target="/", headers={"X": "y"}), handler)
    assert handler.requests[0].headers == {"X": "y", "Authorization": "JWT t"}


async def test_64_tasks_share_the_first_login() -> None:
    """A crowd that starts together logs in once."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    await asyncio.gather(*(auth(GET, institute) for _ in range(64)))
    assert len(institute.logins) == 1
    assert len(institute.calls) == 64


async def test_64_tasks_that_are_refused_log_in_once() -> None:
    """A token that dies under a crowd is replaced by one login, and every call succeeds."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    await auth(GET, institute)
    dead = institute.calls[-1]
    institute.accepts = lambda token: token != dead
    answers = await asyncio.gather(*(auth(GET, institute) for _ in range(64)))
    assert [answer.status for answer in answers] == [200] * 64
    assert len(institute.logins) == 2


async def test_a_given_token_is_used_until_it_is_refused() -> None:
    """Token plus password: log in only when the token no longer works."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock, token="given")
    await auth(GET, institute)
    assert institute.logins == []
    institute.accepts = lambda token: token != "JWT given"
    await auth(GET, institute)
    assert len(institute.logins) == 1


async def test_a_new_token_that_is_refused_at_once_ends_it() -> None:
    """Another login would be refused just so: neither this call nor a later one logs in again."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    institute.accepts = lambda token: False
    for _ in range(3):
        with pytest.raises(AuthenticationFailed, match="expired"):
            await auth(GET, institute)
    assert len(institute.logins) == 1


async def test_a_late_answer_to_the_old_token_proves_nothing_about_the_new() -> None:
    """A success of the token before does not open the way to a row of logins."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock, token="old")
    slow = asyncio.Event()

    async def late(request: Request) -> Response:
        await slow.wait()
        return reply()

    straggler = asyncio.ensure_future(auth(GET, late))
    await settle()
    institute.accepts = lambda token: False
    with pytest.raises(AuthenticationFailed):
        await auth(GET, institute)
    slow.set()
    await straggler
    with pytest.raises(AuthenticationFailed):
        await auth(GET, institute)
    assert len(institute.logins) == 1


async def test_a_request_is_signed_when_it_is_sent() -> None:
    """What waited while another call logged in goes out with the new token, and its success proves that."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock, token="old")
    turn, signatures = asyncio.Event(), list[str]()

    async def waits(request: Request) -> Response:
        await turn.wait()
        signatures.append(request.headers["Authorization"])
        return reply()

    async def fails_then(request: Request) -> Response:
        if request.target != LOGIN_PATH and request.headers["Authorization"] != "JWT old":
            raise ServerFault("GET", request.target, 503)
        return await institute(request)

    straggler = asyncio.ensure_future(auth(GET, waits))
    await settle()
    institute.accepts = lambda token: token != "JWT old"
    with pytest.raises(ServerFault):
        await auth(GET, fails_then)
    turn.set()
    await straggler
    [signature] = signatures
    assert signature == f"JWT {jwt({}, serial=1)}"
    institute.accepts = lambda token: token != signature
    assert (await auth(GET, institute)).status == 200
    assert len(institute.logins) == 2


async def test_signing_headers_show_nothing() -> None:
    """They are a mapping like any other, without a token in what they show; and without one until a login."""
    auth = password_auth(ManualClock(), token="s3cret")
    headers = SigningHeaders({"X": "y"}, auth)
    assert dict(headers) == {"X": "y", "Authorization": "JWT s3cret"}
    assert len(headers) == 2
    assert "s3cret" not in f"{headers!r} {headers!s}"
    with pytest.raises(KeyError):
        SigningHeaders({}, password_auth(ManualClock()))["Authorization"]


async def test_a_fixed_token_that_is_refused_is_reported() -> None:
    """Without a way to renew, a 401 is the answer, asked for once."""
    handler = Scripted([AuthenticationFailed("GET", "/", 401, detail="Invalid signature.")])
    with pytest.raises(AuthenticationFailed, match="Invalid signature"):
        await Auth(FixedToken("t"), ManualClock())(GET, handler)
    assert len(handler.requests) == 1


async def test_a_provider_is_asked_again_when_its_token_is_refused() -> None:
    """The caller's own source of tokens renews like a login."""
    given_out = iter(["first", "second"])

    async def provide() -> str:
        return next(given_out)

    institute = Institute(ManualClock())
    auth = Auth(ProvidedToken(provide), ManualClock())
    await auth(GET, institute)
    institute.accepts = lambda token: token == "JWT second"
    await auth(GET, institute)
    assert institute.calls == ["JWT first", "JWT first", "JWT second"]


# --- refusals and failures ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_login_is_final(status: int) -> None:
    """Accounts get locked: a refused login is not sent again, by waiters or by later calls."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    institute.login_failures = [refuse(status)]
    outcomes = await asyncio.gather(*(auth(GET, institute) for _ in range(8)), return_exceptions=True)
    with pytest.raises(AuthenticationFailed) as later:
        await auth(GET, institute)
    for error in [*outcomes, later.value]:
        assert type(error) is AuthenticationFailed
        assert error.status == status
        assert "Unable to log in (check username" in error.detail
        assert PASSWORD not in str(error) + repr(error)
    assert len({id(error) for error in outcomes}) == 8
    assert len(institute.logins) == 1
    assert institute.calls == []


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("parallel_login_restriction", "log out elsewhere"),
        ("max_login_exceeded", "wait until the lock ends"),
        ("another", "check username"),
    ],
)
async def test_a_refusal_says_what_helps(code: str, remedy: str) -> None:
    """Known codes have remedies of their own, also where the server gave no words."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    institute.login_failures = [refuse(403, "", code)]
    with pytest.raises(AuthenticationFailed, match=remedy) as caught:
        await auth(GET, institute)
    assert caught.value.error_code == code


async def test_waiters_share_a_transient_failure_of_the_login() -> None:
    """A server that is down is not asked to log in by every waiter in turn; a later call tries anew."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    fault = ServerFault("POST", LOGIN_PATH, 503, retry_after_s=2)
    institute.login_failures = [fault]
    outcomes = await asyncio.gather(*(auth(GET, institute) for _ in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ServerFault] * 8
    assert all(outcome.retry_after_s == 2 for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 8
    assert len(institute.logins) == 1
    assert (await auth(GET, institute)).status == 200
    assert len(institute.logins) == 2


async def test_a_login_given_up_by_an_impatient_caller_is_taken_over() -> None:
    """Its own limiter refused one caller's wait; the others, who may wait longer, log in themselves."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    institute.hold = asyncio.Event()
    institute.login_failures = [RateLimited("POST", LOGIN_PATH, 429, sent=False)]
    hasty = asyncio.ensure_future(auth(Request(target="/api/a/", lane="interactive"), institute))
    await settle()
    others = [asyncio.ensure_future(auth(GET, institute)) for _ in range(3)]
    await settle()
    institute.hold.set()
    with pytest.raises(RateLimited):
        await hasty
    assert [answer.status for answer in await asyncio.gather(*others)] == [200] * 3
    assert len(institute.logins) == 2


async def test_the_login_of_a_bulk_call_passes_waiting_bulk_calls() -> None:
    """They need its token; it waits as long as the call it is for."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    await auth(Request(target="/api/a/", deadline_s=2_000.0), institute)
    [login] = institute.logins
    assert (login.lane, login.max_wait_s, login.deadline_s) == ("interactive", math.inf, 2_000.0)


async def test_408_is_no_refused_login() -> None:
    """It says nothing about who logs in, so a later call logs in."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    institute.login_failures = [BadRequest("POST", LOGIN_PATH, 408)]
    with pytest.raises(BadRequest):
        await auth(GET, institute)
    assert (await auth(GET, institute)).status == 200
    assert len(institute.logins) == 2


async def test_a_cancelled_login_is_taken_over() -> None:
    """If the task that logs in is cancelled, another waiter logs in; nobody else notices."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    institute.hold = asyncio.Event()
    first = asyncio.ensure_future(auth(GET, institute))
    await settle()
    others = [asyncio.ensure_future(auth(GET, institute)) for _ in range(3)]
    await settle()
    assert len(institute.logins) == 1
    first.cancel()
    await settle()
    assert first.cancelled()
    assert len(institute.logins) == 2
    institute.hold.set()
    assert [answer.status for answer in await asyncio.gather(*others)] == [200] * 3
    assert len(institute.logins) == 2


@pytest.mark.parametrize("body", [b"{}", b'{"token": 5}', b"[]", b'{"token": "\xff"}', b"[" * 5000])
async def test_a_login_answer_without_token_is_reported_without_its_bytes(body: bytes) -> None:
    """The answer may hold a token somewhere, so the error holds nothing of it."""
    clock = ManualClock()
    with pytest.raises(DecodeFailed, match="login answer") as caught:
        await password_auth(clock)(GET, Scripted([reply(200, body)]))
    assert caught.value.raw == b""


# --- renewal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("life_s", "renewed_after_s"), [(3600, 3540), (100, 90)])
async def test_a_token_is_renewed_shortly_before_it_ends(life_s: int, renewed_after_s: float) -> None:
    """In its last tenth, at most a minute early, by one login for all; the server's Date is the clock."""
    clock = ManualClock(wall_s=5_000_000.0)  # this machine's clock is decades off
    institute = Institute(clock, claims=lambda serial: {"exp": 2_000_000_000 + life_s})
    institute.date = formatdate(2_000_000_000, usegmt=True)
    auth = password_auth(clock)
    await auth(GET, institute)
    await clock.advance(renewed_after_s - 1)
    await auth(GET, institute)
    assert len(institute.logins) == 1
    await clock.advance(1)
    await asyncio.gather(*(auth(GET, institute) for _ in range(8)))
    assert len(institute.logins) == 2


async def test_without_a_date_our_own_clock_counts() -> None:
    """A server that gives no Date is taken to agree with this machine."""
    clock, events = ManualClock(wall_s=2_000_000_000.0), list[Event]()
    institute = Institute(clock, claims=lambda serial: {"exp": 2_000_000_100})
    await password_auth(clock, emit=events.append)(GET, institute)
    assert events == [LoggedIn(lifetime_s=100.0)]


async def test_a_token_that_comes_expired_does_not_loop() -> None:
    """By a wrong clock every token is old; the server's 401 stays the only truth."""
    clock = ManualClock(wall_s=2_000_000_000.0)
    institute, auth = Institute(clock, claims=lambda serial: {"exp": 1_000_000_000}), password_auth(clock)
    for _ in range(5):
        await auth(GET, institute)
        await clock.advance(1000)
    assert len(institute.logins) == 1


async def test_an_early_renewal_that_fails_does_not_fail_the_call() -> None:
    """The old token is used as long as the server takes it."""
    clock = ManualClock(wall_s=2_000_000_000.0)
    institute, auth = Institute(clock, claims=lambda serial: {"exp": 2_000_000_100}), password_auth(clock)
    await auth(GET, institute)
    await clock.advance(95)
    institute.login_failures = [AnswerLost("POST", LOGIN_PATH, "cut")]
    assert (await auth(GET, institute)).status == 200
    assert len(institute.logins) == 2
    assert institute.calls[0] == institute.calls[1]


# --- reading a token ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "seconds"),
    [
        (jwt({"exp": 150}), 50.0),
        (jwt({"exp": 150.5, "username": 9}), 50.5),
        (jwt({"exp": 50}), -50.0),
        (jwt({}), None),
        (jwt({"exp": None}), None),
        (jwt({"exp": "soon"}), None),
        (jwt([1]), None),
        ("opaque", None),
        ("a.b", None),
        ("a.b.c.d", None),
        ("a.!.c", None),
        ("a.b.c", None),
    ],
)
def test_the_life_of_a_token_is_read_from_exp(token: str, seconds: float | None) -> None:
    """What has no readable exp has no known life."""
    assert lifetime_s(token, now_s=100.0) == seconds


@given(st.text(max_size=80), st.text(max_size=20), st.binary(max_size=80))
def test_no_token_crashes_the_reading(anything: str, head: str, payload: bytes) -> None:
    """A garbage JWT is a token without a known life, or with whatever number it claims."""
    for token in (anything, f"{head}.{base64.urlsafe_b64encode(payload).decode()}.x", f"a.{anything}.b"):
        life = lifetime_s(token, now_s=0.0)
        assert life is None or isinstance(life, int | float)


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a b", ""])
async def test_a_token_that_could_break_a_header_is_refused_before_it_is_used(token: str) -> None:
    """However it came: given, from a provider, or in a login answer; no request carries it."""
    with pytest.raises(ConfigError, match="token"):
        FixedToken(token)
    with pytest.raises(ConfigError, match="token"):
        Auth(FixedToken("t"), ManualClock(), token=token)

    async def provide() -> str:
        return token

    handler = Scripted()
    with pytest.raises(ConfigError, match="token_provider"):
        await Auth(ProvidedToken(provide), ManualClock())(GET, handler)
    assert handler.requests == []
    handler = Scripted([reply(200, msgspec.json.encode({"token": token}))])
    with pytest.raises(ConfigError, match="login answer"):
        await password_auth(ManualClock())(GET, handler)
    assert handler.targets == [LOGIN_PATH]


async def test_secrets_are_in_no_repr() -> None:
    """Tokens, login bodies and their holders show nothing."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    await auth(GET, institute)
    secret = institute.calls[0].removeprefix("JWT ")
    token = Token(secret, 5.0)
    assert token.__rich_repr__() == []
    for shown in (token, auth, PasswordLogin("admin", PASSWORD, clock), FixedToken(secret)):
        assert secret not in repr(shown) + str(shown)
        assert PASSWORD not in repr(shown) + str(shown)


async def test_requests_show_neither_token_nor_password() -> None:
    """A middleware that logs the request it sees cannot leak what signs it."""
    clock = ManualClock()
    institute, auth = Institute(clock), password_auth(clock)
    seen: list[Request] = []

    async def spy(request: Request) -> Response:
        seen.append(request)
        return await institute(request)

    await auth(GET, spy)
    assert len(seen) == 2
    secret = institute.calls[0].removeprefix("JWT ")
    for request in seen:
        assert secret not in repr(request) + str(request)
        assert PASSWORD not in repr(request) + str(request)


@pytest.mark.parametrize("error", [BadRequest, PermissionDenied, NotFound])
async def test_a_token_that_was_taken_for_a_refused_request_is_renewed_later(
    error: type[StatusError],
) -> None:
    """403 and 404 prove the token as well as 200 does: when it expires, one login follows."""
    clock = ManualClock()
    handler = Scripted(
        [
            reply(200, msgspec.json.encode({"token": jwt({}, serial=1)})),
            error("GET", "/api/x/", 403),
            AuthenticationFailed("GET", "/api/x/", 401),
            reply(200, msgspec.json.encode({"token": jwt({}, serial=2)})),
            reply(200),
        ]
    )
    auth = password_auth(clock)
    with pytest.raises(error):
        await auth(Request(target="/api/x/"), handler)
    assert (await auth(Request(target="/api/x/"), handler)).status == 200
    assert [request.method for request in handler.requests] == ["POST", "GET", "GET", "POST", "GET"]
