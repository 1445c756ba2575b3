"""One loop, one process, one opening; and nothing left running after it."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Sequence

import pytest

from testpress_async.errors import ConfigError, NotFound, ServerFault, TimedOut
from testpress_async.http.auth import FixedToken
from testpress_async.http.caller import Caller, Options
from testpress_async.http.clock import SystemClock
from testpress_async.http.events import Event, LoggedIn, RequestFinished, RequestStarted, TryFailed, guarded
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler, Middleware
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.session import Session
from testpress_async.http.window import RatePolicy
from tests.support.clock import AutoClock, settle
from tests.support.handlers import Scripted, Step, reply

GET = Request(target="/api/a/")
ORIGIN = "https://institute.example"


def session_over(
    steps: Sequence[Step] = (), *, emit=None, clock=None, middleware: Sequence[Middleware] | None = None
) -> Session:
    """A session whose innermost middleware answers from *steps*, so that no socket is needed."""
    script = Scripted(steps, default=reply())

    async def answered(request: Request, handler: Handler) -> Response:
        return await script(request)

    return Session(
        ORIGIN,
        lambda clock: FixedToken("t"),
        clock=clock or SystemClock(),
        token=None,
        session=None,
        retry=RetryPolicy(),
        rate=RatePolicy(),
        timeouts=Timeouts(),
        max_connections=4,
        max_body_bytes=1024,
        middleware=[answered] if middleware is None else middleware,
        emit=emit,
        jitter=lambda: 0.0,
    )


async def refused(session: Session) -> str:
    with pytest.raises(ConfigError) as caught:
        await session.send(GET)
    assert caught.value.parameter == "client"
    return caught.value.problem


async def test_use_before_open_is_refused() -> None:
    """The error says how to open a client."""
    assert "async with" in await refused(session_over())


async def test_use_after_close_is_refused() -> None:
    """A closed client stays closed, for requests and for opening."""
    session = session_over()
    session.open()
    assert (await session.send(GET)).status == 200
    await session.close()
    assert "is closed" in await refused(session)
    with pytest.raises(ConfigError, match="make a new one"):
        session.open()
    await session.close()


async def test_opening_twice_is_refused() -> None:
    """One opening is shared, and goes on working after a second was refused."""
    session = session_over()
    session.open()
    with pytest.raises(ConfigError, match="already open"):
        session.open()
    assert (await session.send(GET)).status == 200
    await session.close()


async def test_closing_what_was_never_opened_closes_it() -> None:
    """There is nothing to close, and nothing to open any more."""
    session = session_over()
    await session.close()
    assert "is closed" in await refused(session)


async def test_use_from_another_loop_is_refused() -> None:
    """A second loop in a thread can neither send nor close; the first loop is not disturbed."""
    session = session_over()
    session.open()
    problems: list[str] = []

    async def elsewhere() -> None:
        problems.append(await refused(session))
        with pytest.raises(ConfigError, match="another event loop"):
            await session.close()
        problems.append("close refused")

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    assert problems == ["belongs to another event loop; make one client per loop", "close refused"]
    assert (await session.send(GET)).status == 200
    await session.close()


async def test_use_in_a_forked_child_is_refused() -> None:
    """Parent and child would read each other's answers from one socket."""
    session = session_over()
    session.open()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads of other tests
        child = os.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            session.require_open()
            os.write(writer, b"allowed")
        except ConfigError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    os.waitpid(child, 0)  # noqa: ASYNC222 - it has exited
    assert said == "client: belongs to the parent process; make a new one after a fork"
    session.require_open()
    await session.close()


async def test_close_cancels_what_was_spawned_and_waits_for_it() -> None:
    """No task outlives its client; what ended before is no concern."""
    session, ended = session_over(), []
    session.open()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async def quick() -> int:
        return 7

    caller = Caller(session, Options())
    endless, done = caller.spawn(work()), caller.spawn(quick())
    assert await done == 7
    await settle()
    await session.close()
    assert endless.cancelled()
    assert ended == ["cleaned up"]


async def test_a_caller_sends_with_its_options() -> None:
    """Timeout, lane and patience of a clone reach the request."""
    seen: list[Request] = []

    async def spy(request: Request, handler: Handler) -> Response:
        seen.append(request)
        return reply()

    session = session_over(middleware=[spy])
    session.open()
    caller = Caller(session, Options(timeout_s=3, lane="interactive", max_wait_s=1))
    await caller.get("/api/a/")
    assert caller.emit is None
    [request] = seen
    assert (request.timeout_s, request.lane, request.max_wait_s) == (3, "interactive", 1)
    assert request.headers["Authorization"] == "JWT t"
    assert request.deadline_s is not None
    await session.close()


async def test_the_deadline_ends_a_call_that_hangs() -> None:
    """A call's own timeout covers everything below it, and names itself."""

    async def hangs(request: Request, handler: Handler) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    session = session_over(middleware=[hangs])
    session.open()
    with pytest.raises(TimedOut) as caught:
        await session.send(Request(target="/api/a/", timeout_s=0.01))
    assert (caught.value.limit, caught.value.value) == ("total_s", 0.01)
    assert session.gate.in_flight == 0
    await session.close()


async def test_a_timeout_of_a_callers_middleware_is_its_own() -> None:
    """Only our own deadline is told as our own."""
    session = session_over([TimeoutError("theirs")])
    session.open()
    with pytest.raises(TimeoutError, match="theirs"):
        await session.send(GET)
    await session.close()


async def test_events_tell_begin_repeats_and_end_of_a_call() -> None:
    """One start and one finish per call, with repeats between, on the given clock."""
    events: list[Event] = []
    session = session_over(
        [ServerFault("GET", "/api/a/", 503, retry_after_s=2), reply(200, b"[1]"), NotFound("GET", "/", 404)],
        emit=events.append,
        clock=AutoClock(),
    )
    session.open()
    await session.send(GET)
    with pytest.raises(NotFound):
        await session.send(GET)
    await session.close()
    seen = [event for event in events if not isinstance(event, LoggedIn)]
    first, second = (event.call for event in seen if isinstance(event, RequestStarted))
    assert 0 < first < second
    one, two = ({"call": call, "method": "GET", "url": "/api/a/"} for call in (first, second))
    assert seen == [
        RequestStarted(**one, origin=ORIGIN),
        TryFailed(**one, try_no=1, error="ServerFault", wait_s=2.0),
        RequestFinished(**one, status=200, body_bytes=3, elapsed_s=2.0),
        RequestStarted(**two, origin=ORIGIN),
        RequestFinished(**two, status=404, body_bytes=0, elapsed_s=0.0, error="NotFound"),
    ]


async def test_events_tell_of_a_call_that_broke() -> None:
    """A failure that is no error of ours has a name but no status."""
    events: list[Event] = []
    session = session_over([ZeroDivisionError()], emit=events.append)
    session.open()
    with pytest.raises(ZeroDivisionError):
        await session.send(GET)
    await session.close()
    assert isinstance(events[-1], RequestFinished)
    assert (events[-1].error, events[-1].status) == ("ZeroDivisionError", None)


async def test_an_observer_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged, the request goes on."""

    def broken(event: Event) -> None:
        raise ZeroDivisionError

    session = session_over(emit=guarded(broken))
    session.open()
    assert (await session.send(GET)).status == 200
    await session.close()
    assert "on_event failed on RequestStarted" in caplog.text
