"""A second export of a dataset: it finds what is new, changed and gone, and asks for little else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from testpress_async.client import Client
from testpress_async.errors import BadRequest
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.plan import Known, plan
from testpress_async.harvest.report import Changes, Report
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard, Window
from testpress_async.harvest.tables import replaced
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.policy import RetryPolicy
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock
from tests.support.exporting import ANSWERS, CONTENT_ATTEMPTS, opened, rows

NOTHING = Changes()


NOW = datetime(2026, 6, 15, 21, 0, tzinfo=UTC)  # where the institute is, it is the next day already


def recent(**options: Any) -> dict[str, Any]:
    """An institute whose attempts are of the last two and a half years, as seen on one evening."""
    days = {"first_day": NOW.date() - timedelta(days=900), "last_day": NOW.date()}
    return {"clock": AutoClock(wall_s=NOW.timestamp()), **days, **options}


async def update(client: Client, path: Path, *tables: str, **filters: Any) -> Report:
    """What `testpress export` does, again."""
    dataset = Dataset(path)
    return await harvest(client, await plan(client, tables, into=dataset, **filters), into=dataset)


def changes(report: Report, table: str = "attempts") -> Changes:
    found = next(each.changes for each in report.tables if each.table == table)
    assert found is not None
    return found


def by_date(institute: Sandbox) -> list[dict[str, Any]]:
    dated = [row for row in institute.truth.records("attempts") if row["date"]]
    return sorted(dated, key=lambda row: row["date"])


async def change(institute: Sandbox, new: int, finished: int, gone: int) -> None:
    """*new* attempts, and of the latest ones some finish and some are deleted."""
    latest = by_date(institute)
    running = [row["id"] for row in latest if row["state"] == "Running"][-finished:]
    others = [row["id"] for row in latest[-400:] if row["id"] not in set(running)]
    for attempt_id in running:
        institute.finish_attempt(attempt_id)
    institute.delete_attempts(others[:gone])
    institute.insert_attempts(new)


def same_as(institute: Sandbox, path: Path) -> bool:
    """Whether the finished attempts are the institute's, value for value."""
    found = {row["id"]: row for row in rows(path / "attempts.jsonl")}
    return found == {row["id"]: row for row in institute.truth.records("attempts")}


async def updated(tmp_path: Path, attempts: int) -> tuple[float, Changes]:
    """Share of the first run's requests that the second needed, and what it found."""
    async with opened(**recent(attempts=attempts, users=300)) as (institute, client):
        first = await update(client, tmp_path, "attempts")
        before = client.requests_sent
        assert changes(first) == Changes(new=attempts)
        await change(institute, new=100, finished=50, gone=20)
        second = await update(client, tmp_path, "attempts")
        assert same_as(institute, tmp_path)
        gone = {row["id"] for row in rows(tmp_path / "attempts.gone.jsonl")}
        assert gone.isdisjoint(institute.truth.ids("attempts"))
        assert len(gone) == 20
        assert second.saved_requests > 0
        return (client.requests_sent - before) / before, changes(second)


async def test_an_update_finds_what_is_new_changed_and_gone(tmp_path: Path):
    """100 new, 50 finished and 20 deleted attempts are found, exactly those, with fewer requests."""
    share, found = await updated(tmp_path, 20_000)
    assert found == Changes(new=100, changed=50, gone=20, unchanged=19_930)
    assert share < 0.3


@pytest.mark.long
async def test_an_update_of_a_hundred_thousand_needs_a_twentieth(tmp_path: Path):
    """At 100,000 attempts the second run sends at most 5 % of the first one's requests."""
    share, found = await updated(tmp_path, 100_000)
    assert found == Changes(new=100, changed=50, gone=20, unchanged=99_930)
    assert share <= 0.05


async def test_an_update_of_an_unchanged_institute_changes_nothing(tmp_path: Path):
    """Nothing new, nothing gone; closed windows are asked for their counts only."""
    async with opened(**recent(attempts=3_000, per_page=50)) as (_, client):
        await update(client, tmp_path, "attempts")
        finished = (tmp_path / "attempts.jsonl").read_bytes()
        report = await update(client, tmp_path, "attempts")
        assert changes(report) == Changes(unchanged=3_000)
        assert sorted((tmp_path / "attempts.jsonl").read_bytes().splitlines()) == sorted(
            finished.splitlines()
        )
        assert report.requests < 30
        assert not (tmp_path / "attempts.gone.jsonl").exists()


@pytest.mark.parametrize("place", [0.1, 0.5])
async def test_a_deletion_long_ago_is_found_by_its_window(tmp_path: Path, place: float):
    """Counts over all settled windows differ; halving finds the one, and only that one is read again."""
    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, client):
        await update(client, tmp_path, "attempts")
        old = by_date(institute)
        institute.delete_attempts([old[int(len(old) * place)]["id"]])
        report = await update(client, tmp_path, "attempts")
        assert changes(report) == Changes(gone=1, unchanged=2_999)
        assert same_as(institute, tmp_path)
        assert report.requests < 80


async def test_an_old_attempt_that_ends_is_found(tmp_path: Path):
    """The number of running attempts over all settled windows differs, though their count does not."""
    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, client):
        await update(client, tmp_path, "attempts")
        running = [row["id"] for row in by_date(institute)[:1500] if row["state"] == "Running"]
        institute.finish_attempt(running[0])
        report = await update(client, tmp_path, "attempts")
        assert changes(report) == Changes(changed=1, unchanged=2_999)
        assert same_as(institute, tmp_path)


async def test_answers_are_read_again_only_for_attempts_that_changed(tmp_path: Path):
    """Of sixty attempts one ends, one is new and one is gone: two requests for answers, and none is stale."""
    async with opened(**recent()) as (institute, client):
        await update(client, tmp_path, "user_answers")
        running = next(row["id"] for row in institute.truth.records("attempts") if row["state"] == "Running")
        kept = [each for each in institute.truth.ids("attempts") if each != running]
        institute.finish_attempt(running)
        institute.delete_attempts(kept[-1:])
        new = institute.insert_attempts(1)
        institute.log.clear()
        report = await update(client, tmp_path, "user_answers")
        asked = [seen.path for seen in institute.log if "user_answers" in seen.path]
        assert sorted(asked) == sorted(ANSWERS.format(each) for each in (running, *new))
        parents = {row["attempt_id"] for row in rows(tmp_path / "user_answers.jsonl")}
        assert kept[-1] not in parents
        answered = {
            each
            for each in institute.truth.ids("attempts")
            if institute.truth.ids("user_answers", parent=each)
        }
        assert parents == answered
    assert changes(report, "user_answers").gone > 0


async def test_other_days_of_the_same_dataset_add_to_it(tmp_path: Path):
    """A year first, everything later: the year's windows are not read twice, and nothing is missing."""
    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, client):
        since = NOW.date() - timedelta(days=365)
        await update(client, tmp_path, "attempts", started_after=since)
        report = await update(client, tmp_path, "attempts")
        assert same_as(institute, tmp_path)
        assert report.saved_requests > 20


def done(first: int | None, last: int | None, *, run: int, **facts: Any) -> ShardDone:
    """A reading of days counted from a Monday in 2024."""

    def day(number: int | None) -> date | None:
        return None if number is None else date(2024, 1, 1) + timedelta(days=number)

    shard = Shard(table="attempts", window=Window(day(first), day(last)), end_exclusive=False)
    return ShardDone(shard=shard, rows={}, run=run, read_on=date(2024, 2, 1), **facts)


@pytest.mark.parametrize(
    ("reading", "settled"),
    [
        (done(0, 9, run=1), True),
        (done(0, 28, run=1), True),
        (done(0, 29, run=1), False),  # within two days of the day it was read
        (done(0, None, run=1), False),
        (done(0, 9, run=1, status="open"), False),
        (done(0, 9, run=1, status="unverified"), False),
        (done(0, 9, run=1, agrees=False), False),
        (done(0, 29, run=2), True),  # of this very run
    ],
)
def test_what_is_settled_needs_no_other_read(reading: ShardDone, settled: bool):
    """Certified, closed, and older than the look-back when it was read."""
    assert Known([reading], run=2, look_back_days=2).is_settled(reading) == settled


@pytest.mark.parametrize(
    ("readings", "dead"),
    [
        ([done(0, 9, run=1), done(0, 9, run=2)], {0: 2}),
        ([done(0, 9, run=1), done(0, 4, run=2)], {}),
        ([done(0, 9, run=1), done(0, 4, run=2), done(5, 9, run=2)], {0: 2}),
        ([done(0, 9, run=1), done(0, 4, run=2), done(5, 9, run=3)], {0: 3}),
        ([done(0, 9, run=1), done(None, None, run=2, agrees=False)], {}),
        ([done(5, None, run=1), done(5, 20, run=2), done(21, None, run=2)], {0: 2}),
        ([done(0, 9, run=1), done(0, 9, run=1)], {0: 1}),
    ],
)
def test_a_reading_counts_until_all_its_days_were_read_again(
    readings: Sequence[ShardDone], dead: dict[int, int]
):
    """Only then what it brought, and the later ones did not, is gone."""
    assert replaced(readings) == dead


def of(reading: ShardDone, **changes: Any) -> ShardDone:
    """The same reading of another list: other filters, or only what has no date."""
    return msgspec.structs.replace(reading, shard=msgspec.structs.replace(reading.shard, **changes))


FIVE, BOTH = (("exams", "5"),), (("exams", "5,6"),)


@pytest.mark.parametrize(
    ("readings", "dead"),
    [
        ([of(done(0, 9, run=1), filters=FIVE), done(0, 9, run=2)], {0: 2}),
        ([of(done(0, 9, run=1), filters=FIVE), of(done(0, 9, run=2), filters=BOTH)], {0: 2}),
        ([of(done(0, 9, run=1), filters=BOTH), of(done(0, 9, run=2), filters=FIVE)], {}),
        ([done(0, 9, run=1), of(done(0, 9, run=2), filters=FIVE)], {}),
        ([of(done(0, 9, run=1), filters=FIVE), of(done(0, 9, run=2), filters=(("state", "1"),))], {}),
        (
            [of(done(0, 9, run=1), filters=FIVE), done(0, 4, run=2), of(done(5, 9, run=2), filters=FIVE)],
            {0: 2},
        ),
        ([of(done(0, 9, run=1), filters=FIVE), done(0, 9, run=1)], {}),  # of the same run
    ],
)
def test_a_wider_read_replaces_a_narrower_one(readings: Sequence[ShardDone], dead: dict[int, int]):
    """One with fewer filters, or more values of one, asks for everything again."""
    assert replaced(readings) == dead


@pytest.mark.parametrize(
    ("readings", "dead"),
    [
        ([of(done(None, None, run=1), undated=True), of(done(None, None, run=2), undated=True)], {0: 2}),
        ([of(done(None, None, run=1), undated=True), done(None, None, run=2)], {0: 2}),
        ([of(done(None, None, run=1), undated=True), done(None, 4, run=2), done(5, None, run=2)], {0: 2}),
        ([of(done(None, None, run=1), undated=True), done(None, 4, run=2)], {}),
        ([done(None, None, run=1), of(done(None, None, run=2), undated=True)], {}),
        (
            [
                of(done(None, None, run=1), undated=True),
                done(None, None, run=2),
                of(done(None, None, run=2, agrees=False), undated=True),
            ],
            {},
        ),
    ],
)
def test_what_has_no_date_counts_until_nobody_finds_any(readings: Sequence[ShardDone], dead: dict[int, int]):
    """Read again, or all days were and whoever planned that saw none; a doubtful read removes nothing."""
    assert replaced(readings) == dead


async def test_attempts_without_a_date_that_are_deleted_are_gone(tmp_path: Path):
    """Even the last of them, after which no page begins with one."""
    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, client):
        await update(client, tmp_path, "attempts")
        undated = [row["id"] for row in institute.truth.records("attempts") if not row["date"]]
        institute.delete_attempts(undated)
        report = await update(client, tmp_path, "attempts")
        assert changes(report) == Changes(gone=len(undated), unchanged=3_000 - len(undated))
        assert same_as(institute, tmp_path)


async def test_a_change_while_changes_are_searched_hides_none(tmp_path: Path):
    """A back-dated attempt, and another elsewhere just when it is looked for: it is found all the same."""
    meddle, old = False, list[dict[str, Any]]()

    async def before(request: Request, handler: Handler) -> Response:
        nonlocal meddle
        response = await handler(request)
        if meddle and "date_1" in request.target and "state" not in request.target:
            meddle = False  # just after the first count over all settled windows
            institute.insert_attempts(1, at=datetime.fromisoformat(old[0]["date"]))
        return response

    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, _):
        options: dict[str, Any] = {"middleware": (before,), "retry": RetryPolicy(max_tries=1)}
        async with Client(institute.url, token=institute.token(), **options) as client:
            dataset = Dataset(tmp_path)
            await update(client, tmp_path, "attempts")
            old += by_date(institute)
            late = datetime.fromisoformat(old[len(old) * 3 // 4]["date"])
            (new,) = institute.insert_attempts(1, at=late)
            reads = await plan(client, ["attempts"], into=dataset)
            meddle = True
            await harvest(client, reads, into=dataset)
        assert not meddle
    assert new in {row["id"] for row in rows(tmp_path / "attempts.jsonl")}


async def test_answers_follow_an_attempt_that_is_read_again_in_the_same_run(tmp_path: Path):
    """Interrupted after some answers, and taken up when there are too many attempts for one shard."""
    async with opened(**recent(attempts=50, per_page=6, exams=2)) as (institute, client):
        dataset = Dataset(tmp_path)
        running = next(row["id"] for row in institute.truth.records("attempts") if row["state"] == "Running")
        later = by_date(institute)[-1]["id"]
        assert running != later
        institute.script(Fault(path=ANSWERS.format(later), status=400, body=b"{}"))
        reads = await plan(client, ["user_answers"], into=dataset)
        with pytest.raises(BadRequest):
            await harvest(client, reads, into=dataset, concurrency=1)
        assert any(done.shard.parent == running for done in dataset.readings())
        before = list(institute.truth.records("user_answers", parent=running))
        institute.edit_attempt(running, correct_answers_count=0, unanswered_count=len(before) + 1)
        institute.insert_attempts(40)
        await update(client, tmp_path, "user_answers")
        found = [row for row in rows(tmp_path / "user_answers.jsonl") if row.pop("attempt_id") == running]
        truth = list(institute.truth.records("user_answers", parent=running))
        assert sorted(found, key=_id) == sorted(truth, key=_id) != sorted(before, key=_id)


def _id(row: dict[str, Any]) -> int:
    return row["id"]


def test_known_readings_survive_json():
    """What an update relies on is what the manifest holds."""
    reading = done(0, None, run=3, running=2, passes=2, status="open")
    assert msgspec.json.decode(msgspec.json.encode(reading), type=ShardDone) == reading


async def test_a_plan_for_another_dataset_loses_nothing(tmp_path: Path):
    """What is settled in one dataset is read for another one all the same."""
    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, client):
        await update(client, tmp_path / "full", "attempts")
        reads = await plan(client, ["attempts"], into=Dataset(tmp_path / "full"))
        await harvest(client, reads, into=Dataset(tmp_path / "empty"))
        assert same_as(institute, tmp_path / "empty")


# --- content attempts --------------------------------------------------------------------------------------


CONTENTS: dict[str, Any] = {"attempts": 0, "content_attempts": 300, "courses": 3, "answers_per_page": 20}


async def cut(client: Client, path: Path, max_pages: int) -> Report:
    """An export of content attempts in shards of so many pages."""
    reads = await plan(client, ["content_attempts"], max_pages=max_pages, into=Dataset(path))
    assert (len(reads.shards) > 1) is (max_pages == 1)
    return await harvest(client, reads, into=Dataset(path))


@pytest.mark.parametrize("sizes", [(100, 1), (1, 100), (1, 1), (1, 100, 1)], ids=str)
async def test_a_content_attempt_that_vanished_is_gone_however_lists_were_cut(
    sizes: tuple[int, ...], tmp_path: Path
):
    """Read whole and then in parts, or the other way round: what no part holds any more is gone."""
    async with opened(**CONTENTS) as (
        institute,
        client,
    ):
        await cut(client, tmp_path, sizes[0])
        left = 300
        for size in sizes[1:]:
            institute.delete_content_attempts(list(institute.truth.ids("content_attempts"))[:5])
            report = await cut(client, tmp_path, size)
            left -= 5
            assert changes(report, "content_attempts") == Changes(gone=5, unchanged=left)
        there = sorted(institute.truth.ids("content_attempts"))
    assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == there


async def test_nothing_is_called_gone_where_a_part_could_not_be_proved(tmp_path: Path):
    """What is missing from the parts may be in the one that is doubtful."""

    def doubtful(body: bytes) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(body) | {"count": 1})

    async with opened(**CONTENTS) as (
        institute,
        client,
    ):
        await cut(client, tmp_path, 100)
        institute.delete_content_attempts(list(institute.truth.ids("content_attempts"))[:5])
        reads = await plan(client, ["content_attempts"], max_pages=1, into=Dataset(tmp_path))
        largest = max(reads.shards, key=lambda shard: reads.records[shard.id])
        name, value = largest.filters[0]
        institute.script(Fault(query=f"{name}={value}", change=doubtful, times=None))
        report = await harvest(client, reads, into=Dataset(tmp_path))
    assert "content_attempts" in report.unproven
    assert changes(report, "content_attempts").gone == 0


def _started(row: dict[str, Any]) -> bool:
    return row["state"] in ("Started", 0)


async def test_what_came_after_the_plan_was_made_is_not_called_gone(tmp_path: Path):
    """An export since then has found content attempts where there had been none: no part holds them."""
    async with opened(**CONTENTS) as (institute, client):
        reads = await plan(client, ["content_attempts"], max_pages=1, into=Dataset(tmp_path))
        assert len({shard.filters for shard in reads.shards}) > 1
        await cut(client, tmp_path, 100)
        old = msgspec.structs.replace(reads, shards=reads.shards[1:])  # as if nobody had been there
        report = await harvest(client, old, into=Dataset(tmp_path))
        assert changes(report, "content_attempts").gone == 0
        there = sorted(institute.truth.ids("content_attempts"))
    assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == there


async def test_a_content_attempt_that_left_the_state_asked_for_is_not_gone(tmp_path: Path):
    """Everything was read, cut by state, and then only what is started: who completed is still there."""
    async with opened(**CONTENTS | {"courses": 1}) as (institute, client):
        await cut(client, tmp_path, 1)
        there = sorted(institute.truth.ids("content_attempts"))
        started = next(row for row in institute.truth.records("content_attempts") if _started(row))
        institute.complete_content_attempts([started["id"]])
        for _ in range(2):
            await update(client, tmp_path, "content_attempts", content_state=0, max_pages=1)
        assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == there
        institute.delete_content_attempts(there[:5])
        report = await cut(client, tmp_path, 1)
    assert changes(report, "content_attempts").gone == 5


async def test_what_left_the_state_that_is_always_asked_for_leaves_the_table(tmp_path: Path):
    """There is no other reading that could hold it."""
    async with opened(**CONTENTS | {"courses": 1}) as (institute, client):
        await update(client, tmp_path, "content_attempts", content_state=0, max_pages=1)
        started = next(row for row in institute.truth.records("content_attempts") if _started(row))
        institute.complete_content_attempts([started["id"]])
        report = await update(client, tmp_path, "content_attempts", content_state=0, max_pages=1)
    assert changes(report, "content_attempts").gone == 1


async def test_who_went_to_a_state_that_could_not_be_proved_is_not_called_gone(tmp_path: Path):
    """Its old state was read again perfectly, and without it."""

    def hidden(body: bytes) -> bytes:
        listed = msgspec.json.decode(body)
        found = listed["results"]["content_attempts"]
        found[:] = [each for each in found if each["id"] != started["id"]]
        return msgspec.json.encode(listed)

    async with opened(**CONTENTS | {"courses": 1}) as (institute, client):
        await cut(client, tmp_path, 1)
        there = sorted(institute.truth.ids("content_attempts"))
        started = next(row for row in institute.truth.records("content_attempts") if _started(row))
        institute.complete_content_attempts([started["id"]])
        institute.script(Fault(path=CONTENT_ATTEMPTS, change=hidden, times=None))
        await cut(client, tmp_path, 1)
    assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == there


@pytest.mark.parametrize("skip", range(4))
@pytest.mark.parametrize("moves", [True, False], ids=["completed", "came"])
async def test_what_is_in_no_part_is_not_hidden_by_what_moves_meanwhile(
    moves: bool, skip: int, tmp_path: Path
):
    """Some have a state nobody knows; as many are counted in two states, or come while they are counted."""
    async with opened(**CONTENTS | {"courses": 1, "content_attempts": 120, "seed": 6}) as (institute, client):
        records = list(institute.truth.records("content_attempts"))
        unknown = sum(row["state"] == "Expired" for row in records)
        started = [row["id"] for row in records if _started(row)]
        assert unknown

        def meanwhile(body: bytes) -> bytes:
            if moves:
                institute.complete_content_attempts(started[:unknown])
            else:
                institute.insert_content_attempts(unknown)
            return body

        (script,) = institute.script(Fault(query="state=", change=meanwhile, skip=skip))
        reads = await plan(client, ["content_attempts"], max_pages=1, into=Dataset(tmp_path))
        assert script.hits
        await harvest(client, reads, into=Dataset(tmp_path))
    found = {row["id"] for row in rows(tmp_path / "content_attempts.jsonl")}
    assert found >= {row["id"] for row in records}


@pytest.mark.parametrize("max_pages", [1, 100])
async def test_records_that_are_not_usable_any_more_are_not_gone(max_pages: int, tmp_path: Path):
    """They are there and go to quarantine, as all would where a server changes what ids look like."""

    def renamed(body: bytes) -> bytes:
        return body.replace(b'"id":', b'"pk":')

    async with opened(**CONTENTS) as (institute, client):
        await cut(client, tmp_path, max_pages)
        reads = await plan(client, ["content_attempts"], max_pages=max_pages, into=Dataset(tmp_path))
        institute.script(Fault(path=CONTENT_ATTEMPTS, change=renamed, times=None))
        report = await harvest(client, reads, into=Dataset(tmp_path))
        there = sorted(institute.truth.ids("content_attempts"))
    assert report.quarantined
    assert changes(report, "content_attempts").gone == 0
    assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == there


async def test_an_attempt_that_starts_while_it_is_read_is_not_called_gone(tmp_path: Path):
    """It had no date and has that of today: what has none is read before the day that is still open."""
    async with opened(**recent(attempts=3_000, per_page=20)) as (institute, client):
        await update(client, tmp_path, "attempts")
        waiting = next(row["id"] for row in institute.truth.records("attempts") if not row["date"])

        def starts(body: bytes) -> bytes:
            institute.edit_attempt(waiting, date=NOW)
            return body

        reads = await plan(client, ["attempts"], into=Dataset(tmp_path))
        institute.script(Fault(query="date_0=2026-06-14", change=starts))
        report = await harvest(client, reads, into=Dataset(tmp_path), concurrency=1)
        assert changes(report).gone == 0
        assert waiting in {row["id"] for row in rows(tmp_path / "attempts.jsonl")}
