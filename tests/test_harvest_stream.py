"""Shards as they are read: everything once, proved, bounded, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

import testpress_async as tp
from testpress_async.harvest.shard import SIDE_TABLES
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import settle
from tests.support.exporting import ANSWERS, ATTEMPTS, EXAMS, opened, page, until


async def streamed(client: tp.Client, reads: tp.Plan, **options: Any) -> list[tp.ReadShard]:
    async with tp.harvest_stream(client, reads, **options) as shards:
        return [shard async for shard in shards]


def reading() -> list[str]:
    """Tasks of streams that run now."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if "HarvestStream" in name]


def _ids(shards: list[tp.ReadShard], table: str) -> Counter[int]:
    return Counter(msgspec.json.decode(row)["id"] for s in shards for row in s.rows.get(table, ()))


async def test_every_shard_comes_once_with_its_records():
    """All tables of the institute, each record once, every shard proved; what was sent along is there."""
    async with opened() as (institute, client):
        shards = await streamed(client, await tp.plan(client))
        truth = institute.truth
        for table in ("exams", "attempts", "content_attempts", "attempt_details"):
            assert _ids(shards, table) == Counter(truth.ids(table)), table
        answers = {s.shard.parent: s for s in shards if s.shard.table == "user_answers"}
        assert set(answers) == set(truth.ids("attempts"))
        for parent, read in answers.items():
            assert [msgspec.json.decode(row)["id"] for row in read.rows["user_answers"]] == truth.ids(
                "user_answers", parent=parent
            )
            assert read.count == len(read.rows["user_answers"])
        attended = {
            s.shard.parent: len(s.rows["attendance"]) for s in shards if s.shard.table == "attendance"
        }
        assert attended == {n: truth.count("attendance", parent=n) for n in truth.conference_ids()}
        sides = {table for s in shards for table in s.rows}
        assert set(SIDE_TABLES["content_attempts"]) | {"exam_questions"} <= sides
    assert {s.status for s in shards} == {"certified"}
    assert len({s.shard.id for s in shards}) == len(shards)


async def test_windows_are_streamed_as_a_plan_cuts_them(institute: Sandbox, client: tp.Client):
    """Many shards of one table come to the whole, whatever the number of tasks."""
    reads = await tp.plan(client, ["attempts"], max_pages=2)
    assert len(reads.shards) > 3
    for concurrency in (1, 8):
        shards = await streamed(client, reads, concurrency=concurrency)
        assert _ids(shards, "attempts") == Counter(institute.truth.ids("attempts"))
        assert sum(s.count or 0 for s in shards) == 210


async def test_a_conference_of_several_shards_is_read_once():
    """Content attempts in different shards can belong to the same conference."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["attendance"])
        (whole,) = reads.shards
        completed = msgspec.structs.replace(whole, filters=(("state", "1"),))
        shards = await streamed(client, msgspec.structs.replace(reads, shards=(whole, completed)))
        sources = [s for s in shards if s.shard.table == whole.table]
        assert [bool(s.rows["user_video_conferences"]) for s in sources] == [True, True]
        parents = [s.shard.parent for s in shards if s.shard.table == "attendance"]
        assert Counter(parents) == Counter(institute.truth.conference_ids())


async def test_records_are_typed_and_joined():
    """`records()` gives what a listing gives; a kind chooses the table."""
    async with opened() as (_, client):
        shards = await streamed(client, await tp.plan(client, ["user_answers", "attempt_details"]))
        read = next(s for s in shards if s.shard.table == "user_answers" and s.rows["exam_questions"])
        assert read.shard.parent is not None
        listed = await client.attempts.user_answers(read.shard.parent).collect()
        detail = next(s for s in shards if s.shard.table == "attempt_details")
        assert detail.shard.parent is not None
        assert detail.records() == [await client.attempts.get(detail.shard.parent)]
    answers = read.records(tp.UserAnswer)
    assert answers == read.records() == listed
    assert [answer.question for answer in answers] == [answer.question for answer in listed]
    assert any(answer.question for answer in answers)
    assert {question.id for question in read.records(tp.ExamQuestion)} >= {
        answer.question.id for answer in answers if answer.question
    }
    assert read.records(tp.Attempt) == []
    with pytest.raises(tp.ConfigError, match="no table holds records of the kind LiveStream"):
        read.records(tp.LiveStream)


async def test_attempts_come_before_their_answers():
    """Who keeps attempts in a database has them when their answers come."""
    known: set[int] = set()
    async with opened() as (_, client):
        reads = await tp.plan(client, ["user_answers", "attempt_details"], max_pages=1)
        async with tp.harvest_stream(client, reads, concurrency=4) as shards:
            async for read in shards:
                if read.shard.table == "attempts":
                    known |= {attempt.id for attempt in read.records(tp.Attempt)}
                else:
                    assert read.shard.parent in known


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_slow_consumer_holds_reading_up(concurrency: int):
    """While nobody takes shards, at most `concurrency` are read, and then nothing is asked for."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["attempt_details"])
        async with tp.harvest_stream(client, reads, concurrency=concurrency) as shards:
            taken = 0
            async for _ in shards:
                taken += 1
                await settle(300)
                while institute.in_flight:
                    await settle()
                asked = [seen.path for seen in institute.log if seen.path.startswith(ATTEMPTS)]
                assert len(asked) - asked.count(ATTEMPTS) <= taken - 1 + concurrency
    assert taken == 61


async def test_leaving_cancels_what_is_being_read():
    """After `break`, no task and no request is left, and the client still works."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["user_answers"])
        async with tp.harvest_stream(client, reads) as shards:
            async for _ in shards:
                break
        assert not reading()
        await until(lambda: not institute.in_flight)
        assert await client.attempts.list().count() == 60


async def test_an_error_of_the_body_goes_through_unchanged():
    """It is not wrapped in a group, and what is being read is cancelled."""
    async with opened() as (_, client):
        reads = await tp.plan(client, ["user_answers"])

        async def body() -> None:
            async with tp.harvest_stream(client, reads) as shards:
                async for _ in shards:
                    assert reading()
                    raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await body()
        assert not reading()


async def test_cancelling_the_consumer_cancels_the_reading():
    """A cancelled job leaves nothing running."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["user_answers"])
        rule = institute.script(Fault(path=ANSWERS.format(5), hold=asyncio.Event()))[0]
        job = asyncio.create_task(streamed(client, reads, concurrency=2))
        await until(lambda: rule.hits == 1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert not reading()


async def test_the_first_failure_is_raised_as_itself():
    """Shards read before it have come; no exception group, nothing left."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["attempts", "user_answers"])
        institute.script(Fault(path=ANSWERS.format(5), status=400, body=b"{}", times=None))
        found: list[tp.ReadShard] = []

        async def body() -> None:
            async with tp.harvest_stream(client, reads) as shards:
                async for read in shards:
                    found.append(read)

        with pytest.raises(tp.BadRequest):
            await body()
        assert not reading()
    assert found[0].shard.table == "attempts"


async def test_a_parent_that_is_gone_is_counted():
    """A 404 for one attempt's answers costs only these."""
    async with opened() as (institute, client):
        gone = b'{"detail": "Not found."}'
        institute.script(Fault(path=ANSWERS.format(5), status=404, body=gone, times=None))
        async with tp.harvest_stream(client, await tp.plan(client, ["user_answers"])) as shards:
            parents = {read.shard.parent async for read in shards if read.shard.table == "user_answers"}
        assert shards.missing_parents == 1
    assert parents == set(range(1, 61)) - {5}


async def test_bad_records_come_apart():
    """What has no usable id is told with its reason, not among the rows; no bytes in a `repr`."""
    body = page(b'{"id":1,"name":"Asha"}', b'{"id":"x","name":"Asha"}')
    async with opened() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, status=200, body=body, times=None))
        (read,) = await streamed(client, await tp.plan(client, ["attempts"]))
    assert list(read.rows["attempts"]) == [b'{"id":1,"name":"Asha"}']
    assert [(bad.table, bad.raw) for bad in read.bad] == [("attempts", b'{"id":"x","name":"Asha"}')]
    assert "whole number" in read.bad[0].reason
    assert "Asha" not in repr(read) + repr(read.bad)


async def test_a_list_that_contradicts_its_count_is_unverified():
    """The status is that of a harvest."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["exams"])
        institute.script(Fault(path=EXAMS, status=200, body=page(b'{"id":1}', count=2), times=None))
        (read,) = await streamed(client, reads)
    assert read.status == "unverified"
    assert list(read.rows["exams"]) == [b'{"id":1}']


async def test_wrong_use_is_told():
    """Without its block, twice, or with no task at all."""
    async with opened() as (_, client):
        reads = await tp.plan(client, ["exams"])
        with pytest.raises(tp.ConfigError, match="concurrency"):
            tp.harvest_stream(client, reads, concurrency=0)
        with pytest.raises(tp.ConfigError, match="async with"):
            aiter(tp.harvest_stream(client, reads))
        async with tp.harvest_stream(client, reads) as shards:
            assert len([read async for read in shards]) == 1
            with pytest.raises(tp.ConfigError, match="once"):
                aiter(shards)
        async with tp.harvest_stream(client, reads):
            pass  # nothing was asked for, nothing is left


async def test_a_plan_of_nothing_ends_at_once():
    """No shards, no records, no waiting."""
    async with opened() as (_, client):
        assert await streamed(client, tp.Plan(shards=(), derived=(), costs=())) == []
