"""Cancelled at every await: the cancellation comes out, nothing stays behind, the next call works.

A call is run again and again, cut short at the first await, the second, … until it finishes uncut. Counted
are the awaits of all tasks the call starts, not only those of the caller's own. The institute answers over
real sockets from a thread of its own, so every task and file seen here is the client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import testpress_async as tp
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock, settle
from tests.support.exporting import served, tables
from tests.support.pages import other_tasks

pytestmark = [
    pytest.mark.row(91),
    pytest.mark.row(92),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are read from /proc"),
]

Moment = Literal["falling asleep", "waking up"]
MOMENTS: tuple[Moment, ...] = ("falling asleep", "waking up")
MOST_AWAITS = 5_000  # a call with more of them does not end


class Cut:
    """Cancels *victim* at the await number *at* of any task that is watched.

    "falling asleep": before what is awaited has begun to happen. "waking up": it has just happened, and the
    task that waits for it does not know yet, so a slot or a connection may have been handed to it.
    """

    def __init__(self, at: int, moment: Moment) -> None:
        self._at, self._moment = at, moment
        self._awaits = 0
        self.victim: asyncio.Task[Any] | None = None
        self.fell = False

    def pause(self, wanted: Any) -> None:
        """Some task is about to wait for *wanted*."""
        self._awaits += 1
        if self._awaits != self._at:
            return
        if self._moment == "waking up" and isinstance(wanted, asyncio.Future):
            wanted.add_done_callback(lambda _: self._fall())  # before the task's own callback
        else:
            self._fall()

    def _fall(self) -> None:
        assert self.victim is not None
        self.fell = self.victim.cancel()


class _Watched(Coroutine[Any, Any, Any]):
    """*work*, telling *cut* of every pause on its way."""

    def __init__(self, cut: Cut, work: Coroutine[Any, Any, Any]) -> None:
        self._cut, self._work = cut, work

    def send(self, value: Any) -> Any:
        return self._told(self._work.send(value))

    def throw(self, *error: Any) -> Any:
        return self._told(self._work.throw(*error))

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("tasks send and throw")

    def __getattr__(self, name: str) -> Any:  # cr_frame and its kin
        return getattr(self._work, name)

    def _told(self, wanted: Any) -> Any:
        self._cut.pause(wanted)
        return wanted


@contextlib.contextmanager
def every_task_watched(cut: Cut) -> Iterator[None]:
    """All tasks made inside are watched by *cut*."""
    loop = asyncio.get_running_loop()

    def factory(loop: Any, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Watched(cut, work), loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(None)


async def run_cut(work: Coroutine[Any, Any, Any], at: int, moment: Moment) -> tuple[bool, Any]:
    """(whether it was cut, what it returned). Fails if a cut call does not end as cancelled."""
    cut = Cut(at, moment)
    with every_task_watched(cut):
        cut.victim = asyncio.get_running_loop().create_task(work)
        await asyncio.wait([cut.victim])
    if cut.fell:
        assert cut.victim.cancelled(), f"await {at}, {moment}: {cut.victim} swallowed its cancellation"
        return True, None
    return False, cut.victim.result()


def sockets_to(port: int) -> int:
    """Open sockets of this process that are connected to *port* of this machine."""
    found = 0
    for number, link in _links():
        if link.startswith("socket:"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as end:
                found += end.family == socket.AF_INET and end.getpeername()[1] == port
    return found


def open_files() -> list[str]:
    """Paths of open files, without the source that some thread's traceback is reading."""
    links = {link for _, link in _links() if link.startswith("/") and not link.startswith("/proc")}
    return sorted(link for link in links if not link.endswith(".py"))


def _links() -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            yield int(entry), os.readlink(f"/proc/self/fd/{entry}")


# --- the calls --------------------------------------------------------------------------------------


async def one_record(client: tp.Client, institute: Sandbox) -> Any:
    return (await client.attempts.get(institute.truth.ids("attempts")[0])).id


async def first_page(client: tp.Client, institute: Sandbox) -> Any:
    return [record.id for record in await client.attempts.list()]


async def by_record(client: tp.Client, institute: Sandbox) -> Any:
    return [record.id async for record in client.attempts.list()]


async def by_page(client: tp.Client, institute: Sandbox) -> Any:
    return [r.id async for page in client.attempts.list().pages(window=8) for r in page.items]


async def raw_pages(client: tp.Client, institute: Sandbox) -> Any:
    return [len(page.rows["attempts"]) async for page in client.attempts.list().raw_pages(window=3)]


async def prefetched(client: tp.Client, institute: Sandbox) -> Any:
    return [record.id async for record in client.attempts.list().prefetch(8)]


async def collected(client: tp.Client, institute: Sandbox) -> Any:
    return [record.id for record in await client.attempts.list().collect(window=4)]


async def fanned_out(client: tp.Client, institute: Sandbox, *, ordered: bool = False) -> Any:
    parents = institute.truth.ids("attempts")[:2]
    found: list[tuple[int, int]] = []
    call = client.attempts.user_answers
    async with client.fan_out(parents, call, concurrency=2, ordered=ordered) as results:
        async for parent, answer in results:
            found.append((parent, answer.id))
    return sorted(found)


async def fanned_out_in_order(client: tp.Client, institute: Sandbox) -> Any:
    return await fanned_out(client, institute, ordered=True)


async def repeated_after_a_wait(client: tp.Client, institute: Sandbox) -> Any:
    institute.clear_faults()
    institute.script(Fault(status=503, times=2), Fault(cut_after_bytes=10))
    return await one_record(client, institute)


async def throttled(client: tp.Client, institute: Sandbox) -> Any:
    institute.clear_faults()
    body = b'{"detail": "Request was throttled. Expected available in 2 seconds."}'
    institute.script(Fault(status=429, headers={"Retry-After": "2"}, body=body))
    return await one_record(client, institute)


async def four_at_the_gate(client: tp.Client, institute: Sandbox) -> Any:
    return await asyncio.gather(*(one_record(client, institute) for _ in range(4)))


async def token_refused(client: tp.Client, institute: Sandbox) -> Any:
    await one_record(client, institute)
    institute.clear_faults()
    institute.script(Fault(path="/api/v2.5/admin/attempts/", status=401, body=b'{"detail": "expired"}'))
    return await asyncio.gather(*(one_record(client, institute) for _ in range(3)))


LOGIN: dict[str, Any] = {"token": None, "username": "admin", "password": "sandbox"}
PATIENT: dict[str, Any] = {"retry": tp.RetryPolicy(max_tries=5)}
LIMITED: dict[str, Any] = {"rate": tp.RatePolicy(requests=2, per_s=0.01)}

CALLS: list[tuple[Callable[[tp.Client, Sandbox], Coroutine[Any, Any, Any]], dict[str, Any]]] = [
    (one_record, {}),
    (one_record, LOGIN),
    (first_page, {}),
    (by_record, {}),
    (by_page, {}),
    (by_page, LOGIN),
    (raw_pages, {}),
    (prefetched, {}),
    (collected, {}),
    (fanned_out, {}),
    (fanned_out_in_order, {}),
    (repeated_after_a_wait, PATIENT),
    (throttled, PATIENT),
    (four_at_the_gate, LIMITED),
    (token_refused, LOGIN),
]
NAMES = [call.__name__ + ("_with_login" if options is LOGIN else "") for call, options in CALLS]


@pytest.fixture(scope="module")
def institute() -> Iterator[Sandbox]:
    """An institute in a thread of its own: 4 pages of attempts, several pages of answers for each."""
    with served(attempts=40, per_page=10, answers_per_page=60) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_faults(institute: Sandbox) -> None:
    institute.clear_faults()


def connect(institute: Sandbox, options: dict[str, Any] | None = None) -> tp.Client:
    given: dict[str, Any] = {"token": institute.token(), "max_connections": 2}
    if options is PATIENT:
        given["clock"] = AutoClock()  # nobody wants to sit out the sleeps
    return tp.Client(institute.url, **(given | (options or {})))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("call", "options"), CALLS, ids=NAMES)
async def test_cancelled_at_every_await(
    institute: Sandbox,
    call: Callable[[tp.Client, Sandbox], Coroutine[Any, Any, Any]],
    options: dict[str, Any],
    moment: Moment,
) -> None:
    """The cancellation comes out, no task, connection or slot stays, and the same call then works."""
    port = int(institute.url.rpartition(":")[2])
    async with connect(institute, options) as client:
        expected = await call(client, institute)
    was_cut, at, files = True, 0, open_files()
    while was_cut:
        at += 1
        assert at < MOST_AWAITS
        async with connect(institute, options) as client:
            was_cut, found = await run_cut(call(client, institute), at, moment)
            await settle(2)  # a cancelled alarm ends in the next turn of the loop
            assert other_tasks() == set(), f"left running by a cut at await {at}"
            assert client._session.gate.in_flight == client._session.gate.waiting == 0, at
            assert sockets_to(port) <= 2
            assert open_files() == files
            if was_cut:
                found = await call(client, institute)
            assert found == expected, at
        await settle(2)
        assert sockets_to(port) == 0, f"a connection was left open by a cut at await {at}"
    assert at > 3, "the call was never cut: the test does not watch it"


@pytest.fixture(scope="module")
def small_institute() -> Iterator[Sandbox]:
    """A few attempts, so that a whole export has few awaits."""
    with served(attempts=6, per_page=3, exams=2) as opened:
        yield opened


@pytest.mark.parametrize("moment", MOMENTS)
async def test_cancelled_export_resumes(small_institute: Sandbox, tmp_path: Path, moment: Moment) -> None:
    """However an export is cut, no file or task stays, and the next one ends with the whole dataset."""
    async with connect(small_institute) as client:
        plan = await tp.plan(client, ["attempts", "attempt_details"])
        await tp.harvest(client, plan, into=tp.Dataset(tmp_path / "whole"))
        expected, files = tables(tmp_path / "whole"), open_files()
        was_cut, at = True, 0
        while was_cut:
            at += 1
            assert at < MOST_AWAITS
            folder = tmp_path / str(at)
            work = tp.harvest(client, plan, into=tp.Dataset(folder), concurrency=2)
            was_cut, _ = await run_cut(work, at, moment)
            await settle(2)
            assert other_tasks() == set(), f"left running by a cut at await {at}"
            assert open_files() == files, f"left open by a cut at await {at}"
            await tp.harvest(client, plan, into=tp.Dataset(folder), concurrency=2)
            assert tables(folder) == expected, at
    assert at > 10, "the export was never cut: the test does not watch it"
