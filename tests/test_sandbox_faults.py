"""Every kind of fault the sandbox can be asked for, and what the client makes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import testpress_async as tp
from testpress_async.cli.app import run
from testpress_async.sandbox import KINDS, Sandbox, Settings
from tests.support.clock import AutoClock
from tests.support.exporting import command

SMALL: dict[str, Any] = {"attempts": 210, "per_page": 20, "exams": 3, "users": 20}


@asynccontextmanager
async def bad_day(
    faults: dict[str, float], timeouts: tp.Timeouts | None = None, **options: Any
) -> AsyncGenerator[tuple[Sandbox, tp.Client]]:
    """An institute with *faults* and a client that has a token; waits of both take no time."""
    clock = AutoClock()
    async with (
        Sandbox(**(SMALL | options), faults=faults, clock=clock) as institute,
        tp.Client(
            institute.url,
            token=institute.token(),
            username=institute.username,
            password=institute.password,
            clock=clock,
            timeouts=timeouts,
        ) as client,
    ):
        yield institute, client


IMPATIENT = tp.Timeouts(read_idle_s=0.05)
SAT_OUT = {
    "hang-up": (tp.AnswerLost, "the server closed the connection without an answer", 5),
    "reset": (tp.AnswerLost, "", 5),  # its words depend on how much of the answer the system passes on
    "cut": (tp.AnswerLost, "the body is cut or corrupt", 5),
    "stall": (tp.TimedOut, "read_idle_s=0.05 ran out", 5),
    "html": (tp.NotJSON, "expected JSON, got an HTML page titled “Maintenance”", 3),
    "empty": (tp.NotJSON, "expected JSON, got an empty body", 3),
    "not-json": (tp.NotJSON, "expected JSON, got the beginning of it: the body is cut", 3),
    "bad-gzip": (tp.AnswerLost, "the compressed body is cut or has a tail", 5),
    "500": (tp.ServerFault, "answered 500: Internal server error.", 5),
    "502": (tp.ServerFault, "answered 502: 502 Bad Gateway", 5),
    "503": (tp.ServerFault, "answered 503: Service Unavailable (asks to wait 1 s)", 5),
}
"""Error, its words and requests sent, when there is no end to it."""


def timeouts_for(kind: str) -> tp.Timeouts | None:
    return IMPATIENT if kind == "stall" else None


@pytest.mark.parametrize("kind", [*SAT_OUT, "429", "429-without-header", "drip"])
async def test_what_passes_is_sat_out(kind: str) -> None:
    """Three of ten requests go wrong and no record is lost."""
    async with bad_day({kind: 0.3}, timeouts_for(kind)) as (institute, client):
        ids = [attempt.id for attempt in await client.attempts.list().collect()]
        assert sorted(ids) == list(range(1, 211))
        assert institute.requests > 11


@pytest.mark.parametrize("kind", SAT_OUT)
async def test_what_does_not_pass_is_given_up(kind: str) -> None:
    """The same without end becomes one error after a few tries."""
    error, words, tries = SAT_OUT[kind]
    async with bad_day({kind: 1.0}, timeouts_for(kind)) as (institute, client):
        with pytest.raises(error) as caught:
            await client.attempts.list()
        assert words in str(caught.value)
        assert caught.value.tries == institute.requests == tries


async def test_drip_is_too_slow() -> None:
    """A body that comes byte by byte is given up for its pace, not for silence."""
    async with bad_day({"drip": 1.0}) as (institute, client):
        with pytest.raises(tp.TimedOut, match="min_bytes_per_s=1024 ran out") as caught:
            await client.attempts.list()
        assert caught.value.limit == "min_bytes_per_s"
        assert institute.requests == 5


async def test_gzip_bomb_is_refused() -> None:
    """A bomb is an error at once: the same page would be as large the next time."""
    async with bad_day({"gzip-bomb": 1.0}) as (institute, client):
        with pytest.raises(tp.BodyTooLarge) as caught:
            await client.attempts.list()
        assert caught.value.limit_bytes == 32 * 1024 * 1024
        assert institute.requests == 1


@pytest.mark.parametrize(
    "listed",
    [
        lambda client, **options: client.attempts.list(**options),
        lambda client, **options: client.attempts.user_answers(1, **options),
        lambda client, **options: client.content_attempts.list(**options),
        lambda client, **options: client.video_conferences.attendees(1, **options),
        lambda client, **options: client.exams.list(**options),
        lambda client, **options: client.users.list(**options),
        lambda client, **options: client.courses.list(**options),
    ],
)
async def test_bad_record_costs_one_record_a_page(listed: Any) -> None:
    """In every list the record in the middle is rejected by its place, and may be skipped."""
    async with bad_day({"bad-record": 1.0}) as (_, client):
        with pytest.raises(tp.DecodeFailed) as caught:
            await listed(client).collect()
        assert ".results" in caught.value.path
        assert caught.value.raw
        pages = [page async for page in listed(client, bad_records="skip").pages()]
        assert [len(page.rejected) for page in pages] == [1] * len(pages)


async def test_wrong_count_is_told_by_an_export(tmp_path: Path) -> None:
    """Streaming reads all there is; an export says that it could not prove it."""
    async with bad_day({"wrong-count": 1.0}) as (_, client):
        assert await client.attempts.list().count() == 211
        assert len(await client.attempts.list().collect()) == 210
        report = await tp.harvest(client, await tp.plan(client, tables=["exams"]), into=tp.Dataset(tmp_path))
        assert (report.records, report.unproven) == (3, ("exams",))


async def test_next_foreign_is_read_as_a_page_number(caplog: pytest.LogCaptureFixture) -> None:
    """All pages come from the institute, and the log says so."""
    caplog.set_level(logging.WARNING)
    async with bad_day({"next-foreign": 1.0}) as (institute, client):
        assert len(await client.attempts.list().collect()) == 210
        assert institute.requests == 11
    assert "https://elsewhere.example" in caplog.text


async def test_next_back_is_refused() -> None:
    """A `next` that leads back is an error, not a circle."""
    async with bad_day({"next-back": 1.0}) as (institute, client):
        with pytest.raises(tp.ListingChanged, match="`next` leads to page 1, expected 2") as caught:
            await client.attempts.list().collect()
        assert caught.value.page == 1
        assert institute.requests == 1


async def test_redirect_foreign_is_not_followed() -> None:
    """A redirect to another host is an error that names it."""
    async with bad_day({"redirect-foreign": 1.0}) as (institute, client):
        with pytest.raises(tp.ForeignOrigin, match="not followed") as caught:
            await client.attempts.list()
        assert caught.value.location == "https://elsewhere.example:443"
        assert institute.requests == 1


async def test_login_page_is_a_lost_session() -> None:
    """One login; after that the redirect is an error, never data."""
    async with bad_day({"login-page": 1.0}) as (institute, client):
        with pytest.raises(tp.AuthenticationFailed, match="most likely to a login page"):
            await client.attempts.list()
        assert [seen.method for seen in institute.log] == ["GET", "POST", "GET"]


async def test_login_locked_is_explained_and_not_repeated() -> None:
    """A lock that every further login prolongs is asked about once, however many calls there are."""
    async with bad_day({"login-locked": 1.0, "expired-token": 1.0}) as (institute, client):
        for _ in range(3):
            with pytest.raises(tp.AuthenticationFailed, match="wait until the lock ends") as caught:
                await client.attempts.list()
            assert caught.value.error_code == "max_login_exceeded"
        assert sum(seen.method == "POST" for seen in institute.log) == 1


async def test_login_down_is_sat_out() -> None:
    """A login that fails for now is tried again and no record is lost."""
    async with bad_day({"login-down": 0.6}, seed=3) as (institute, client):
        institute.revoke_tokens()
        assert len(await client.attempts.list().collect()) == 210
        assert {seen.status for seen in institute.log if seen.method == "POST"} == {200, 500}


async def test_expired_token_costs_logins() -> None:
    """Tokens that end early cost a login each and no record; those that end at once are an error."""
    async with bad_day({"expired-token": 0.3}) as (institute, client):
        assert len(await client.attempts.list().collect()) == 210
        refusals = sum(seen.status == 401 for seen in institute.log)
        assert sum(seen.method == "POST" for seen in institute.log) == refusals > 1
    async with bad_day({"expired-token": 1.0}) as (institute, client):
        with pytest.raises(tp.AuthenticationFailed, match="Signature has expired"):
            await client.attempts.list()
        assert [seen.method for seen in institute.log] == ["GET", "POST", "GET"]


async def test_other_session_is_explained() -> None:
    """A limit on sessions is told with its remedy, and no login is tried: it would push the other out."""
    async with bad_day({"other-session": 1.0}) as (institute, client):
        with pytest.raises(tp.AuthenticationFailed, match="log out elsewhere") as caught:
            await client.attempts.list()
        assert caught.value.error_code == "parallel_login_restriction"
        assert institute.requests == 1


@pytest.mark.parametrize("kind", ["429", "429-without-header"])
async def test_429_without_end_ends_with_the_deadline(kind: str) -> None:
    """Refusals are sat out as long as the deadline allows."""
    async with bad_day({kind: 1.0}) as (institute, client):
        with pytest.raises(tp.RateLimited):
            await client.attempts.list()
        assert 5 < institute.requests < 21


async def test_429_for_an_hour_is_told_at_once() -> None:
    """A wait beyond the deadline is not begun, its length is told."""
    async with bad_day({"429-for-an-hour": 1.0}) as (institute, client):
        with pytest.raises(tp.RateLimited) as caught:
            await client.attempts.list()
        assert caught.value.retry_after_s == 3600
        assert institute.requests == 1


def test_every_kind_has_its_test() -> None:
    """No kind is without a test here."""
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []


@pytest.mark.row(65)
@pytest.mark.parametrize("ignored", [("date_0", "date_1"), ("date_0",), ("ordering",)], ids="+".join)
async def test_an_ignored_filter_is_told_by_an_export(ignored: tuple[str, ...], tmp_path: Path) -> None:
    """A server that silently ignores what windows are made of costs no record, and the export says so."""
    async with bad_day({}, attempts=1_000, ignored_filters=frozenset(ignored)) as (_, client):
        reads = await tp.plan(client, tables=["attempts"])
        report = await tp.harvest(client, reads, into=tp.Dataset(tmp_path))
    assert report.records == 1_000
    assert report.unproven or report.notes


# --- shares ------------------------------------------------------------------------------------------


async def test_the_seed_decides_who_is_hit() -> None:
    """The same seed hits the same requests, another one others; the records stay."""

    async def statuses(seed: int) -> list[int]:
        async with bad_day({"500": 0.2, "502": 0.2, "next-foreign": 0.2}, seed=seed) as (institute, client):
            await client.attempts.list().collect()
            return [seen.status for seen in institute.log]

    told = await statuses(1)
    assert {500, 502, 200} == set(told)
    assert told == await statuses(1) != await statuses(2)


@pytest.mark.parametrize("kind", KINDS)
async def test_logins_suffer_the_kinds_for_logins_only(kind: str) -> None:
    """What is meant for data does not hit the login before it, nor the other way round."""
    async with (
        Sandbox(faults={kind: 1.0}) as institute,
        aiohttp.ClientSession(institute.url) as visitor,
        visitor.post("/api/v2.5/auth-token/", json={"username": "admin", "password": "sandbox"}) as login,
    ):
        assert (login.status == 200) is not KINDS[kind].of_logins


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"cat": 0.1}, "there is no 'cat'; there are hang-up, reset"),
        ({"cut": 1.1}, "the share of 'cut' is 0 to 1, not 1.1"),
        ({"cut": -0.1}, "is 0 to 1"),
        ({"cut": float("nan")}, "is 0 to 1"),
        ({"cut": 0.6, "html": 0.6}, "more than 1 together"),
        ({"login-down": 0.6, "login-locked": 0.6}, "more than 1 together"),
    ],
)
def test_unusable_shares_are_refused(faults: dict[str, float], words: str) -> None:
    """An unknown kind and a share that is none are told."""
    with pytest.raises(ValueError, match=words):
        Settings(faults=faults)


def test_shares_may_add_up_to_all() -> None:
    """Ten tenths are accepted although they are a little more than one in floating point."""
    assert len(Settings(faults=dict.fromkeys(list(KINDS)[:10], 0.1)).faults) == 10


# --- command line ------------------------------------------------------------------------------------


def test_help_names_every_kind(capfd: pytest.CaptureFixture[str]) -> None:
    """`sandbox --help` lists what can go wrong."""
    assert run(["sandbox", "--help"]) == 0
    out = capfd.readouterr().out
    assert [kind for kind in KINDS if kind not in out] == []


@pytest.mark.parametrize("fault", ["cat", "cut:", "cut:much", "cut:2", ":0.1", ""])
def test_an_unusable_fault_is_told(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A kind or share that cannot be ends with 2 and says so."""
    assert run(["sandbox", "--port", "0", "--fault", fault]) == 2
    assert "fault" in capfd.readouterr().err


async def test_faults_of_the_command_line_are_in_force() -> None:
    """`sandbox --fault … --fault …` announces them and serves them."""
    options = ("--fault", "html:0.9", "--fault", "cut", "--token-ttl-s", "60", "--ignored-filters", "date_0")
    process = command("sandbox", "--port", "0", *options, "--unstable-ties", env={})
    assert process.stderr is not None
    told = ""
    while "TESTPRESS_BASE_URL=" not in told:
        line = (await asyncio.to_thread(process.stderr.readline)).decode()
        assert line, f"ended early: {told}"
        told += line
    assert "faults: 90% html, 10% cut" in told
    url = told.partition("TESTPRESS_BASE_URL=")[2].split()[0]
    async with tp.Client(
        url, username="admin", password="sandbox", retry=tp.RetryPolicy(max_tries=1)
    ) as client:
        with pytest.raises((tp.NotJSON, tp.AnswerLost)):
            await client.attempts.list()
    process.terminate()
    await asyncio.to_thread(process.communicate)
