"""The example applications as browsers meet them: real servers, real sockets, real disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import random
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

import testpress_async as tp
from examples import fastapi_app, lent_session, web_app
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.faults.test_cancellation import sockets_to
from tests.support.clock import settle
from tests.support.exporting import ATTEMPTS, environment, until
from tests.support.virtual_time import run

HTML = {"Accept": "text/html"}
LONG_WAITS = 139169  # a seed whose first draws are all above 0.85: waits between tries come near their bounds


@pytest.fixture
async def institute(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """An institute that `Client.from_env` finds."""
    async with Sandbox(attempts=400, exams=3, per_page=20) as opened:
        for name, value in environment(opened).items():
            monkeypatch.setenv(name, value)
        yield opened


class Site:
    """A FastAPI application behind uvicorn, and the client in its lifespan."""

    def __init__(self, url: str, server: uvicorn.Server) -> None:
        self.url, self._server = URL(url), server

    @property
    def client(self) -> tp.Client:
        return self._server.lifespan.state["client"]

    @property
    def running(self) -> int:
        """Requests of browsers that are being answered."""
        return len(self._server.server_state.tasks)

    async def ask(self, path: str) -> asyncio.StreamWriter:
        """A browser that has asked for *path* and does not read yet."""
        _, writer = await asyncio.open_connection(self.url.host, self.url.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        return writer


@pytest.fixture
async def site(institute: Sandbox) -> AsyncIterator[Site]:
    """The FastAPI example, served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(fastapi_app.app, log_level="warning", ws="none"))
        serving = asyncio.create_task(server.serve([listener]))
        await until(lambda: server.started)
        yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", server)
        server.should_exit = True
        await serving


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """It keeps no connection, so that a server has nothing to wait for at its end."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield session


# --- FastAPI -----------------------------------------------------------------------------------------


async def test_a_page_shows_an_exams_attempts(
    institute: Sandbox, site: Site, browser: aiohttp.ClientSession
) -> None:
    """Newest first, with the total; names are text, whatever they hold."""
    listed = await site.client.attempts.list(exams=2, ordering="-date")
    institute.edit_attempt(listed.items[0].id, name="<script>alert(1)</script>")
    async with browser.get(site.url / "exams/2") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        shown = await answer.text()
    assert f"{institute.truth.count('attempts', exams=2)} attempts" in shown
    places = [shown.index(f"/attempts/{attempt.id}'") for attempt in listed.items]
    assert places == sorted(places)
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


async def test_one_attempt_is_json(institute: Sandbox, site: Site, browser: aiohttp.ClientSession) -> None:
    """A score stays exact."""
    wanted = institute.truth.ids("attempts")[0]
    attempt = await site.client.attempts.get(wanted)
    async with browser.get(site.url / f"attempts/{wanted}") as answer:
        found = await answer.json()
    assert (found["id"], found["exam"], found["score"]) == (wanted, attempt.exam_id, str(attempt.score))


async def test_ndjson_streams_all_attempts(
    institute: Sandbox, site: Site, browser: aiohttp.ClientSession
) -> None:
    """One object a line, all pages, oldest first."""
    async with browser.get(site.url / "exams/1/attempts.ndjson") as answer:
        assert answer.content_type == "application/x-ndjson"
        rows = [json.loads(line) async for line in answer.content]
    assert sorted(row["id"] for row in rows) == institute.truth.ids("attempts", exams=1)


async def test_a_stream_that_breaks_says_where_to_go_on(
    institute: Sandbox, site: Site, browser: aiohttp.ClientSession
) -> None:
    """Its last line names the error and a token; both parts together are the whole."""
    gone = Fault(path=ATTEMPTS, query="page=3", status=403, body=b"{}")
    institute.script(gone)
    address = site.url / "exams/1/attempts.ndjson"
    async with browser.get(address) as answer:
        *rows, last = [json.loads(line) async for line in answer.content]
    assert (answer.status, last["error"], len(rows)) == (200, "PermissionDenied", 40)
    async with browser.get(address.update_query(resume=last["resume"])) as answer:
        rows += [json.loads(line) async for line in answer.content]
    assert sorted(row["id"] for row in rows) == institute.truth.ids("attempts", exams=1)


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (Fault(status=404, body=b'{"detail": "Not found."}'), 404, "no such thing"),
        (Fault(status=429, headers={"Retry-After": "30"}), 503, "Too many"),
        (Fault(status=403, body=b"{}"), 502, "cannot be asked"),
        (Fault(status=503, headers={"Retry-After": "3600"}, times=None), 502, "cannot be asked"),
        (Fault(drop=True, times=None), 502, "cannot be asked"),
        (Fault(hold=asyncio.Event()), 504, "in time"),
    ],
    ids=["404", "429", "403", "503", "outage", "silence"],
)
async def test_failures_are_good_answers(
    institute: Sandbox, site: Site, browser: aiohttp.ClientSession, fault: Fault, status: int, words: str
) -> None:
    """A status that fits, words for people, a page for browsers, JSON for programs, and when to come back."""
    await site.client.exams.list()  # logged in
    for headers, kind in [(HTML, "text/html"), ({}, "application/json")]:
        institute.clear_faults()
        institute.script(fault)
        seconds = 0.2 if status == 504 else 1
        random.seed(LONG_WAITS)  # 0.4 s and 0.8 s at least: certain not to fit, nor to end at the deadline
        address = (site.url / "attempts/1").with_query(timeout_s=seconds)
        async with browser.get(address, headers=headers) as answer:
            assert (answer.status, answer.content_type) == (status, kind)
            assert words in await answer.text()
            wait_s = answer.headers.get("Retry-After")
        assert (wait_s is not None) == (status == 503)
        assert wait_s is None or 25 <= int(wait_s) <= 31


async def test_a_deadline_must_make_sense(site: Site, browser: aiohttp.ClientSession) -> None:
    """FastAPI refuses it with the name of the parameter."""
    for wrong in ("0", "31", "nan", "soon"):
        async with browser.get((site.url / "exams/1").with_query(timeout_s=wrong)) as answer:
            assert answer.status == 422
            assert "timeout_s" in await answer.text()


@pytest.mark.parametrize("way", ["closed", "reset"])
async def test_browsers_that_go_away_end_their_requests(
    institute: Sandbox, site: Site, browser: aiohttp.ClientSession, way: str
) -> None:
    """The institute sees every request end, and all connections of the pool can serve again."""
    await site.client.exams.list()
    full = 16  # `max_connections`
    held = institute.script(Fault(path=ATTEMPTS, hold=asyncio.Event(), times=full))[0]
    gone = [await site.ask(f"/attempts/{number}?timeout_s=30") for number in range(1, full + 1)]
    await until(lambda: held.hits == full)
    for writer in gone:
        if way == "reset":
            writer.transport.abort()
        else:
            writer.close()
    async with asyncio.timeout(15):  # sooner than their deadline ends them
        await until(lambda: institute.in_flight == 0)
    ended = [seen.status for seen in institute.log if seen.path.startswith(ATTEMPTS)]
    assert ended == [0] * full
    assert site.client._session.gate.in_flight == 0
    async with browser.get(site.url / "exams/1") as answer:
        assert answer.status == 200
    assert sockets_to(URL(institute.url).port or 0) <= 2  # those of the requests that were answered


async def test_a_download_that_is_left_ends(institute: Sandbox, site: Site) -> None:
    """The pages it had asked for are dropped, and no further one is asked for."""
    held = institute.script(Fault(path=ATTEMPTS, query="page=3", hold=asyncio.Event()))[0]
    writer = await site.ask("/exams/1/attempts.ndjson")
    await until(lambda: held.hits == 1)
    writer.transport.abort()
    await until(lambda: institute.in_flight == 0)
    asked = institute.requests
    await site.client.exams.list()
    assert institute.requests == asked + 1
    assert site.client._session.gate.in_flight == 0


async def test_two_browsers_share_a_call_and_one_leaves(
    institute: Sandbox, site: Site, browser: aiohttp.ClientSession
) -> None:
    """The one that stays gets its page, from one request."""
    await site.client.exams.list()
    go = asyncio.Event()
    institute.script(Fault(path=ATTEMPTS, hold=go))
    leaver = await site.ask("/exams/1")
    await until(lambda: institute.in_flight == 1)
    stayer = asyncio.create_task(browser.get(site.url / "exams/1"))
    await until(lambda: site.running == 2)
    await settle()
    leaver.transport.abort()
    await until(lambda: site.running == 1)
    go.set()
    async with await stayer as answer:
        assert answer.status == 200
    assert sum(seen.path == ATTEMPTS for seen in institute.log) == 1


# --- aiohttp.web -------------------------------------------------------------------------------------


async def test_a_lent_session_is_used_and_not_closed(institute: Sandbox) -> None:
    """The institute is asked over the application's own session, which is open until the application ends."""
    app = lent_session.make_app()
    marked: list[str] = []

    async def mark(app: web.Application) -> AsyncIterator[None]:
        yield
        marked.append("closed" if app[lent_session.SESSION].closed else "open")

    app.cleanup_ctx.insert(1, mark)  # ends after the client and before the session
    wanted = institute.truth.ids("attempts")[0]
    async with TestServer(app) as served, aiohttp.ClientSession() as browser:
        session = app[lent_session.SESSION]
        async with browser.get(served.make_url(f"/attempts/{wanted}")) as answer:
            assert (await answer.json())["id"] == wanted
        async with browser.get(served.make_url("/attempts/999999")) as answer:
            assert answer.status == 404
        institute.script(Fault(path=ATTEMPTS, status=403, body=b"{}"))
        async with browser.get(served.make_url(f"/attempts/{wanted}")) as answer:
            assert answer.status == 502
        assert sockets_to(URL(institute.url).port or 0) == len(session.connector._conns) == 1
    assert marked == ["open"]
    assert session.closed


@pytest.mark.parametrize("module", [lent_session, web_app], ids=lambda module: module.__name__)
async def test_a_browser_of_aiohttp_that_goes_away_ends_its_request(institute: Sandbox, module: Any) -> None:
    """With `handler_cancellation`, as the examples run."""
    assert "handler_cancellation=True" in inspect.getsource(module)
    path = "/attempts/1" if module is lent_session else "/exams/1/attempts"
    held = institute.script(Fault(path=ATTEMPTS, hold=asyncio.Event()))[0]
    async with TestServer(module.make_app()) as served:
        _, writer = await asyncio.open_connection(served.host, served.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        await until(lambda: held.hits == 1)
        writer.close()
        await until(lambda: institute.in_flight == 0)
        assert served.app[module.CLIENT]._session.gate.in_flight == 0


# --- many at once ------------------------------------------------------------------------------------


def test_two_hundred_handlers_are_answered_while_an_export_runs(tmp_path: Path) -> None:
    """All get their page first, of one client and one limit; then the export ends, whole."""
    run(busy(tmp_path))


async def busy(folder: Path) -> None:
    handlers, in_flight, detail = 200, 16, re.compile(ATTEMPTS + r"\d+/")
    async with (
        Sandbox(attempts=500, exams=3, per_page=20, latency_ms=50, rate=RateLimit(100, 1.0)) as institute,
        tp.Client(institute.url, token=institute.token(), max_connections=in_flight) as client,
    ):
        app = web.Application()
        app[web_app.CLIENT] = client.with_options(timeout_s=5, priority="interactive")
        app.router.add_get(r"/exams/{exam_id:\d+}/attempts", web_app.exam_attempts)
        plan = await tp.plan(client, ["attempt_details"])
        work = tp.harvest(client, plan, into=tp.Dataset(folder), concurrency=256)
        every = aiohttp.TCPConnector(limit=0, force_close=True)
        runner = web.AppRunner(app)
        await runner.setup()
        # Room for all of them to knock at once: who finds none comes back a second later.
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=2 * handlers).start()
        async with (
            contextlib.AsyncExitStack() as ended,
            aiohttp.ClientSession(connector=every) as browser,
        ):
            ended.push_async_callback(runner.cleanup)
            exporting = asyncio.create_task(work)
            await until(lambda: institute.requests >= 150)  # it knows the limit, and 200 and more wait
            assert client._session.gate.waiting > handlers
            host, port = runner.addresses[0]
            address = f"http://{host}:{port}/exams/1/attempts"
            before = len(institute.log)
            answers = await asyncio.gather(*(browser.get(address) for _ in range(handlers)))
            assert [answer.status for answer in answers] == [200] * handlers
            assert not exporting.done()
            asked = list(institute.log)[before:]
            pages_s = [seen.at_s for seen in asked if seen.path == ATTEMPTS]
            between = [detail.match(seen.path) and pages_s[0] < seen.at_s < max(pages_s) for seen in asked]
            assert sum(map(bool, between)) <= in_flight  # those that had left before
        report = await exporting
    assert (report.records, report.unproven) == (1_000, ())
