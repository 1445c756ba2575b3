"""An institute and its dataset as a state machine: whatever happens, a complete harvest keeps its promise.

The institute changes between harvests and while they run; harvests are killed at any request and at any step
on disk, taken up again, and repeated as updates; days pass. After every harvest that ends, the finished
tables are compared with everything that was ever served.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp.connector
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from testpress_async.client import Client
from testpress_async.errors import DatasetError
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.manifest import Entry, ShardDone
from testpress_async.harvest.plan import plan
from testpress_async.harvest.report import Report
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard, Window
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.policy import RetryPolicy
from testpress_async.sandbox import Sandbox
from tests.faults.disk import NEVER, Disk
from tests.support.exporting import entries, rows
from tests.support.virtual_time import DAY_S, WALL_START_S, VirtualTimeLoop

ZONE = timezone(timedelta(hours=5, minutes=30))
START = datetime.fromtimestamp(WALL_START_S, ZONE).date()
DAYS = 30  # that the attempts are spread over at first

Row = dict[str, Any]
Op = Callable[[Sandbox], None]


class Killed(Exception):
    """The end of the process, as far as a harvest can tell."""


# --- what can happen to an institute -------------------------------------------------------------------


def _picked(institute: Sandbox, place: float, state: str | None = None) -> int | None:
    ids = [row["id"] for row in institute.truth.records("attempts") if state in (None, row["state"])]
    return ids[int(place * len(ids))] if ids else None


def _inserted(institute: Sandbox, days_ago: int | None) -> None:
    now = datetime.fromtimestamp(time.time(), UTC)
    institute.insert_attempts(1, None if days_ago is None else now - timedelta(days=days_ago))


def _deleted(institute: Sandbox, place: float, count: int = 1) -> None:
    ids = list(institute.truth.ids("attempts"))
    start = int(place * len(ids))
    institute.delete_attempts(ids[start : start + count])


def _finished(institute: Sandbox, place: float) -> None:
    if (found := _picked(institute, place, "Running")) is not None:
        institute.finish_attempt(found)


def _edited(institute: Sandbox, place: float, score: int) -> None:
    if (found := _picked(institute, place)) is not None:
        institute.edit_attempt(found, score=f"{score}.00", correct_answers_count=score)


def _redated(institute: Sandbox, place: float, days_ago: int | None) -> None:
    if (found := _picked(institute, place)) is not None:
        now = datetime.fromtimestamp(time.time(), UTC)
        institute.edit_attempt(found, date=None if days_ago is None else now - timedelta(days=days_ago))


places = st.floats(0, 1, exclude_max=True)
ages = st.none() | st.integers(0, DAYS)
edits = st.builds(partial, st.just(_finished), place=places) | st.builds(
    partial, st.just(_edited), place=places, score=st.integers(0, 9)
)
insertions = st.builds(partial, st.just(_inserted), days_ago=ages)
deletions = st.builds(partial, st.just(_deleted), place=places, count=st.sampled_from([1, 1, 1, 4]))

# An insertion and a deletion that cancel out in a window between two of its answers are what the promise
# leaves out, so one run of a harvest meets only one of the two.
meanwhile = st.just({}) | st.sampled_from([insertions, deletions]).flatmap(
    lambda kind: st.dictionaries(st.integers(1, 30), kind | edits, max_size=6)
)


class Promise(RuleBasedStateMachine):
    """See the module. `ticks` count changes; `history` has every version of each attempt since its tick."""

    def __init__(self) -> None:
        super().__init__()
        self._held = ExitStack()
        self._loop: VirtualTimeLoop | None = None
        self.path = Path(self._held.enter_context(tempfile.TemporaryDirectory())) / "out"
        self._runner = self._held.enter_context(asyncio.Runner(loop_factory=self._new_loop))
        self.tick = self.began = 0
        self.pending: tuple[str, ...] | None = None  # tables of the run that was killed
        self.quiet = True  # nothing has changed while this run was reading
        self.history: dict[int, list[tuple[int, Row | None]]] = {}
        self.answers: set[tuple[int, bytes]] = set()

    def _new_loop(self) -> VirtualTimeLoop:
        self._loop = VirtualTimeLoop(10_000 * DAY_S)
        return self._loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run *coroutine* in virtual time."""
        loop = self._runner.get_loop()

        def wall_s() -> float:
            return WALL_START_S + loop.time()

        with (
            mock.patch.object(time, "time", new=wall_s),
            mock.patch.object(aiohttp.connector, "monotonic", loop.time),
        ):
            return self._runner.run(coroutine)

    @initialize(
        attempts=st.integers(0, 40),
        per_page=st.integers(3, 5),
        max_pages=st.integers(1, 3),
        seed=st.integers(0, 9),
        until_inclusive=st.booleans(),
        zone=st.sampled_from([330, 0, -480, 840]),
    )
    def open(
        self, attempts: int, per_page: int, max_pages: int, seed: int, until_inclusive: bool, zone: int
    ) -> None:
        """An institute whose attempts are of the last month."""
        self.zone = timezone(timedelta(minutes=zone))
        self.max_pages = max_pages
        self.institute = Sandbox(
            attempts=attempts,
            content_attempts=0,
            exams=2,
            users=5,
            per_page=per_page,
            answers_per_page=20,
            first_day=START - timedelta(days=DAYS),
            last_day=START,
            seed=seed,
            until_inclusive=until_inclusive,
            utc_offset_min=zone,
            token_ttl_s=10_000 * DAY_S,
            gzip=False,
        )
        self.run(self.institute.__aenter__())
        self._observe()

    def teardown(self) -> None:
        if hasattr(self, "institute"):
            self.run(self.institute.__aexit__(None, None, None))
        self._held.close()

    # --- rules -------------------------------------------------------------------------------------------

    @rule(
        change=insertions
        | deletions
        | edits
        | st.builds(partial, st.just(_redated), place=places, days_ago=ages)
    )
    def something_happens(self, change: Op) -> None:
        """Between two harvests anything may."""

        async def happen() -> None:
            self._apply(change)

        self.run(happen())

    @rule(days=st.integers(1, 5))
    def days_pass(self, days: int) -> None:
        """So that windows close, and are settled later."""
        self.run(asyncio.sleep(days * DAY_S))

    @rule(changes=meanwhile, answers=st.booleans())
    def harvest(self, changes: dict[int, Op], answers: bool) -> None:
        """To the end: a first export, an update, or what is left of a run that was killed."""
        self._harvest(changes, answers=answers)

    @rule(changes=meanwhile, answers=st.booleans(), request=st.integers(1, 80))
    def is_killed_at_a_request(self, changes: dict[int, Op], answers: bool, request: int) -> None:
        """The harvest ends there and then, if it has not ended before."""
        self._harvest(changes, answers=answers, kill_at=request)

    @rule(changes=meanwhile, answers=st.booleans(), step=st.integers(0, 120))
    def is_killed_at_a_step_on_disk(self, changes: dict[int, Op], answers: bool, step: int) -> None:
        """The same while it commits, or makes its files."""
        self._harvest(changes, answers=answers, fail_at=step)

    @precondition(lambda self: self.pending is not None)
    @rule()
    def resume(self) -> None:
        """A run that was killed is finished in peace."""
        self._harvest({}, answers=False)

    # --- a harvest -----------------------------------------------------------------------------------------

    def _harvest(
        self, changes: dict[int, Op], *, answers: bool, kill_at: int = NEVER, fail_at: int = NEVER
    ) -> None:
        tables = self.pending or (("attempts", "user_answers") if answers else ("attempts",))
        if self.pending is None:
            self.began, self.quiet = self.tick, True
        try:
            report = self.run(self._export(tables, changes, kill_at, fail_at))
        except (Killed, DatasetError) as error:
            if kill_at == fail_at == NEVER:
                raise
            note(f"killed: {error!r}")
            last = self._entries()[-1:]
            self.pending = tables if last and last[0].kind != "finished" else None
            return
        self.pending = None
        self._judge(report, tables)

    async def _export(
        self, tables: Sequence[str], changes: dict[int, Op], kill_at: int, fail_at: int
    ) -> Report:
        disk = Disk(self.path, fail_at=fail_at, crash=True)
        sent = 0

        async def meddle(request: Request, handler: Handler) -> Response:
            nonlocal sent
            sent += 1
            if sent in changes:
                self.quiet = False
                self._apply(changes[sent])
            if sent >= kill_at:
                disk.fail_at = min(disk.fail_at, len(disk.tried))  # not even what was read reaches the disk
                raise Killed
            return await handler(request)

        async with Client(
            self.institute.url,
            token=self.institute.token(),
            retry=RetryPolicy(max_tries=1),
            middleware=(meddle,),
        ) as client:
            dataset = Dataset(disk)
            reads = await plan(client, tables, max_pages=self.max_pages, into=dataset)
            return await harvest(client, reads, into=dataset, concurrency=2, max_pages=self.max_pages)

    def _apply(self, change: Op) -> None:
        change(self.institute)
        self._observe()

    def _observe(self) -> None:
        """Remember what is there now."""
        self.tick += 1
        now = {row["id"]: row for row in self.institute.truth.records("attempts")}
        for each in now.keys() | self.history.keys():
            versions = self.history.setdefault(each, [])
            row = None if each not in now else msgspec.json.decode(msgspec.json.encode(now[each]))
            if not versions or versions[-1][1] != row:
                versions.append((self.tick, row))
                if row is not None:
                    self.answers.update(self._answers_of(each))

    def _answers_of(self, attempt: int) -> Iterator[tuple[int, bytes]]:
        for row in self.institute.truth.records("user_answers", parent=attempt):
            yield attempt, msgspec.json.encode(row, order="sorted")

    def _entries(self) -> list[Entry]:
        return entries(self.path)

    # --- the promise ---------------------------------------------------------------------------------------

    def _judge(self, report: Report, tables: Sequence[str]) -> None:
        readings = [
            done for entry in self._entries() for done in entry.shards if done.shard.table == "attempts"
        ]
        run = self._entries()[-1].run
        again = [done for done in readings if done.run == run]
        served = {each: versions[-1] for each, versions in self.history.items()}
        table = rows(self.path / "attempts.jsonl")
        landed = {row["id"]: row for row in table}
        gone = self.path / "attempts.gone.jsonl"
        dead = {row["id"] for row in rows(gone)} if gone.exists() else set[int]()

        assert len(table) == len(landed), "a record is there twice"
        assert dead.isdisjoint(landed), "a record is gone and there"
        for row in table:
            assert any(row == version for _, version in self.history[row["id"]]), (
                "nothing such was ever served"
            )
        for each, (since, row) in served.items():
            if row is not None and since <= self.began:
                self._require_there(each, row, again, landed)
                assert each not in dead or not self.quiet or self._left_out(row, again)
            elif row is None and since <= self.began:
                self._require_gone(each, again, readings, landed)
        if self.quiet:
            assert report.unproven == ()
            self._require_noticed(readings, again)
        if "user_answers" in tables:
            self._require_answers(landed, served)

    def _require_there(self, each: int, row: Row, again: Sequence[ShardDone], landed: dict[int, Row]) -> None:
        """A record that did not change from the beginning of the run to its end."""
        holding = [done for done in again if self._holds(done.shard, row)]
        if holding and (self.quiet or all(done.status == "certified" for done in holding)):
            assert landed.get(each) == row, f"{row} was lost, or is out of date: {holding}"
        elif not holding and each not in landed:
            assert self._left_out(row, again), f"{row} was never read"

    def _left_out(self, row: Row, again: Sequence[ShardDone]) -> bool:
        """Whether nobody looked where *row* is: an earlier reading was proved and has the same counts."""
        return not any(self._holds(done.shard, row) for done in again) and _windowed(again)

    def _require_gone(
        self, each: int, again: Sequence[ShardDone], readings: Sequence[ShardDone], landed: dict[int, Row]
    ) -> None:
        """A record that was deleted before the run began."""
        if each not in landed or not all(done.agrees for done in again):
            return
        assert not any(self._holds(done.shard, landed[each]) for done in again), f"{landed[each]} is alive"

    def _require_noticed(self, readings: Sequence[ShardDone], again: Sequence[ShardDone]) -> None:
        """What is left of earlier runs adds up to the counts it had when it was read.

        A record that moves from one of these windows to another changes no sum, and is not noticed.
        """
        present = [versions[-1][1] for versions in self.history.values() if versions[-1][1] is not None]
        read = [done.shard.window for done in again if not done.shard.undated]
        newest: list[ShardDone] = []
        more = running = 0
        for done in (done for done in readings if not done.shard.undated):
            newest = [old for old in newest if old.shard.window.meet(done.shard.window).is_empty]
            newest.append(done)
        for done in newest:
            if done in again or not all(done.shard.window.meet(window).is_empty for window in read):
                continue
            here = [row for row in present if self._holds(done.shard, row)]
            more += len(here) - (done.count or 0)
            running += sum(row["state"] == "Running" for row in here) - done.running
            assert done.read_on is not None
            assert done.shard.window.last is not None
            assert done.shard.window.last < done.read_on - timedelta(days=2), f"{done} was left out"
        assert (more, running) == (0, 0), "changed windows were left out"

    def _require_answers(self, landed: dict[int, Row], served: dict[int, tuple[int, Row | None]]) -> None:
        found: dict[int, Counter[bytes]] = {}
        for row in rows(self.path / "user_answers.jsonl"):
            attempt = row.pop("attempt_id")
            line = msgspec.json.encode(row, order="sorted")
            assert (attempt, line) in self.answers, "no such answer was ever served"
            assert attempt in landed, "answers of an attempt that is gone"
            found.setdefault(attempt, Counter())[line] += 1
        for each, (since, row) in served.items():
            if row is not None and since <= self.began and landed.get(each) == row:
                truth = Counter(line for _, line in self._answers_of(each))
                assert found.get(each, Counter()) == truth, f"answers of {row} are out of date"

    def _holds(self, shard: Shard, row: Row) -> bool:
        """Whether a read of *shard* would bring *row*."""
        if shard.undated or row["date"] is None:
            return row["date"] is None and (shard.undated or shard.end_exclusive is None)
        day = datetime.fromisoformat(row["date"]).astimezone(self.zone).date()
        return not shard.window.meet(Window(day, day)).is_empty


def _windowed(readings: Sequence[ShardDone]) -> bool:
    return all(done.shard.end_exclusive is not None for done in readings)


def examples(number: int, *, fixed: bool) -> settings:
    return settings(
        max_examples=number,
        stateful_step_count=14,
        derandomize=fixed,
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(600)
def test_a_complete_harvest_keeps_its_promise():
    """Whatever happens to the institute, the process and the disk; a share of the stories."""
    run_state_machine_as_test(Promise, settings=examples(12, fixed=True))


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed seed", "fresh seed"])
def test_complete_harvests_keep_their_promise(fixed: bool):
    """Many more of them."""
    run_state_machine_as_test(Promise, settings=examples(60, fixed=fixed))
