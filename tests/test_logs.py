"""The log: what an operator reads at each level, nothing secret in it, and nothing done while it is off."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import testpress_async as tp
from testpress_async.http.logs import tell
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.support.exporting import ATTEMPTS, EXAMS, export, opened
from tests.support.pages import page
from tests.support.virtual_time import in_virtual_time

PERSON = "asha-SECRET"
Lines = list[tuple[str, str, str]]


async def lines_of(caplog: pytest.LogCaptureFixture, level: int, *faults: Fault, **options: Any) -> Lines:
    """What the log says, at *level*, while a search and twelve pages are read."""
    async with Sandbox(attempts=240, per_page=20, **options) as institute:
        institute.script(*faults)
        account = {"username": institute.username, "password": institute.password}
        with caplog.at_level(level, "testpress_async"):
            async with tp.Client(institute.url, **account) as client:
                await client.users.list(q=PERSON)
                await client.attempts.list().collect(window=8)
        assert institute.password not in caplog.text
        assert "JWT" not in caplog.text
    assert PERSON not in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("testpress_async.")]
    return [(record.name, record.levelname, record.getMessage()) for record in ours]


async def test_a_good_run_says_that_it_logged_in_and_no_more(
    caplog: pytest.LogCaptureFixture, client: tp.Client
) -> None:
    """At INFO; nothing at WARNING, so that a quiet log means that all is well."""
    with caplog.at_level(logging.INFO, "testpress_async"):
        await client.attempts.list().collect()
    (line,) = caplog.records
    assert (line.name, line.levelname) == ("testpress_async.auth", "INFO")
    assert re.fullmatch(r"logged in; the token lasts 3,(599|6\d\d) s", line.getMessage())


@in_virtual_time
async def test_every_call_is_a_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """With method, URL, status, size and time; personal filter values are left out."""
    lines = await lines_of(caplog, logging.DEBUG)
    calls = [text for name, _, text in lines if name == "testpress_async.http"]
    assert len(calls) == 13
    assert calls[0].startswith("GET /api/v2.5/admin/users/?q=…: 200, ")
    assert calls[0].endswith(" s")


async def test_a_failed_call_is_a_line_at_debug_too(
    caplog: pytest.LogCaptureFixture, institute: Sandbox, client: tp.Client
) -> None:
    """By the class of its error; louder is the caller's affair, who gets the error."""
    with caplog.at_level(logging.DEBUG, "testpress_async"), pytest.raises(tp.NotFound):
        await client.attempts.get(999_999_999)
    last = caplog.records[-1]
    assert (last.levelname, last.name) == ("DEBUG", "testpress_async.http")
    assert last.getMessage().startswith("GET /api/v2.5/admin/attempts/999999999/: NotFound, 0 bytes in 0.")
    assert not [each for each in caplog.records if each.levelno > logging.INFO]


@in_virtual_time
async def test_repeated_tries_and_the_first_429_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """The retry budget bounds the first; a limit is met again and again, which is no news."""
    fault = Fault(path=ATTEMPTS, status=503, body=b'{"detail": "Down"}', times=2)
    lines = await lines_of(caplog, logging.INFO, fault, rate=RateLimit(6, 60.0))
    tries = [line for line in lines if "failed" in line[2]]
    assert {line[:2] for line in tries} == {("testpress_async.http", "WARNING")}
    assert [text.split(" ")[1] for _, _, text in tries] == ["1", "2"]
    assert tries[0][2].endswith("s: GET /api/v2.5/admin/attempts/ answered 503: Down")
    levels = [level for _, level, text in lines if "answered 429" in text]
    assert Counter(levels)["WARNING"] == 1
    assert levels[0] == "WARNING"
    assert len(levels) > 1


@in_virtual_time
async def test_a_wait_is_a_line_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, with what can be foreseen."""
    async with Sandbox() as institute:
        rate, token = tp.RatePolicy(requests=1, per_s=40), institute.token()
        async with tp.Client(institute.url, token=token, rate=rate) as client:
            await client.exams.list()
            with caplog.at_level(logging.DEBUG, "testpress_async.http"):
                await client.exams.list()
    assert caplog.records[0].getMessage() == "/api/v2.5/admin/exams/ waits for the limiter, 40 s"


async def test_a_harvest_tells_its_tables(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """INFO for what was proved, one WARNING a table for records that are not usable, without their values."""
    async with opened() as (institute, client):
        body = page([1, {"a": PERSON}, {"b": PERSON}])
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        with caplog.at_level(logging.INFO, "testpress_async.harvest"):
            await export(client, tmp_path, "exams")
    told = [(each.levelname, each.getMessage()) for each in caplog.records if each.name.endswith("harvest")]
    assert told[0] == ("INFO", "exams: reading begins")
    assert [level for level, text in told if "not usable" in text] == ["WARNING"]
    assert told[-1][1].startswith("exams: ")
    assert told[-1][1].endswith(" shards: 1 certified, 0 open, 0 unverified")
    assert "SECRET" not in caplog.text


async def test_the_level_can_change_while_a_client_is_open(
    caplog: pytest.LogCaptureFixture, client: tp.Client
) -> None:
    """An operator need not restart the service to look at its requests."""
    await client.exams.list()
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "testpress_async.http"):
        await client.exams.list()
    assert len(caplog.records) == 1
    await client.exams.list()
    assert len(caplog.records) == 1


async def test_nothing_is_written_out_while_the_log_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that goes well does not even write out its URL."""
    written = list[str]()
    shown = tp.Request.shown.fget  # type: ignore[attr-defined]

    def noted(self: tp.Request) -> str:
        written.append(self.target)
        return shown(self)

    monkeypatch.setattr(tp.Request, "shown", property(noted))
    async with Sandbox(attempts=60, per_page=20) as institute:
        async with tp.Client(institute.url, token=institute.token()) as client:
            assert len([each async for each in client.attempts.list()]) == 60
        assert written == []
        async with tp.Client(institute.url, token=institute.token(), on_event=lambda event: None) as client:
            await client.attempts.list()
        assert written != []


def test_a_program_that_configures_nothing_sees_nothing() -> None:
    """No line of ours on standard error: only the program decides about handlers."""
    code = (
        "import logging; from testpress_async import Client; log = logging.getLogger('testpress_async.http');"
        "log.warning('x'); logging.basicConfig(); log.warning('y')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "WARNING:testpress_async.http:y\n"


def test_a_line_names_the_place_that_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    """Not the helper in between; and a filter that raises ends nothing."""
    log = logging.getLogger("testpress_async.http")
    tell(log, logging.WARNING, "%s", "x")
    assert caplog.records[0].filename == "test_logs.py"

    def broken(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    log.addFilter(broken)
    try:
        tell(log, logging.WARNING, "%s", "y")
    finally:
        log.removeFilter(broken)
    assert len(caplog.records) == 1
