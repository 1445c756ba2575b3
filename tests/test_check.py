"""`testpress check`: one line per question; what depends on one that failed is not asked."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import StringIO
from pathlib import Path

import msgspec
import pytest
import trustme
from aiohttp import web
from rich.console import Console

from testpress_async.cli import exits
from testpress_async.cli.app import run
from testpress_async.cli.check import Checked, Doctor, Finding, show
from testpress_async.cli.connect import Connection, target
from testpress_async.cli.settings import ConfigFile
from testpress_async.errors import ConfigError
from testpress_async.sandbox import Fault, Sandbox
from tests.support.exporting import ATTEMPTS, CONTENT_ATTEMPTS, SMALL, environment, served
from tests.support.virtual_time import run as run_virtually

NO_FILE = ConfigFile(path=Path("nowhere"))
QUESTIONS = ["this machine", "settings", "address", "login", "admin", "clock", "a page", "date filters"]
QUESTIONS += ["whole institute", "request limit"]


async def _examined(
    base_url: str, username: str = "admin", password: str = "x", **options: str
) -> list[Finding]:
    known = {"TESTPRESS_PASSWORD": password}
    doctor = Doctor(target(Connection(base_url=base_url, username=username, **options), known, NO_FILE))
    await doctor.examine()
    return doctor.findings


async def _of(institute: Sandbox, **options: str) -> dict[str, Finding]:
    account = {"username": institute.username, "password": institute.password} | options
    found = await _examined(institute.url, **account)
    assert [each.what for each in found] == QUESTIONS[: len(found)]
    return {each.what: each for each in found}


async def test_a_usable_institute_is_green():
    """Everything that works has its green line with the facts."""
    async with Sandbox(**SMALL, per_page=25) as institute:
        found = await _of(institute)
    assert {each.verdict for each in found.values()} == {"ok"}
    facts = {what: each.fact for what, each in found.items()}
    assert list(facts) == QUESTIONS
    assert facts["settings"] == "address (--base-url), admin (--username), password (TESTPRESS_PASSWORD)"
    assert facts["login"] == "accepted; the token lives 1.0 hours"
    assert facts["clock"] == "within 60 s of the server's"
    assert facts["a page"].startswith("25 attempts, ")
    assert facts["date filters"] == "honoured: attempts are read in windows of days"
    assert facts["whole institute"] == (  # 3 pages and 1, and two requests for each attempt
        "60 attempts, 30 content attempts; 124 requests or more: 12 seconds at 10 a second (assumed)"
    )
    assert facts["request limit"].startswith("none met in ")


async def test_a_wrong_password_is_told_with_a_remedy():
    """A refused login is one red line that names it and what helps; nothing more is asked."""
    async with Sandbox(**SMALL) as institute:
        found = await _of(institute, password="wrong-one")
        assert len([seen for seen in institute.log if seen.path]) == 1
    login = found["login"]
    assert (login.verdict, login.exit_code) == ("bad", exits.REFUSED)
    assert "must be an admin" in login.remedy
    assert "wrong-one" not in repr(found)
    assert list(found)[-1] == "login"


async def test_an_account_that_is_no_admin_is_told_apart():
    """A student can log in, but not read: the line says that it takes an admin."""
    async with Sandbox(**SMALL) as institute:
        found = await _of(institute, username="student")
    assert (found["login"].verdict, found["admin"].verdict) == ("ok", "bad")
    assert found["admin"].exit_code == exits.REFUSED
    assert found["admin"].remedy.startswith("Use an admin account")


@pytest.mark.parametrize(
    ("ahead", "verdict", "fact"),
    [
        (timedelta(seconds=-30), "ok", "within 60 s"),
        (timedelta(minutes=-5), "warning", "5 minutes ahead of the server's"),
        (timedelta(days=30), "bad", "720.0 hours behind the server's"),
        (None, "warning", "the server sends no date"),
    ],
)
async def test_a_clock_that_is_off_is_told(ahead: timedelta | None, verdict: str, fact: str):
    """Yellow from a minute, red from ten; the check goes on."""
    date = "yesterday" if ahead is None else format_datetime(datetime.now(UTC) + ahead, usegmt=True)
    body = b'{"count":1,"next":null,"previous":null,"results":[]}'
    async with Sandbox(**SMALL) as institute:
        institute.script(Fault(path=ATTEMPTS, status=200, headers={"Date": date}, body=body))
        found = await _of(institute)
    assert found["clock"].verdict == verdict
    assert found["clock"].fact.startswith(fact)
    assert found["clock"].exit_code == (exits.FAILED if verdict == "bad" else exits.DONE)
    assert list(found) == QUESTIONS


async def test_filters_that_do_nothing_are_yellow():
    """A server that ignores date filters still works, and is told apart from one that honours them."""
    async with Sandbox(**SMALL, ignored_filters=frozenset({"date_0", "date_1"})) as institute:
        found = await _of(institute)
    assert found["date filters"].verdict == "warning"
    assert "ignores date_0 and date_1" in found["date filters"].fact
    async with Sandbox(**SMALL | {"attempts": 0}) as institute:
        assert (await _of(institute))["date filters"].fact == "no attempts to try them on"


async def test_a_later_question_can_fail_too():
    """Content attempts are gone: that line is red, the others are there."""
    async with Sandbox(**SMALL) as institute:
        institute.script(Fault(path=CONTENT_ATTEMPTS, status=404, body=b"{}", times=None))
        found = await _of(institute)
    assert list(found) == QUESTIONS
    assert (found["whole institute"].verdict, found["whole institute"].exit_code) == ("bad", exits.MISSING)


def test_a_limit_is_told():
    """As given, or as learned from a refusal a moment ago."""

    async def asked() -> Finding:
        async with Sandbox(**SMALL) as institute:
            assert (await _of(institute, rate="600/min"))["request limit"].fact == "600/min, as given"
            institute.script(Fault(path=ATTEMPTS, status=429, headers={"Retry-After": "1"}))
            return (await _of(institute))["request limit"]

    limit = run_virtually(asked())
    assert limit.verdict == "warning"
    assert limit.fact.startswith("1 × 429 just now: about ")


# --- the address ---------------------------------------------------------------------------------------


@asynccontextmanager
async def secure(certificate: trustme.LeafCert) -> AsyncIterator[str]:
    """The address of a server with *certificate* that knows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_certificate_nobody_vouches_for_is_red():
    """The reason is OpenSSL's, the remedy names the variable for an own authority."""
    async with secure(trustme.CA().issue_cert("localhost")) as address:
        last = (await _examined(address))[-1]
    assert (last.what, last.verdict, last.exit_code) == ("address", "bad", exits.UNREACHABLE)
    assert "certificate of localhost is refused: " in last.fact
    assert "SSL_CERT_FILE" in last.remedy


@pytest.mark.parametrize(("days", "verdict"), [(400, "ok"), (3, "warning")])
async def test_a_certificates_end_is_told(
    days: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Good for long is green, soon over yellow; both go on to the login."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    async with secure(authority.issue_cert("localhost", not_after=end)) as address:
        found = {each.what: each for each in await _examined(address)}
    assert found["address"].verdict == verdict
    assert f"{days} days" in found["address"].fact
    assert list(found)[-1] != "address"


@pytest.mark.parametrize(
    ("address", "fact"),
    [
        ("https://no.such.invalid", "no.such.invalid does not resolve"),
        ("https://127.0.0.1:1", "127.0.0.1:1 cannot be connected to"),
    ],
)
async def test_an_address_nobody_answers_at_is_red(address: str, fact: str):
    """It is the last line, with what to look at."""
    last = (await _examined(address))[-1]
    assert (last.what, last.verdict, last.exit_code) == ("address", "bad", exits.UNREACHABLE)
    assert last.fact.startswith(fact)
    assert last.remedy


async def test_https_at_a_plain_port_is_red():
    """Scheme and port do not fit."""
    async with Sandbox(**SMALL) as institute:
        last = (await _examined(institute.url.replace("http:", "https:")))[-1]
    assert "does not speak TLS" in last.fact
    assert last.exit_code == exits.UNREACHABLE


async def test_a_missing_address_is_a_config_error():
    """Without an address there is nothing to ask."""
    with pytest.raises(ConfigError, match="--base-url"):
        await Doctor(target(Connection(), {}, NO_FILE)).examine()


# --- the command -----------------------------------------------------------------------------------------


def test_marks_and_remedies_are_shown():
    """A mark for each verdict, the remedy under its line; what the server said is no markup."""
    file = StringIO()
    for verdict in ("ok", "warning", "bad"):
        show(Console(file=file), Finding(what="login", verdict=verdict, fact="[red]no", remedy="Help."))
    assert file.getvalue().splitlines() == [
        line for mark in "✓!✗" for line in (f"{mark} login           [red]no", "                  → Help.")
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_fact_is_one_line_in_a_log_and_folded_on_a_terminal(terminal: bool):
    """Whatever the width of the console is taken for, nothing is cut."""
    file, fact, remedy = StringIO(), "word " * 30 + "end", "help " * 30 + "end"
    console = Console(file=file, width=80, force_terminal=terminal, color_system=None)
    show(console, Finding(what="whole institute", verdict="ok", fact=fact, remedy=remedy))
    lines = file.getvalue().splitlines()
    assert " ".join(file.getvalue().split()) == f"✓ whole institute {fact} → {remedy}"
    assert (len(lines) == 2) is not terminal
    assert all(len(line) <= 80 for line in lines) is terminal


@pytest.mark.parametrize(("username", "code"), [("admin", exits.DONE), ("student", exits.REFUSED)])
def test_json_tells_the_same(
    username: str, code: int, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
):
    """Every finding, and the code the check ends with."""
    with served() as institute:
        address = institute.url
        for name, value in environment(institute).items():
            monkeypatch.setenv(name, value)
        assert run(["check", "--json", "--username", username]) == code
    out, err = capfdbinary.readouterr()
    checked = msgspec.json.decode(out, type=Checked)
    assert (checked.base_url, checked.exit_code, err) == (address, code, b"")
    asked = [each.what for each in checked.findings]
    assert asked == QUESTIONS[: len(asked)]
    assert len(asked) == (len(QUESTIONS) if code == exits.DONE else 5)
