"""Rows 102, 103 and 105 of the fault matrix: exports that end at any moment, and disks that fail at any step.

Whatever happens, the same export again ends with exactly the records an undisturbed one has, and reads
nothing again but what no manifest entry names.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import secrets
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from testpress_async.errors import DatasetError
from testpress_async.harvest.dataset import Dataset, Spool, Store
from testpress_async.harvest.files import LocalFiles
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.plan import plan
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard
from testpress_async.sandbox import Sandbox
from tests.faults.disk import Disk, PowerDisk
from tests.support.exporting import ANSWERS, ATTEMPTS, entries, export, opened, tables

ORIGIN = "https://institute.example"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A directory, in memory where that is possible: the order of steps counts, not the disk's speed."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as name:
        yield Path(name)


# --- without a server: every step of a session ------------------------------------------------------------

BATCHES: tuple[tuple[Shard, ...], ...] = (
    (Shard(table="exams"),),
    tuple(Shard(table="user_answers", parent=parent) for parent in (1, 2)),
    (Shard(table="exams", filters=(("state", "1"),)), Shard(table="user_answers", parent=3)),
)


def session(place: Path | LocalFiles, *, compress: bool = False) -> list[Shard]:
    """An export as `harvest` does it, with what it reads made up. Returns the shards it had to read."""
    read: list[Shard] = []
    with Dataset(place, compress=compress).writing(ORIGIN, "all") as store:
        stored = store.stored()
        for batch in BATCHES:
            missing = [shard for shard in batch if shard.id not in stored]
            read += missing
            if missing:
                _commit(store, missing)
        for table in ("exams", "user_answers", "exam_questions"):
            store.replace(f"{table}.jsonl", iter(dict.fromkeys(row for _, row in store.rows(table))))
        store.finish()
    return read


def _commit(store: Store, shards: list[Shard]) -> None:
    done: list[tuple[ShardDone, dict[str, Spool]]] = []
    for shard in shards:
        spools = {shard.table: _rows(shard, 20)}
        if shard.table == "user_answers":
            spools["exam_questions"] = _rows(shard, 3)
        store.quarantine(shard.table, {"shard": shard, "reason": "odd"})
        done.append((ShardDone(shard=shard, rows={name: s.rows for name, s in spools.items()}), spools))
    store.commit(done)


def _rows(shard: Shard, number: int) -> Spool:
    spool = Spool()
    for each in range(number):
        spool.add(b'{"id":%d,"of":"%s"}' % ((shard.parent or 0) * 100 + each, shard.id.encode()))
    return spool


def holds(path: Path) -> dict[str, list[bytes]]:
    """Finished tables and the quarantine."""
    return tables(path) | {f"bad {name}": rows for name, rows in tables(path / "quarantine").items()}


def failure(disk: Disk, *, compress: bool = False) -> DatasetError | None:
    """How a session on *disk* failed."""
    try:
        session(disk, compress=compress)
    except DatasetError as error:
        return error
    return None


def crashed(disk: Disk, *, compress: bool = False) -> bool:
    """Run a session on *disk*; whether it had come to an end before it could finish."""
    failure(disk, compress=compress)
    return disk.failed


def completed(path: Path, calm: dict[str, list[bytes]], *, compress: bool = False) -> None:
    """The session again, on a good disk: the same records in the end, at most one commit read again."""
    named = {done.shard.id for entry in entries(path) for done in entry.shards} if path.exists() else set()
    finished = bool(named) and entries(path)[-1].kind == "finished"
    again = session(path, compress=compress)
    assert holds(path) == calm
    if not finished:
        assert named.isdisjoint({shard.id for shard in again})
        assert len(named) + len(again) == sum(map(len, BATCHES))
    assert not list(path.rglob("*.tmp"))


@pytest.mark.row(103)
@pytest.mark.parametrize("compress", [False, True])
def test_a_crash_before_any_step_costs_one_commit_at_most(room: Path, compress: bool):
    """A process ends before its k-th file operation, for every k: the next session completes the rest."""
    session(room / "calm", compress=compress)
    calm = holds(room / "calm")
    number = 0
    for number in range(1_000):
        path = room / str(number)
        if not crashed(Disk(path, fail_at=number, crash=True), compress=compress):
            break
        completed(path, calm, compress=compress)
    assert 70 < number < 1_000


@pytest.mark.row(103)
def test_a_crash_while_recovering_from_a_crash_costs_no_more(room: Path):
    """A second crash at any step of the session that resumes is survived as well."""
    session(room / "calm")
    calm, chance = holds(room / "calm"), random.Random(5)
    for number in range(100):
        path = room / str(number)
        crashed(Disk(path, fail_at=chance.randrange(90), crash=True))
        crashed(Disk(path, fail_at=chance.randrange(50), crash=True))
        completed(path, calm)


@pytest.mark.row(103)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads what was written through /proc")
@pytest.mark.parametrize("survives", [0.0, 0.5, 0.9])
def test_a_power_cut_at_any_step_loses_nothing_that_was_committed(room: Path, survives: float):
    """All, some or hardly any of what was not synced is gone: what an entry names is there, whole."""
    session(room / "calm")
    calm, chance = holds(room / "calm"), random.Random(7)
    number = 0
    for number in range(1_000):
        base = room / f"at {number}"
        base.mkdir()
        disk = PowerDisk(base / "out", fail_at=number)
        if not crashed(disk):
            break
        disk.cut(room / f"after {number}", chance, survives)
        completed(room / f"after {number}" / "out", calm)
    assert 70 < number < 1_000


@pytest.mark.row(103)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads what was written through /proc")
def test_a_finished_session_survives_a_power_cut_whole(room: Path):
    """What was reported as done is durable: tables, parts and entries."""
    base = room / "base"
    base.mkdir()
    disk = PowerDisk(base / "out")
    session(disk)
    disk.cut(room / "after", random.Random(1), 0.0)
    assert holds(room / "after" / "out") == holds(base / "out")
    assert entries(room / "after" / "out") == entries(base / "out")


@pytest.mark.row(105)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failing_step_stops_the_export_and_is_not_repeated(room: Path, code: int):
    """An error of the k-th write, sync or rename, for every k, ends as DatasetError with a remedy.

    Nothing is synced or named after it: a sync that is repeated after it failed may report success for
    data that never reached the disk.
    """
    session(room / "calm")
    calm = holds(room / "calm")
    number = 0
    for number in range(1_000):
        path = room / str(number)
        disk = Disk(path, fail_at=number, code=code)
        error = failure(disk)
        if not disk.failed:
            break
        if error is None:
            assert disk.tried[number] == "unlink"  # a leftover stays: it is swept the next time
            continue
        assert error.remedy
        assert os.strerror(code) in error.problem
        assert set(disk.tried[number + 1 :]) <= {"unlink"}, disk.tried[number:]
        completed(path, calm)
    assert 70 < number < 1_000


@pytest.mark.row(105)
def test_after_a_failed_step_every_later_one_fails_the_same_way(room: Path):
    """A store whose disk refused once takes nothing more, touches nothing and says why."""
    disk = Disk(room / "out")
    with Dataset(disk).writing(ORIGIN) as store:
        disk.fail_at = len(disk.tried) + 4
        errors = [_refused(partial(_commit, store, list(batch))) for batch in BATCHES]
        tried = len(disk.tried)
        errors.append(_refused(store.finish))
        errors.append(_refused(lambda: store.quarantine("exams", {})))
        errors.append(_refused(lambda: store.replace("exams.jsonl", iter([]))))
    assert len(disk.tried) == tried
    assert len({id(error) for error in errors}) == 1


def _refused(job: Callable[[], object]) -> DatasetError:
    with pytest.raises(DatasetError, match="Input/output") as caught:
        job()
    return caught.value


# --- with a server: every step of a harvest -----------------------------------------------------------------

PATHS = {"user_answers": ANSWERS, "attempt_details": ATTEMPTS + "{}/"}
TINY = {"attempts": 5, "exams": 2, "users": 3, "courses": 1, "conferences": 1, "content_attempts": 4}


@pytest.mark.row(103, 105)
@pytest.mark.parametrize("crash", [True, False])
async def test_a_harvest_survives_a_failure_at_any_step(room: Path, crash: bool):
    """A real export whose k-th file operation fails, for good or once: the next one completes it."""
    wanted = ["exams", "user_answers"]
    async with opened(**TINY) as (institute, client):
        await export(client, room / "calm", *wanted)
        calm, reads = tables(room / "calm"), await plan(client, wanted)
        number = 0
        for number in range(1_000):
            path = room / str(number)
            disk = Disk(path, fail_at=number, crash=crash)
            with contextlib.suppress(DatasetError):
                await harvest(client, reads, into=Dataset(disk))
            if not disk.failed:
                break
            named = parents_named(path)
            finished = path.exists() and [e.kind for e in entries(path)][-1:] == ["finished"]
            institute.log.clear()
            report = await harvest(client, reads, into=Dataset(path))
            assert tables(path) == calm
            assert finished or named.isdisjoint(seen.path for seen in institute.log)
            assert report.unproven == ()
            shutil.rmtree(path)
    assert 50 < number < 1_000


def parents_named(path: Path) -> set[str]:
    """Requests whose answers the manifest's last run has, of shards that take one request."""
    found = entries(path) if path.exists() else []
    return {
        PATHS[done.shard.table].format(done.shard.parent)
        for entry in found
        if entry.run == found[-1].run
        for done in entry.shards
        if done.shard.table in PATHS
    }


# --- with a server, in another process: killed at any moment ------------------------------------------------

COMMIT_RECORDS, CONCURRENCY = 12, 4
SMALL: dict[str, Any] = {
    "attempts": 24,
    "exams": 2,
    "users": 6,
    "courses": 2,
    "conferences": 2,
    "content_attempts": 30,
}


class Exports:
    """Starts exports of one institute in processes of their own and kills them."""

    def __init__(self, institute: Sandbox, process: Process) -> None:
        self._institute, self._process = institute, process

    async def to_the_end(self, path: Path) -> None:
        await self._start(path)
        assert await self._number() == 0

    async def killed(self, path: Path, requests: int, later_s: float) -> bool:
        """Kill an export *later_s* after it has sent so many requests; False if it was faster."""
        self._institute.log.clear()
        pid = await self._start(path)
        ended = asyncio.create_task(self._number())
        while len(self._institute.log) < requests and not ended.done():  # noqa: ASYNC110 - in its own tasks
            await asyncio.sleep(0)
        await asyncio.wait((ended,), timeout=later_s)
        if not ended.done():
            os.kill(pid, signal.SIGKILL)
        status = await ended
        assert status in (0, signal.SIGKILL)
        return status != 0

    async def _start(self, path: Path) -> int:
        assert self._process.stdin
        self._process.stdin.write(f"{path}\n".encode())
        return await self._number()

    async def _number(self) -> int:
        assert self._process.stdout
        return int(await self._process.stdout.readline())


@contextlib.asynccontextmanager
async def exports() -> AsyncGenerator[tuple[Sandbox, Exports]]:
    """An institute, and what exports it."""
    async with Sandbox(**SMALL) as institute:
        numbers = (str(COMMIT_RECORDS), str(CONCURRENCY))
        who = (institute.url, institute.username, institute.password)
        process = await create_subprocess_exec(
            sys.executable, "-m", "tests.faults.killed", *who, *numbers, stdin=PIPE, stdout=PIPE
        )
        try:
            yield institute, Exports(institute, process)
        finally:
            assert process.stdin
            process.stdin.close()
            await process.wait()


async def kill_and_resume(room: Path, kills: int, seed: int) -> None:
    """So many exports that are killed at random moments, each completed by the next."""
    chance = random.Random(seed)
    async with exports() as (institute, run):
        await run.to_the_end(room / "calm")
        calm, whole = tables(room / "calm"), len(institute.log)
        hit = 0
        for number in range(kills):
            path, story = room / str(number), f"seed {seed}, export {number}"
            named: set[str] = set()
            asked: set[str] = set()
            finished = False
            for _ in range(chance.choice((1, 1, 2))):
                moment = chance.randint(1, whole)
                hit += await run.killed(path, moment, chance.uniform(0, 0.02))
                asked, named = {seen.path for seen in institute.log}, parents_named(path)
                finished = bool(named) and entries(path)[-1].kind == "finished"
            institute.log.clear()
            await run.to_the_end(path)
            again = {seen.path for seen in institute.log}
            assert tables(path) == calm, story
            assert not list(path.rglob("*.tmp")), story
            if not finished:
                assert named.isdisjoint(again), story
                per_attempt = {path.format(each) for path in PATHS.values() for each in range(100)}
                # what was being collected, what was waiting for a commit to end, and what was on the way
                assert len(asked & again & per_attempt) <= COMMIT_RECORDS + 2 * CONCURRENCY, story
            shutil.rmtree(path)
    assert hit >= kills // 2, f"seed {seed}"


@pytest.mark.row(102)
@pytest.mark.timeout(120)
async def test_an_export_killed_at_random_moments_is_completed(room: Path):
    """kill -9, anywhere: the next export ends with what an undisturbed one has and repeats nothing stored."""
    await kill_and_resume(room, 10, secrets.randbits(32))


@pytest.mark.long
@pytest.mark.row(102)
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", [1, None], ids=["seed 1", "fresh seed"])
async def test_two_hundred_exports_killed_at_random_moments_are_completed(room: Path, seed: int | None):
    """The same a hundred times with a fixed seed, and a hundred times with a fresh one."""
    seed = secrets.randbits(32) if seed is None else seed
    print(f"seed {seed}")
    await kill_and_resume(room, 100, seed)
