"""Rows 75 to 82 of the fault matrix: tokens and logins that go wrong, over real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import msgspec
import pytest

import testpress_async as tp
from testpress_async.http.auth import LOGIN_PATH, lifetime_s
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock, ManualClock
from tests.support.pages import page
from tests.support.raw_server import RawServer, http

ATTEMPTS = "/api/v2.5/admin/attempts/"
PASSWORD = "hunter2-is-secret"
HTML = {"Content-Type": "text/html; charset=utf-8"}


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[Sandbox, tp.Client]]:
    """A small institute and a client that has to log in first; *options* of the client."""
    async with (
        Sandbox(attempts=60, per_page=5, exams=2, users=5, courses=2, conferences=2) as institute,
        tp.Client(
            institute.url, username=institute.username, password=institute.password, **options
        ) as client,
    ):
        yield institute, client


async def until(holds: Callable[[], bool]) -> None:
    """Let sockets and tasks go on until *holds*."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it becomes true in the server's own tasks
            await asyncio.sleep(0)


def seen(institute: Sandbox) -> Counter[tuple[str, int]]:
    """How often the institute answered each method with each status."""
    return Counter((each.method, each.status) for each in institute.log)


def logins(institute: Sandbox) -> int:
    return sum(each.path == LOGIN_PATH for each in institute.log)


def json_fault(status: int, body: object, **more: Any) -> Fault:
    return Fault(status=status, body=msgspec.json.encode(body), **more)


# --- 75: the token ends in the middle of a run ----------------------------------------------------------


@pytest.mark.row(75)
async def test_tokens_that_live_two_seconds_lose_no_record() -> None:
    """A listing outlives many tokens: each 401 costs one login and one replay, every record comes once."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=60, per_page=5, token_ttl_s=2.0, clock=clock) as institute,
        tp.Client(
            institute.url, username=institute.username, password=institute.password, clock=clock
        ) as client,
    ):
        ids = list[int]()
        async for read in client.attempts.list().pages():
            ids += [attempt.id for attempt in read.items]
            await clock.advance(1.1)
    assert ids == institute.truth.ids("attempts")
    counts = seen(institute)
    assert counts["GET", 200] == 12
    assert counts["GET", 401] >= 3
    assert counts["POST", 200] == counts["GET", 401] + 1


@pytest.mark.row(75)
@pytest.mark.parametrize("window", [1, 8])
async def test_a_token_revoked_in_mid_run_costs_one_login(window: int) -> None:
    """However many pages are on the way when every session is logged out."""
    async with opened() as (institute, client):
        ids = list[int]()
        async for read in client.attempts.list().pages(window):
            ids += [attempt.id for attempt in read.items]
            if read.number == 3:
                institute.revoke_tokens()
    assert ids == institute.truth.ids("attempts")
    assert seen(institute)["POST", 200] == 2


@pytest.mark.row(75)
async def test_a_token_that_ends_while_a_request_waits_for_the_limiter_is_never_sent() -> None:
    """Two requests an hour, tokens that live five minutes: each hour a login and its page, not one 401."""
    clock = ManualClock(wall_s=WALL_S)
    async with (
        Sandbox(attempts=60, per_page=5, clock=clock) as institute,
        tp.Client(
            institute.url,
            username="admin",
            password=PASSWORD,
            clock=clock,
            rate=tp.RatePolicy(requests=2, per_s=3_600),
            timeouts=tp.Timeouts(total_s=86_400),
        ) as client,
    ):
        for serial in range(4):
            wall_s = WALL_S + 3_600 * serial
            token = jwt(b'{"exp": %d}' % (wall_s + 300), serial)
            date = {"Date": formatdate(wall_s, usegmt=True)}
            institute.script(json_fault(200, {"token": token}, path=LOGIN_PATH, headers=date))
        institute.script(Fault(path=ATTEMPTS, status=200, body=page([1], count=1), times=None))
        calls = [asyncio.create_task(client.attempts.list().count()) for _ in range(4)]
        while not all(call.done() for call in calls):
            await until(lambda: client._session.gate.in_flight == 0)
            await clock.advance(600)
        assert [(each.method, each.status) for each in institute.log] == [("POST", 200), ("GET", 200)] * 4


# --- 76: a crowd is refused -----------------------------------------------------------------------------


@pytest.mark.row(76)
async def test_64_tasks_that_are_refused_log_in_once() -> None:
    """All 64 are at the server with the dead token when it answers: one login, 64 replays."""
    async with opened(max_connections=64) as (institute, client):
        await client.attempts.list()
        institute.revoke_tokens()
        refuse = asyncio.Event()
        institute.script(Fault(path=ATTEMPTS, hold=refuse, times=64))
        tasks = [asyncio.create_task(client.attempts.list().count()) for _ in range(64)]
        await until(lambda: institute.in_flight == 64)
        refuse.set()
        assert await asyncio.gather(*tasks) == [60] * 64
    assert seen(institute) == {("POST", 200): 2, ("GET", 200): 1 + 64, ("GET", 401): 64}


@pytest.mark.row(76)
async def test_a_late_refusal_of_the_old_token_uses_the_new_one() -> None:
    """A 401 that arrives after the renewal is about the old token: no second login."""
    async with opened(max_connections=64) as (institute, client):
        await client.attempts.list()
        institute.revoke_tokens()
        early, late = asyncio.Event(), asyncio.Event()
        institute.script(
            Fault(path=ATTEMPTS, hold=early, times=32), Fault(path=ATTEMPTS, hold=late, times=32)
        )
        tasks = [asyncio.create_task(client.attempts.list().count()) for _ in range(64)]
        await until(lambda: institute.in_flight == 64)
        early.set()
        await asyncio.gather(*tasks[:1])
        await until(lambda: seen(institute)["GET", 200] == 1 + 32)
        late.set()
        assert await asyncio.gather(*tasks) == [60] * 64
    assert seen(institute) == {("POST", 200): 2, ("GET", 200): 1 + 64, ("GET", 401): 64}


# --- 77: who logs in is cancelled -----------------------------------------------------------------------


@pytest.mark.row(77)
async def test_a_cancelled_login_is_taken_over_again_and_again() -> None:
    """Three owners of the login go one after the other; the rest notice nothing."""
    answer = asyncio.Event()
    async with opened() as (institute, client):
        institute.script(Fault(path=LOGIN_PATH, hold=answer, times=None))
        tasks = [asyncio.create_task(client.attempts.list().count()) for _ in range(8)]
        for gone in range(3):
            await until(lambda gone=gone: institute.requests == gone + 1 and institute.in_flight == 1)
            tasks[gone].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[gone]
        await until(lambda: institute.requests == 4)
        answer.set()
        assert await asyncio.gather(*tasks[3:]) == [60] * 5
        assert client.requests_sent == 4 + 5
    assert seen(institute)["POST", 200] == 1


@pytest.mark.row(77)
async def test_all_waiters_may_go() -> None:
    """When everybody is cancelled nothing is left, and the next call logs in."""
    async with opened() as (institute, client):
        institute.script(Fault(path=LOGIN_PATH, hold=asyncio.Event()))
        tasks = [asyncio.create_task(client.attempts.list().count()) for _ in range(8)]
        await until(lambda: institute.in_flight == 1)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        await until(lambda: institute.in_flight == 0)
        assert await client.attempts.list().count() == 60


# --- 78: the login itself fails -------------------------------------------------------------------------


@pytest.mark.row(78)
@pytest.mark.parametrize("status", [400, 401, 403, 405, 422])
async def test_a_refused_login_is_asked_once_and_never_again(status: int) -> None:
    """64 tasks and later calls: one POST, no GET, the same typed error for all; nobody is locked out."""
    async with opened() as (institute, client):
        words = {"non_field_errors": ["Unable to log in with provided credentials."]}
        institute.script(json_fault(status, words, path=LOGIN_PATH, times=None))
        tasks = [asyncio.create_task(client.attempts.list().count()) for _ in range(64)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(tp.AuthenticationFailed, match="Unable to log in") as later:
            await client.users.list().count()
        for error in (*outcomes, later.value):
            assert isinstance(error, tp.AuthenticationFailed)
            assert error.status == status
            assert institute.password not in f"{error!r} {error}"
    assert seen(institute) == {("POST", status): 1}


@pytest.mark.row(78)
async def test_a_wrong_password_does_not_lock_the_account() -> None:
    """An institute that locks after five wrong logins still has the account open after 50 calls of ours."""
    async with (
        Sandbox(attempts=60, max_bad_logins=5) as institute,
        tp.Client(institute.url, username=institute.username, password="wrong") as client,
    ):
        for _ in range(50):
            with pytest.raises(tp.AuthenticationFailed, match="check username and password"):
                await client.attempts.list()
        async with tp.Client(
            institute.url, username=institute.username, password=institute.password
        ) as another:
            assert await another.attempts.list().count() == 60


@pytest.mark.row(78)
@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(path=LOGIN_PATH, status=status, times=2) for status in (408, 500, 502, 503, 504)),
        Fault(path=LOGIN_PATH, status=200, headers=HTML, body=b"<html>one moment</html>", times=2),
        Fault(path=LOGIN_PATH, status=200, times=2),
        Fault(path=LOGIN_PATH, drop=True, times=2),
        Fault(path=LOGIN_PATH, cut_after_bytes=9, times=2),
        json_fault(429, {"detail": "Request was throttled."}, path=LOGIN_PATH, times=2),
    ],
    ids=["408", "500", "502", "503", "504", "html", "empty", "dropped", "cut", "429"],
)
async def test_a_login_that_fails_for_now_is_tried_again(fault: Fault) -> None:
    """After pauses on the clock it goes through, and the call with it."""
    clock = AutoClock()
    async with opened(clock=clock) as (institute, client):
        institute.script(fault)
        assert await client.attempts.list().count() == 60
        assert logins(institute) == 3
    assert sum(clock.slept_s) > 0


@pytest.mark.row(78)
async def test_a_login_that_hangs_ends_with_its_limit_and_is_tried_again() -> None:
    """The limit on silence holds for logins too."""
    async with opened(clock=AutoClock(), timeouts=tp.Timeouts(read_idle_s=0.05)) as (institute, client):
        institute.script(Fault(path=LOGIN_PATH, hold=asyncio.Event()))
        assert await client.attempts.list().count() == 60
        assert client.requests_sent == 3


@pytest.mark.row(78)
async def test_a_login_that_is_down_for_good_costs_a_call_its_tries() -> None:
    """Bounded by the tries of one call and the shared budget, not by the number of tasks in turn."""
    async with opened(clock=AutoClock()) as (institute, client):
        institute.script(Fault(path=LOGIN_PATH, status=503, times=None))
        with pytest.raises(tp.ServerFault) as caught:
            await client.attempts.list()
        assert (caught.value.method, caught.value.tries) == ("POST", 5)
        assert logins(institute) == 5


@pytest.mark.row(78)
async def test_those_who_share_a_failed_login_keep_their_own_place() -> None:
    """Each error of a shared failure has the resume token of its own list."""
    async with opened(retry=tp.RetryPolicy(max_tries=1)) as (institute, client):
        institute.script(Fault(path=LOGIN_PATH, status=503))
        parents = institute.truth.ids("attempts")[:8]
        async with client.fan_out(parents, client.attempts.user_answers, on_error="collect") as results:
            assert [each async for each in results] == []
        assert len(results.errors) == 8
        assert logins(institute) == 1
        for parent, error in results.errors:
            assert error.resume_token is not None
            client.attempts.user_answers(parent).resume(error.resume_token)  # refuses another list's


CODES = [
    ("max_login_exceeded", "wait until the lock ends"),
    ("parallel_login_restriction", "log out elsewhere"),
]
SHAPES: list[Callable[[str], object]] = [
    lambda code: {"error_code": code, "detail": "No more."},
    lambda code: {"detail": {"error_code": code, "message": "No more."}},
]


@pytest.mark.row(78)
@pytest.mark.parametrize(("code", "remedy"), CODES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [400, 403, 429])
async def test_locks_and_session_limits_are_explained_and_never_hammered(
    code: str, remedy: str, shape: Callable[[str], object], status: int
) -> None:
    """JSON under text/html, both shapes, also as a 429: one POST however often is called, and what helps."""
    async with opened(clock=AutoClock()) as (institute, client):
        institute.script(json_fault(status, shape(code), headers=HTML, path=LOGIN_PATH, times=None))
        for _ in range(5):
            with pytest.raises(tp.AuthenticationFailed, match=f"No more .*{remedy}") as caught:
                await client.attempts.list()
            assert caught.value.error_code == code
        assert seen(institute) == {("POST", status): 1}


@pytest.mark.row(78)
@pytest.mark.parametrize(("code", "remedy"), CODES)
@pytest.mark.parametrize(("status", "error"), [(403, tp.PermissionDenied), (401, tp.AuthenticationFailed)])
async def test_a_session_limit_on_an_ordinary_request_causes_no_login(
    code: str, remedy: str, status: int, error: type[tp.StatusError]
) -> None:
    """A login would push the other session out, which would push ours out: explained, asked once, no POST."""
    async with opened() as (institute, client):
        await client.attempts.list()
        institute.script(json_fault(status, SHAPES[0](code), headers=HTML, path=ATTEMPTS, times=3))
        for _ in range(3):
            with pytest.raises(error, match=f"No more .*{remedy}") as caught:
                await client.attempts.list()
            assert caught.value.error_code == code
        assert await client.attempts.list().count() == 60
        assert seen(institute) == {("POST", 200): 1, ("GET", 200): 2, ("GET", status): 3}


@pytest.mark.row(78)
async def test_a_login_is_as_patient_as_the_call_it_is_for() -> None:
    """When the limit is used up a person's login gives up at once, an export's waits for its turn."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=60, per_page=5, clock=clock) as institute,
        tp.Client(
            institute.url,
            token="dead",
            username=institute.username,
            password=institute.password,
            rate=tp.RatePolicy(requests=2, per_s=60),
            clock=clock,
        ) as client,
    ):
        answer = asyncio.Event()
        institute.script(Fault(path=ATTEMPTS, hold=answer, times=2))
        person = asyncio.create_task(client.with_options(priority="interactive").attempts.list().count())
        await until(lambda: institute.in_flight == 1)
        export = asyncio.create_task(client.attempts.list().count())
        await until(lambda: institute.in_flight == 2)
        answer.set()
        with pytest.raises(tp.RateLimited) as caught:
            await person
        assert not caught.value.sent
        await until(lambda: clock.sleepers > 0)
        await clock.advance(61)
        await until(lambda: logins(institute) == 1)
        await until(lambda: export.done() or clock.sleepers > 0)
        await clock.advance(61)
        assert await export == 60


# --- 79: a new token is refused -------------------------------------------------------------------------


@pytest.mark.row(79)
@pytest.mark.parametrize("given", [True, False])
async def test_a_new_token_that_is_refused_at_once_ends_it(given: bool) -> None:
    """One login, one replay, the error; later calls ask once more and log in no more."""
    async with (
        Sandbox(attempts=60) as institute,
        tp.Client(
            institute.url,
            token="given" if given else None,
            username=institute.username,
            password=institute.password,
        ) as client,
    ):
        refusal = {"detail": "Signature has expired."}
        institute.script(json_fault(401, refusal, path="/api/v2.5/admin/", times=None))
        for _ in range(4):
            with pytest.raises(tp.AuthenticationFailed, match=r"Signature has expired"):
                await client.attempts.list()
        assert seen(institute) == {("POST", 200): 1, ("GET", 401): 4 + given}


@pytest.mark.row(79)
async def test_a_refused_new_token_is_replaced_later_and_later() -> None:
    """A minute later one more login is tried, then two minutes, four, five: never a row of them; and the
    first token that is taken ends it."""
    clock = ManualClock()
    async with (
        Sandbox(attempts=60) as institute,
        tp.Client(
            institute.url, username=institute.username, password=institute.password, clock=clock
        ) as client,
    ):
        refusing = institute.script(Fault(path="/api/v2.5/admin/", status=401, times=None))
        began_s, at_s = clock.now_s(), list[float]()
        for _ in range(100):
            before = logins(institute)
            with pytest.raises(tp.AuthenticationFailed):
                await client.attempts.list()
            if logins(institute) > before:
                at_s.append(clock.now_s() - began_s)
            await clock.advance(10)
        assert at_s == [0, 60, 180, 420, 720]
        institute.clear_faults()
        assert refusing[0].hits > 100
        assert await client.attempts.list().count() == 60


@pytest.mark.row(79)
async def test_a_login_that_answers_401_hangs_on_nothing() -> None:
    """The login is outside of what renews tokens, so it cannot wait for itself."""
    async with opened() as (institute, client):
        institute.script(Fault(path=LOGIN_PATH, status=401, times=None))
        async with asyncio.timeout(10):
            with pytest.raises(tp.AuthenticationFailed):
                await client.attempts.list()
        assert logins(institute) == 1


# --- 80: what a token says of itself --------------------------------------------------------------------


def jwt(claims: bytes, serial: int = 0) -> str:
    """An unsigned token with these bytes as its claims; *serial* makes it another one."""
    return f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.sig{serial}"


WALL_S = 1_700_000_000
ODD_TOKENS = [
    *(jwt(b'{"exp": %d}' % (WALL_S + off_s)) for off_s in (3600, -3600, 0, 1)),
    jwt(b"{}"),
    jwt(b'{"exp": null}'),
    jwt(b'{"exp": "soon"}'),
    jwt(b'{"exp": -1}'),
    jwt(b'{"exp": 1e308}'),
    jwt(b'{"exp": 1e999}'),
    jwt(b'{"exp": 1' + b"0" * 30 + b"}"),
    jwt(b'{"exp": 1' + b"0" * 400 + b"}"),
    jwt(b"\xff\xfe"),
    jwt(b"[" * 5000),
    "not-a-token",
    "a.b.c",
    "....",
]


@pytest.mark.row(80)
@pytest.mark.parametrize("token", ODD_TOKENS, ids=range(len(ODD_TOKENS)))
async def test_whatever_exp_says_the_servers_401_is_the_truth(token: str) -> None:
    """Any token works until it is refused: no crash, no row of logins; then one login follows."""
    clock = ManualClock(wall_s=WALL_S)
    async with (
        Sandbox(attempts=60, per_page=5) as institute,
        tp.Client(institute.url, username="admin", password=PASSWORD, clock=clock) as client,
    ):
        date = {"Date": formatdate(WALL_S, usegmt=True)}
        institute.script(
            json_fault(200, {"token": token}, path=LOGIN_PATH, headers=date),
            json_fault(200, {"token": "another"}, path=LOGIN_PATH, headers=date),
            Fault(path=ATTEMPTS, status=200, body=page([1]), times=3),
            Fault(path=ATTEMPTS, status=401),
            Fault(path=ATTEMPTS, status=200, body=page([1]), times=None),
        )
        for _ in range(3):
            assert await client.attempts.list()
        assert logins(institute) == 1
        assert await client.attempts.list()
        assert logins(institute) == 2


@pytest.mark.row(80)
def test_an_exp_too_large_for_a_float_is_no_known_life() -> None:
    """Four hundred digits fit a JSON number, not a clock."""
    assert lifetime_s(jwt(b'{"exp": 1' + b"0" * 400 + b"}"), now_s=1.5) is None


@pytest.mark.row(80)
@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
async def test_a_wrong_clock_here_changes_nothing(skew_s: float) -> None:
    """The life of a token is counted from the server's `Date`: renewed once, a minute before its end."""
    clock = ManualClock(wall_s=WALL_S + skew_s)
    async with (
        Sandbox(attempts=60, per_page=5) as institute,
        tp.Client(institute.url, username="admin", password=PASSWORD, clock=clock) as client,
    ):
        date = {"Date": formatdate(WALL_S, usegmt=True)}
        first = {"token": jwt(b'{"exp": %d}' % (WALL_S + 3600))}
        second = {"token": jwt(b'{"exp": %d}' % (WALL_S + 7200))}
        institute.script(
            json_fault(200, first, path=LOGIN_PATH, headers=date),
            json_fault(200, second, path=LOGIN_PATH, headers=date),
            Fault(path=ATTEMPTS, status=200, body=page([1]), times=None),
        )
        await client.attempts.list()
        await clock.advance(3539)
        await client.attempts.list()
        assert logins(institute) == 1
        await clock.advance(2)
        await asyncio.gather(*(client.attempts.list().count() for _ in range(8)), return_exceptions=True)
        assert logins(institute) == 2


# --- 81: refused for one id -----------------------------------------------------------------------------


@pytest.mark.row(81)
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_forbidden_and_a_missing_parent_cost_only_themselves(ordered: bool) -> None:
    """Their errors come with their ids, the others go on; asked again, the server decides anew."""
    async with opened() as (institute, client):
        parents = institute.truth.ids("attempts")[:10]
        forbidden, missing = parents[2], parents[6]
        institute.script(
            json_fault(403, {"detail": "No permission."}, path=f"/api/v3/admin/attempts/{forbidden}/"),
            json_fault(404, {"detail": "Not found."}, path=f"/api/v3/admin/attempts/{missing}/"),
        )
        found = Counter[int]()
        async with client.fan_out(
            parents, client.attempts.user_answers, on_error="collect", ordered=ordered
        ) as results:
            async for parent, _ in results:
                found[parent] += 1
        errors = {parent: type(error) for parent, error in results.errors}
        assert errors == {forbidden: tp.PermissionDenied, missing: tp.NotFound}
        assert seen(institute)["POST", 200] == 1  # a 403 is not about the token
        for parent in parents:
            count = await client.attempts.user_answers(parent).count()
            assert found[parent] == (0 if parent in errors else count)
            assert count > 0  # nothing remembers that it was refused or absent


# --- 82: unusable tokens --------------------------------------------------------------------------------

UNUSABLE = ["", " ", "a b", "a\r\nX-Evil: 1", "a\nb", "a\x00b", "snow☃man", "t?x=1", "a,b", "ключ"]


@pytest.mark.row(82)
@pytest.mark.parametrize("token", UNUSABLE)
async def test_a_token_that_could_break_a_header_is_refused_before_any_byte(token: str) -> None:
    """Given, provided, or out of a login's answer: a ConfigError without it, and no request carries it."""

    async def provide() -> str:
        return token

    answer = http(msgspec.json.encode({"token": token}))
    async with RawServer(answer) as server:
        with pytest.raises(tp.ConfigError) as given:
            tp.Client(server.origin, token=token)
        with pytest.raises(tp.ConfigError) as provided:
            async with tp.Client(server.origin, token_provider=provide) as client:
                await client.attempts.list()
        assert server.connections == 0
        with pytest.raises(tp.ConfigError) as answered:
            async with tp.Client(server.origin, username="admin", password=PASSWORD) as client:
                await client.attempts.list()
        assert server.targets == [LOGIN_PATH]
    for caught in (given, provided, answered):
        assert "token" in caught.value.parameter
        assert not token.strip() or token not in f"{caught.value!r}"


@pytest.mark.row(82)
async def test_the_token_travels_in_its_header_and_nowhere_else() -> None:
    """Not in a URL, where logs and proxies would keep it; and an address that holds one is refused."""
    secret = jwt(b'{"exp": 1}', serial=7)
    async with RawServer(http(page([1], count=1))) as server:
        async with tp.Client(server.origin, token=secret) as client:
            await client.attempts.list(exams=[5], ordering="date")
            await client.users.list(q="asha").count()
        for head in server.heads:
            lines = [line for line in head.split(b"\r\n") if secret.encode() in line]
            assert lines == [b"Authorization: JWT " + secret.encode()]
        for address in (f"{server.origin}/?token={secret}", server.origin.replace("://", f"://{secret}@")):
            with pytest.raises(tp.ConfigError) as caught:
                tp.Client(address, token="t")
            assert secret not in f"{caught.value!r}"
