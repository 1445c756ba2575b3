"""Harvests of a small institute: everything lands, nothing is lost or read twice."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from testpress_async.errors import BadRequest, ConfigError, NotFound, PermissionDenied, ServerFault
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.plan import Plan, plan
from testpress_async.harvest.reading import one_line
from testpress_async.harvest.report import FileStarted, PartsCommitted, RowsRead, TableStarted
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import SIDE_TABLES, TABLES
from testpress_async.http.events import Event
from testpress_async.sandbox import Fault
from tests.support.exporting import (
    ANSWERS,
    ATTEMPTS,
    CONTENT_ATTEMPTS,
    EXAMS,
    entries,
    everything,
    export,
    files,
    lines,
    opened,
    page,
    rows,
    tables,
    until,
)


def _truth_name(table: str) -> str:
    return f"content_attempts.{table}" if table in SIDE_TABLES["content_attempts"] else table


def _canonical(records: Any) -> Counter[bytes]:
    return Counter(msgspec.json.encode(record, order="sorted") for record in records)


async def test_every_table_holds_what_the_institute_holds(tmp_path: Path):
    """Each finished table has the institute's records, value for value, and each exactly once."""
    async with opened() as (institute, client):
        report = await export(client, tmp_path)
        assert {table.table: table.records for table in report.tables} == institute.truth.export_counts()
        assert set(Dataset(tmp_path).tables) == set(TABLES)
        for table in TABLES:
            found = rows(tmp_path / f"{table}.jsonl")
            for row in found:
                row.pop("attempt_id" if table == "user_answers" else "video_conference_id", None)
            assert _canonical(found) == _canonical(institute.truth.records(_truth_name(table))), table


async def test_attempts_are_landed_byte_for_byte(tmp_path: Path):
    """A landed attempt is the server's own text, in the server's order."""
    async with opened() as (_, client):
        await export(client, tmp_path, "attempts")
        served = [
            bytes(row)
            async for raw in client.attempts.list(ordering="date").raw_pages()
            for row in raw.rows["attempts"]
        ]
    assert [line for data in files(tmp_path).values() for line in data.splitlines()] == served
    assert lines(tmp_path / "attempts.jsonl") == served


async def test_finished_answers_and_attendance_name_their_parent(tmp_path: Path):
    """Every answer says which attempt it belongs to, every attendance which conference."""
    async with opened() as (institute, client):
        await export(client, tmp_path)
        truth = institute.truth
        answers = Counter(
            (attempt, answer)
            for attempt in truth.ids("attempts")
            for answer in truth.ids("user_answers", parent=attempt)
        )
        seats = Counter({each: truth.count("attendance", parent=each) for each in truth.conference_ids()})
    found = rows(tmp_path / "user_answers.jsonl")
    assert Counter((row["attempt_id"], row["id"]) for row in found) == answers
    attended = rows(tmp_path / "attendance.jsonl")
    assert Counter(row["video_conference_id"] for row in attended) == +seats


async def test_what_is_sent_along_lands_once(tmp_path: Path):
    """A side-loaded record that repeats on every page is landed a single time."""
    async with opened(answers_per_page=5) as (institute, client):
        await export(client, tmp_path, "content_attempts", "exam_questions")
        repeated = sum(seen.path == CONTENT_ATTEMPTS for seen in institute.log)
        assert repeated > 2
    for table in ("users", "courses", "exam_questions"):
        landed = [
            line
            for name, data in files(tmp_path).items()
            if name.startswith(f"{table}/")
            for line in data.splitlines()
        ]
        assert len(landed) == len(set(landed)) > 0


async def test_a_resumed_run_saves_no_more_than_was_sent(tmp_path: Path):
    """What it need not ask for again is counted in requests, not in records."""
    async with opened() as (institute, client):
        institute.script(Fault(path=ANSWERS.format(60), status=403, times=None))
        with pytest.raises(PermissionDenied):
            await export(client, tmp_path, "user_answers", concurrency=1)
        sent = client.requests_sent
        institute.clear_faults()
        report = await export(client, tmp_path, "user_answers", concurrency=1)
    assert report.resumed
    assert 0 < report.saved_requests <= sent


async def test_the_loop_goes_on_while_a_large_shard_is_landed(tmp_path: Path):
    """Between any two of its pages others get their turn."""
    turns, seen = 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def note(event: Event) -> None:
        if isinstance(event, RowsRead):
            seen.append(turns)

    async with opened(content_attempts=300, answers_per_page=20) as (_, client):
        other = asyncio.create_task(others())
        reads = await plan(client, ["content_attempts"], max_pages=100)
        await harvest(client, reads, into=Dataset(tmp_path), concurrency=1, on_event=note)
        other.cancel()
    assert len(seen) == len(set(seen)) == 15


async def test_a_second_run_keeps_the_parts_of_the_first_and_its_readings_win(tmp_path: Path):
    """Parts of the first run stay byte-identical; in the finished tables the newer reading is kept."""
    async with opened() as (institute, client):
        await export(client, tmp_path)
        first = files(tmp_path)
        institute.edit_attempt(7, score="999.25")
        new = institute.insert_attempts(2)
        report = await export(client, tmp_path)
        count = institute.truth.count("attempts")
    assert not report.resumed
    assert first.items() <= files(tmp_path).items()
    found = {row["id"]: row for row in rows(tmp_path / "attempts.jsonl")}
    assert len(rows(tmp_path / "attempts.jsonl")) == len(found) == count == 62
    assert found[7]["score"] == "999.25"
    assert set(new) <= set(found)
    assert [entry.kind for entry in entries(tmp_path)].count("started") == 2


async def test_a_failed_run_resumes_without_reading_anything_twice(tmp_path: Path):
    """After a failure for good the next run asks only for what was not stored, and ends as if undisturbed."""
    async with opened() as (institute, client):
        await export(client, tmp_path / "calm", concurrency=2)
        fault = Fault(path=ANSWERS.format(30), status=400, body=b"{}", times=None)
        institute.script(fault)
        with pytest.raises(BadRequest, match="30/user_answers"):
            await export(client, tmp_path / "rough", concurrency=2)
        done = [shard for entry in entries(tmp_path / "rough") for shard in entry.shards]
        stored = {ANSWERS.format(d.shard.parent) for d in done if d.shard.table == "user_answers"}
        stored |= {f"{ATTEMPTS}{d.shard.parent}/" for d in done if d.shard.table == "attempt_details"}
        assert len(stored) > 60
        institute.clear_faults()
        reads = await plan(client)
        institute.log.clear()
        report = await harvest(client, reads, into=Dataset(tmp_path / "rough"), concurrency=2)
        asked = {seen.path for seen in institute.log}
    assert report.resumed
    assert asked.isdisjoint(stored | {ATTEMPTS, EXAMS, CONTENT_ATTEMPTS})
    assert ANSWERS.format(30) in asked
    assert tables(tmp_path / "rough") == tables(tmp_path / "calm")
    skipped = {table.table: table.skipped_shards for table in report.tables}
    assert skipped["attempts"] == 1
    assert skipped["attempt_details"] == 60
    assert report.unproven == ()
    assert {t.table: t.records for t in report.tables}["user_answers"] == len(
        lines(tmp_path / "rough" / "user_answers.jsonl")
    )


async def test_a_cancelled_run_keeps_its_finished_shards(tmp_path: Path):
    """Cancelling half-way commits what was read whole; the next run goes on from there."""
    async with opened() as (institute, client):
        await export(client, tmp_path / "calm")
        rule = institute.script(Fault(path=ANSWERS.format(40), hold=asyncio.Event()))[0]
        running = asyncio.create_task(export(client, tmp_path / "rough", concurrency=1))
        await until(lambda: rule.hits == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        done = [shard.shard.table for entry in entries(tmp_path / "rough") for shard in entry.shards]
        assert 0 < done.count("user_answers") < 60
        report = await export(client, tmp_path / "rough")
    assert report.resumed
    assert tables(tmp_path / "rough") == tables(tmp_path / "calm")


async def test_a_parent_that_is_gone_is_counted(tmp_path: Path):
    """A 404 for one attempt's details or answers costs only these; the report counts it."""
    async with opened() as (institute, client):
        gone = {"status": 404, "body": b'{"detail": "Not found."}', "times": None}
        institute.script(Fault(path=f"{ATTEMPTS}7/", **gone), Fault(path=ANSWERS.format(8), **gone))
        report = await export(client, tmp_path)
    missing = {table.table: table.missing_parents for table in report.tables if table.missing_parents}
    assert missing == {"attempt_details": 1, "user_answers": 1}
    assert 7 not in {row["id"] for row in rows(tmp_path / "attempt_details.jsonl")}
    assert 8 not in {row["attempt_id"] for row in rows(tmp_path / "user_answers.jsonl")}
    assert len(lines(tmp_path / "attempts.jsonl")) == 60


async def test_a_whole_list_that_is_gone_is_an_error(tmp_path: Path):
    """A 404 for a list is no missing parent: the harvest fails."""
    async with opened() as (institute, client):
        reads = await plan(client, ("exams",))
        institute.script(Fault(path=EXAMS, status=404, body=b"{}"))
        with pytest.raises(NotFound):
            await harvest(client, reads, into=Dataset(tmp_path))


async def test_one_failure_is_raised_as_itself(tmp_path: Path):
    """When every worker fails, the caller gets one plain error, not a group of them."""
    async with opened() as (institute, client):
        institute.script(Fault(path="/api/v3/admin/attempts/", status=500, body=b"{}", times=None))
        with pytest.raises(ServerFault):
            await export(client, tmp_path, "user_answers", concurrency=8)


async def test_a_record_without_usable_id_goes_to_quarantine(tmp_path: Path):
    """Records without a whole id, or not UTF-8, are kept raw with the reason, and the run goes on."""
    good, wrong, broken = (
        b'{"id":1,"score":"1.00"}',
        b'{"id":"x","name":"\xc3\xa9"}',
        b'{"id":3,"name":"\xff"}',
    )
    async with opened() as (institute, client):
        body = page(good, wrong, broken)
        institute.script(Fault(path=ATTEMPTS, query="ordering", status=200, body=body, times=None))
        report = await export(client, tmp_path, "attempts", "attempt_details")
    assert lines(tmp_path / "attempts.jsonl") == [good]
    assert len(lines(tmp_path / "attempt_details.jsonl")) == 1
    kept = rows(tmp_path / "quarantine" / "attempts.jsonl")
    assert {base64.b64decode(each["raw_base64"]) for each in kept} == {wrong, broken}
    assert all(each["table"] == each["shard"]["table"] == "attempts" and each["reason"] for each in kept)
    assert report.quarantined == 2
    assert report.unproven == ()  # every record is accounted for: landed or quarantined


async def test_pretty_printed_answers_land_as_lines(tmp_path: Path):
    """A record the server breaks over lines is landed on one, its texts and numbers untouched."""
    record = b'{\r\n  "id": 1,\n  "name": "a\\n  b",\n  "score": 1.50,\n  "big": 12345678901234567890123\n}'
    async with opened() as (institute, client):
        institute.script(Fault(path=EXAMS, status=200, body=page(record), times=None))
        await export(client, tmp_path, "exams")
    (line,) = lines(tmp_path / "exams.jsonl")
    assert line == b'{"id":1,"name":"a\\n  b","score":1.50,"big":12345678901234567890123}'


def test_a_line_stays_as_it_is():
    """A record on one line is not touched, whatever its spaces."""
    assert one_line(b'{"id" : 1}') == b'{"id" : 1}'


async def test_a_table_that_differs_from_the_servers_count_is_unproven(tmp_path: Path):
    """The report names tables whose records are not as many as the server counted."""
    async with opened() as (institute, client):
        body = page(b'{"id":1}', b'{"id":2}', count=3)
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        report = await export(client, tmp_path, "exams", "attempts")
    assert report.unproven == ("exams",)
    assert report.records == 62


async def test_events_tell_the_course_of_a_harvest(tmp_path: Path):
    """Each table starts, is read, is committed and finishes, one table after the other."""
    seen: list[Event] = []
    async with opened() as (_, client):
        report = await export(client, tmp_path, "attempts", "user_answers", on_event=seen.append)
    starts = [event for event in seen if isinstance(event, TableStarted)]
    assert [(s.table, s.requests, s.records) for s in starts] == [
        ("attempts", 1, 60),
        ("user_answers", 60, None),
    ]
    kinds = [(type(event).__name__, getattr(event, "table", "")) for event in seen]
    order = list(dict.fromkeys(kinds))
    assert order == [
        ("TableStarted", "attempts"),
        ("RowsRead", "attempts"),
        ("ShardFinished", "attempts"),
        ("PartsCommitted", ""),
        ("TableFinished", "attempts"),
        ("TableStarted", "user_answers"),
        ("RowsRead", "user_answers"),
        ("ShardFinished", "user_answers"),
        ("TableFinished", "user_answers"),
        ("FileStarted", ""),
    ]
    assert kinds.count(("ShardFinished", "user_answers")) == 60
    files = [event for event in seen if isinstance(event, FileStarted)]
    assert seen[-len(files) :] == files
    assert [file.name for file in files] == [f"{table.table}.jsonl" for table in report.tables]
    read = sum(event.records for event in seen if isinstance(event, RowsRead))
    committed = [event for event in seen if isinstance(event, PartsCommitted)]
    assert read == sum(t.records for t in report.tables if t.table != "exam_questions")
    assert sum(event.records for event in committed) == report.records
    assert sum(event.data_bytes for event in committed) == report.data_bytes


async def test_an_observer_that_fails_does_not_hurt(tmp_path: Path):
    """An error in on_event is logged and the harvest goes on."""

    def listen(event: Event) -> None:
        raise RuntimeError("observer")

    async with opened() as (_, client):
        report = await export(client, tmp_path, "exams", on_event=listen)
    assert report.records == 3


async def test_many_records_are_committed_on_the_way(tmp_path: Path):
    """Beyond ten thousand records a table is committed in several parts, not at its end only."""
    async with opened(attempts=220) as (institute, client):
        await export(client, tmp_path, "user_answers", formats="none")
        assert institute.truth.export_counts()["user_answers"] > 10_000
    assert len([name for name in files(tmp_path) if name.startswith("user_answers/")]) > 1
    assert not tables(tmp_path)


async def test_concurrency_bounds_the_requests_on_the_way(tmp_path: Path):
    """*concurrency* parents are read at once, and never more requests than that are on the way."""
    go = asyncio.Event()
    async with opened(per_page=5) as (institute, client):
        institute.script(Fault(path="/api/v3/admin/attempts/", hold=go, times=None))
        running = asyncio.create_task(export(client, tmp_path, concurrency=3))
        await until(lambda: institute.in_flight == 3)
        go.set()
        report = await running
        assert institute.most_in_flight == 3
    assert report.unproven == ()


async def test_an_impossible_concurrency_is_refused_before_anything_is_done(tmp_path: Path):
    """Nobody can read with no worker: ConfigError, and not even the directory is made."""
    async with opened() as (_, client):
        nothing = Plan(shards=(), derived=(), costs=())
        with pytest.raises(ConfigError, match="concurrency"):
            await harvest(client, nothing, into=Dataset(tmp_path / "out"), concurrency=0)
    assert not (tmp_path / "out").exists()


async def test_neither_token_nor_password_is_stored(tmp_path: Path):
    """No byte under the dataset repeats the password or a token."""
    async with opened(password="correct-horse-7") as (institute, client):
        await export(client, tmp_path)
        token = institute.token().encode()
    header, _, rest = token.partition(b".")
    stored = [path.read_bytes() for path in everything(tmp_path) if path.is_file()]
    assert len(stored) > 20
    assert not any(secret in data for data in stored for secret in (b"correct-horse-7", header, rest))


async def test_files_are_for_their_owner_only(tmp_path: Path):
    """Directories are 0700 and files 0600, whatever is written into them."""
    root = tmp_path / "deep" / "out"
    async with opened() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, query="ordering", status=200, body=page(b"{}"), times=None))
        await export(client, root)
    found = everything(root)
    assert any(path.parent.name == "quarantine" for path in found)
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in found}
    assert modes == {(True, 0o700), (False, 0o600)}


async def test_a_deletion_between_pages_costs_nothing(tmp_path: Path):
    """The pages shift while they are read, and yet the shard holds everything that stayed."""
    go = asyncio.Event()
    async with opened(attempts=20, per_page=5) as (institute, client):
        made = await plan(client, ["attempts"])
        institute.script(Fault(path=ATTEMPTS, hold=go, skip=2))
        running = asyncio.create_task(harvest(client, made, into=Dataset(tmp_path)))
        await until(lambda: institute.in_flight == 1 and len(institute.log) > 3)
        institute.delete_attempts(institute.truth.ids("attempts")[:1])
        go.set()
        report = await running
        assert {row["id"] for row in rows(tmp_path / "attempts.jsonl")} == set(
            institute.truth.ids("attempts")
        )
    assert report.unproven == ()
    assert [table.certified for table in report.tables] == [1]


async def test_a_doubled_record_does_not_stand_in_for_a_lost_one(tmp_path: Path):
    """Different ids are counted, not rows."""
    async with opened() as (institute, client):
        body = page(b'{"id":1}', b'{"id":1}')
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        report = await export(client, tmp_path, "exams")
    assert report.unproven == ("exams",)


async def test_answers_that_do_not_match_their_count_are_read_again(tmp_path: Path):
    """The reads of single attempts are checked too: what is wrong once is repaired, what stays is named."""
    body = b'{"count":500,"next":null,"per_page":250,"results":{"user_answers":[{"id":1}]}}'
    async with opened() as (institute, client):
        institute.script(Fault(path=ANSWERS.format(30), status=200, body=body, times=1))
        report = await export(client, tmp_path / "once", "user_answers")
        assert report.unproven == ()
        assert report.tables[1].repaired == 1
        institute.script(Fault(path=ANSWERS.format(30), status=200, body=body, times=None))
        report = await export(client, tmp_path / "always", "user_answers")
    assert report.unproven == ("user_answers",)
    assert report.tables[1].unverified == 1


async def test_what_is_no_object_is_quarantined(tmp_path: Path):
    """Tables whose records need no id take objects only; the export goes on."""
    async with opened() as (institute, client):
        body = page(b'{"id":1}', b"null", b'{"id":{}}')
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        report = await export(client, tmp_path, "exams")
    assert lines(tmp_path / "exams.jsonl") == [b'{"id":1}']
    assert report.quarantined == 2
