"""The dashboard of an export: what it sends, and what a browser makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import testpress_async as tp
from examples.dashboard.__main__ import BOARD, make_app
from testpress_async.sandbox import Fault, Sandbox
from tests.support.browser import chromium, needs_chromium
from tests.support.exporting import ATTEMPTS, SMALL, environment, until

TABLES = ["exams", "attempts", "content_attempts", "attempt_details", "user_answers", "attendance"]


@pytest.fixture
async def institute(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """A small institute that `Client.from_env` finds."""
    async with Sandbox(**SMALL) as opened:
        for name, value in environment(opened).items():
            monkeypatch.setenv(name, value)
        yield opened


async def told(served: TestServer) -> list[dict[str, Any]]:
    """Everything a browser is told until the export is over."""
    async with aiohttp.ClientSession() as browser, browser.get(served.make_url("/events")) as answer:
        assert answer.content_type == "text/event-stream"
        stream = await answer.text()
    messages = stream.removesuffix("\n\n").split("\n\n")
    assert all(message.startswith("data: ") and "\n" not in message for message in messages)
    return [json.loads(message.removeprefix("data: ")) for message in messages]


async def test_the_last_state_is_the_export(institute: Sandbox, tmp_path: Path) -> None:
    """Records, proofs, requests and stored bytes are those of the dataset."""
    async with TestServer(make_app(tmp_path)) as served:
        *_, last = await told(served)
        report = tp.Dataset(tmp_path).report()
        assert report is not None
    assert (last["phase"], last["error"]) == ("done", None)
    assert last["requests"] == sum(seen.method == "GET" for seen in institute.log)
    assert list(last["tables"]) == TABLES
    for table in report.tables:
        if table.table in last["tables"]:
            shown = last["tables"][table.table]
            assert shown["ended"], table.table
            assert shown["records"] == table.records == institute.truth.export_counts()[table.table]
            assert shown["reads"].get("certified", 0) == table.certified
    assert last["stored_bytes"] == report.data_bytes > 0
    assert last["stored_records"] == report.records


async def test_who_comes_late_gets_all_of_it(institute: Sandbox, tmp_path: Path) -> None:
    """One message, the last, for a browser that comes when everything is over."""
    async with TestServer(make_app(tmp_path)) as served:
        *_, last = await told(served)
        assert await told(served) == [last]


async def test_a_failure_is_told(institute: Sandbox, tmp_path: Path) -> None:
    """In the error's own words."""
    institute.script(Fault(path=ATTEMPTS, status=403, body=b'{"detail": "Ask Asha."}', times=None))
    async with TestServer(make_app(tmp_path)) as served:
        *_, last = await told(served)
    assert last["phase"] == "failed"
    assert "403: Ask Asha." in last["error"]


async def test_stopping_keeps_what_is_stored(institute: Sandbox, tmp_path: Path) -> None:
    """The next start resumes; a browser that is watching hinders neither."""
    held = institute.script(Fault(path=f"{ATTEMPTS}30/", hold=asyncio.Event()))[0]
    async with (
        TestServer(make_app(tmp_path)) as served,
        aiohttp.ClientSession() as browser,
        browser.get(served.make_url("/events")) as answer,
    ):
        await answer.content.readline()
        await until(lambda: held.hits == 1)
    assert institute.in_flight == 0
    async with TestServer(make_app(tmp_path)) as served:
        *_, last = await told(served)
    report = tp.Dataset(tmp_path).report()
    assert report is not None
    assert report.resumed
    assert last["phase"] == "done"


async def test_a_browser_that_leaves_is_no_error(
    institute: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server writes to a connection that is gone, and says nothing about it."""
    app = make_app(tmp_path)
    runner = web.AppRunner(app, shutdown_timeout=5)  # without `handler_cancellation`, as `run_app` has it
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as browser, browser.get(f"http://{host}:{port}/events") as answer:
            await answer.content.readline()
            answer.close()
        await until(lambda: app[BOARD].phase == "done")
    finally:
        await runner.cleanup()
    assert "Error handling request" not in caplog.text


BARS = "[...document.querySelectorAll('.row')].map(row => [row.querySelector('h2').textContent, " + (
    "row.querySelector('.bar').ariaValueNow, row.querySelector('small').textContent, "
    "[...row.querySelectorAll('.chip')].map(chip => chip.textContent)])"
)


@needs_chromium
async def test_a_browser_shows_the_progress(institute: Sandbox, tmp_path: Path) -> None:
    """Bars grow while it runs, stand at their end afterwards, and say what was proved; light and dark."""
    go = asyncio.Event()
    institute.script(Fault(path=f"{ATTEMPTS}30/", hold=go))
    async with TestServer(make_app(tmp_path / "out")) as served, chromium(tmp_path / "profile") as browser:
        await browser.open(str(served.make_url("/")))
        await browser.until("document.querySelector('.row:nth-child(2).ended')")
        bars = {name: rest for name, *rest in await browser.run(f"return {BARS}")}
        assert bars["attempts"] == ["100", "60 records", ["1 certified"]]
        assert 0 <= int(bars["attempt details"][0]) < 100
        assert bars["user answers"][0] == "0"
        assert await browser.run("return document.body.dataset.phase") == "reading"
        assert "of about" in await browser.run("return document.getElementById('overall').textContent")
        go.set()
        await browser.until("document.body.dataset.phase == 'done'")
        counts = institute.truth.export_counts()
        bars = {name: rest for name, *rest in await browser.run(f"return {BARS}")}
        for table in TABLES:
            width, said, chips = bars[table.replace("_", " ")]
            assert (width, said) == ("100", f"{counts[table]:,} records"), table
            assert all(chip.endswith("certified") for chip in chips)
        stored = served.app[BOARD].stored_records
        assert f"{stored:,}records stored" in await browser.run("return document.body.textContent")
        shades = set()
        for scheme in ("light", "dark"):
            await browser.colours(scheme)
            shades.add(await browser.run("return getComputedStyle(document.documentElement).backgroundColor"))
            assert (await browser.picture()).startswith(b"\x89PNG")
        assert len(shades) == 2
        assert await browser.errors() == []


def test_examples_stay_short() -> None:
    """A web example that is longer than a hundred lines is no example."""
    here = Path(__file__).parent.parent / "examples"
    names = ["fastapi_app.py", "lent_session.py", "web_app.py", *(p.name for p in here.glob("dashboard/*.*"))]
    lines = {
        path.name: len(path.read_text().splitlines()) for path in here.rglob("*.*") if path.name in names
    }
    assert lines.keys() >= {"page.html", "board.py", "__main__.py", "fastapi_app.py"}
    assert {name: number for name, number in lines.items() if number > 100} == {}
