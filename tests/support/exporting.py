"""What tests of exports share: a small institute, in this loop or behind a thread, and reading files back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from testpress_async.client import Client
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.manifest import Entry
from testpress_async.harvest.plan import plan
from testpress_async.harvest.report import Report, UnknownField
from testpress_async.harvest.run import harvest
from testpress_async.harvest.tables import FieldWatch
from testpress_async.http.clock import Clock
from testpress_async.http.policy import RetryPolicy
from testpress_async.sandbox import Sandbox

SMALL: dict[str, Any] = {"attempts": 60, "users": 20, "exams": 3, "courses": 3, "conferences": 4}
ATTEMPTS = "/api/v2.5/admin/attempts/"
EXAMS = "/api/v2.5/admin/exams/"
CONTENT_ATTEMPTS = "/api/v3/admin/chapter-content-attempts/"
ANSWERS = "/api/v3/admin/attempts/{}/user_answers/"


@contextlib.asynccontextmanager
async def opened(clock: Clock | None = None, **options: Any) -> AsyncGenerator[tuple[Sandbox, Client]]:
    """A small institute and a client that does not repeat failed tries; *clock* is that of both."""
    async with (
        Sandbox(clock=clock, **(SMALL | options)) as institute,
        Client(
            institute.url,
            username=institute.username,
            password=institute.password,
            retry=RetryPolicy(max_tries=1),
            clock=clock,
        ) as client,
    ):
        yield institute, client


async def export(client: Client, path: Path, *tables: str, **options: Any) -> Report:
    """One export of *tables*, or of everything."""
    reads = await (plan(client, tables) if tables else plan(client))
    return await harvest(client, reads, into=Dataset(path), **options)


@contextlib.contextmanager
def served(**options: Any) -> Generator[Sandbox]:
    """A small institute that answers from a thread of its own, for commands with a loop of their own."""
    ready = threading.Event()
    held: list[Any] = []

    async def main() -> None:
        async with Sandbox(**(SMALL | options)) as institute:
            stop = asyncio.Event()
            held.extend((institute, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    institute, loop, stop = held
    try:
        yield institute
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def environment(institute: Sandbox, **more: str) -> dict[str, str]:
    """An environment in which the command line finds *institute*, and nothing of the outer one's settings."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("TESTPRESS_")}
    return outer | {
        "TESTPRESS_BASE_URL": institute.url,
        "TESTPRESS_USERNAME": institute.username,
        "TESTPRESS_PASSWORD": institute.password,
        **more,
    }


def command(*arguments: str, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`testpress` with *arguments*, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "testpress_async", *arguments],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def until(holds: Callable[[], bool]) -> None:
    """Let everybody else go on until *holds*."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for happens in another process or on disk
            await asyncio.sleep(0.005)


def lines(path: Path) -> list[bytes]:
    """Lines of a JSON Lines file, every one ended by a newline."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return data.split(b"\n")[:-1]


def rows(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON Lines file."""
    return [msgspec.json.decode(line) for line in lines(path)]


def tables(path: Path) -> dict[str, list[bytes]]:
    """Lines of every finished table, in one order."""
    return {file.stem: sorted(lines(file)) for file in sorted(path.glob("*.jsonl"))}


def everything(path: Path) -> list[Path]:
    """*path* and all that lies below it."""
    return [path, *path.rglob("*")]


def files(path: Path) -> dict[str, bytes]:
    """Content of every landed part."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.glob("*/part-*.jsonl")}


def entries(path: Path) -> list[Entry]:
    """Entries of the manifest, read without the code under test."""
    return [
        msgspec.json.decode(file.read_bytes().partition(b"\n")[0], type=Entry)
        for file in sorted((path / "manifest").glob("*.json"))
    ]


def page(*records: bytes, count: int | None = None) -> bytes:
    """A page of a plain list with the bytes of *records*."""
    told = len(records) if count is None else count
    return (
        b'{"count":%d,"next":null,"previous":null,"per_page":200,"results":[' % told
        + b",".join(records)
        + b"]}"
    )


def unknown_fields(table: str, rows: Iterable[bytes]) -> tuple[UnknownField, ...]:
    """Fields of *rows* that *table* has no column for."""
    watch = FieldWatch(table)
    for _ in watch.over(rows):
        pass
    return watch.found
