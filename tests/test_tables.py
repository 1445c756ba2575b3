"""Finished tables: one row per id, the newest reading wins."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testpress_async.harvest.dataset import Dataset, Spool
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.report import Changes
from testpress_async.harvest.shard import Shard
from testpress_async.harvest.tables import finish_tables, opened, with_parent
from tests.support.exporting import lines, rows

ORIGIN = "https://institute.example"

Reading = tuple[Shard, list[bytes]]


def _land(path: Path, table: str, *commits: list[Reading], agrees: bool = True) -> dict[str, int]:
    """Land *commits*, each some readings at once; then finish."""
    with Dataset(path).writing(ORIGIN) as store:
        for readings in commits:
            shards: list[tuple[ShardDone, dict[str, Spool]]] = []
            for shard, pieces in readings:
                spool = Spool()
                for piece in pieces:
                    spool.add(piece)
                done = ShardDone(shard=shard, rows={table: len(pieces)}, agrees=agrees, run=store.run)
                shards.append((done, {table: spool}))
            store.commit(shards)
        return {table: found.changes.records for table, found in finish_tables(store, [table]).items()}


def _row(number: int, version: int) -> bytes:
    return msgspec.json.encode({"id": number, "version": version})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(1, 6), max_size=6), max_size=3), max_size=4))
def test_the_newest_reading_of_each_id_wins(commits: list[list[list[int]]]):
    """However often and in whatever parts a record was read, its last reading is kept, once."""
    version, expected, landed = 0, dict[int, int](), list[list[Reading]]()
    for number, readings in enumerate(commits):
        landed.append([])
        for place, numbers in enumerate(readings):
            pieces: list[bytes] = []
            for each in numbers:
                version += 1
                expected[each] = version
                pieces.append(_row(each, version))
            landed[-1].append((Shard(table="attempts", filters=((str(number), str(place)),)), pieces))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        counted = _land(path, "attempts", *landed)
        found = [(row["id"], row["version"]) for row in rows(path / "attempts.jsonl")]
    assert sorted(found) == sorted(expected.items())
    assert found == sorted(found, key=lambda row: row[1])
    assert counted == {"attempts": len(expected)}


def test_rows_without_id_are_told_apart_by_their_text(tmp_path: Path):
    """Rows of a table without ids are all kept, equal ones once."""
    shard = Shard(table="exams")
    _land(tmp_path, "exams", [(shard, [b'{"slug":"a"}', b'{"slug":"b"}', b'{"slug":"a"}'])])
    assert lines(tmp_path / "exams.jsonl") == [b'{"slug":"b"}', b'{"slug":"a"}']


def test_attendance_is_that_of_the_last_reading(tmp_path: Path):
    """A conference read again replaces its attendance as a whole; equal rows in one reading both stay."""
    one, two = Shard(table="attendance", parent=1), Shard(table="attendance", parent=2)
    counted = _land(
        tmp_path,
        "attendance",
        [(one, [b'{"name":"gone"}', b'{"name":"stays"}']), (two, [b'{"name":"other"}'])],
        [(one, [b'{"name":"stays"}', b'{"name":"stays"}'])],
    )
    assert lines(tmp_path / "attendance.jsonl") == [
        b'{"video_conference_id":2,"name":"other"}',
        b'{"video_conference_id":1,"name":"stays"}',
        b'{"video_conference_id":1,"name":"stays"}',
    ]
    assert counted == {"attendance": 3}


def test_attendance_that_stays_is_unchanged(tmp_path: Path):
    """Rows without ids are the same as those of the run before by their conference and text."""
    one, two = Shard(table="attendance", parent=1), Shard(table="attendance", parent=2)
    before = [b'{"name":"stays"}', b'{"name":"stays"}', b'{"name":"goes"}']
    after = [b'{"name":"comes"}', b'{"name":"stays"}', b'{"name":"stays"}', b'{"name":"stays"}']
    found: dict[str, Changes] = {}
    for rows_now in (before, after):
        with Dataset(tmp_path).writing(ORIGIN) as store:
            for shard, lines_now in ((one, rows_now), (two, [b'{"name":"stays"}'])):
                spool = Spool()
                for line in lines_now:
                    spool.add(line)
                done = ShardDone(shard=shard, rows={"attendance": len(lines_now)}, run=store.run)
                store.commit([(done, {"attendance": spool})])
            found = {table: each.changes for table, each in finish_tables(store, ["attendance"]).items()}
            store.finish()
    assert found == {"attendance": Changes(new=2, changed=0, gone=1, unchanged=3)}
    assert len(lines(tmp_path / "attendance.jsonl")) == 5


def test_a_read_that_agrees_with_the_count_replaces_the_earlier_ones(tmp_path: Path):
    """What is no longer there has been deleted; finishing again writes the table anew."""
    _land(tmp_path, "exams", [(Shard(table="exams"), [_row(1, 1), _row(2, 1)])])
    assert len(lines(tmp_path / "exams.jsonl")) == 2
    _land(tmp_path, "exams", [(Shard(table="exams"), [_row(2, 2)])])
    assert lines(tmp_path / "exams.jsonl") == [_row(2, 2)]
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_doubtful_read_removes_nothing(tmp_path: Path):
    """It can have missed records: what it did not bring stays as it was read before."""
    _land(tmp_path, "exams", [(Shard(table="exams"), [_row(1, 1), _row(2, 1)])])
    _land(tmp_path, "exams", [(Shard(table="exams"), [_row(2, 2)])], agrees=False)
    assert lines(tmp_path / "exams.jsonl") == [_row(1, 1), _row(2, 2)]


def test_other_filters_add_to_a_table(tmp_path: Path):
    """A read with other filters says nothing about what it did not ask for."""
    five, six = (Shard(table="attempts", filters=(("exams", exam),)) for exam in "56")
    _land(tmp_path, "attempts", [(five, [_row(1, 1)])], [(six, [_row(2, 1)])])
    assert lines(tmp_path / "attempts.jsonl") == [_row(1, 1), _row(2, 1)]


def test_a_conference_nobody_attended_any_more_is_empty(tmp_path: Path):
    """A newer reading without rows replaces the older one too."""
    one = Shard(table="attendance", parent=1)
    _land(tmp_path, "attendance", [(one, [b'{"name":"gone"}'])], [(one, [])])
    assert lines(tmp_path / "attendance.jsonl") == []


@pytest.mark.parametrize(
    ("table", "parent", "row", "found"),
    [
        ("user_answers", 7, b'{"id":1}', b'{"attempt_id":7,"id":1}'),
        ("user_answers", 7, b'{ "id":1}', b'{"attempt_id":7,"id":1}'),
        ("user_answers", 7, b"{}", b'{"attempt_id":7}'),
        ("user_answers", 7, b"{ }", b'{"attempt_id":7}'),
        ("user_answers", 7, b'{"id":1,"attempt_id":8}', b'{"id":1,"attempt_id":8}'),
        ("user_answers", None, b'{"id":1}', b'{"id":1}'),
        ("attendance", 3, b'{"name":"a"}', b'{"video_conference_id":3,"name":"a"}'),
        ("attempts", 7, b'{"id":1}', b'{"id":1}'),
    ],
)
def test_rows_get_the_id_of_their_parent(table: str, parent: int | None, row: bytes, found: bytes):
    """The parent's id goes in front of rows that lack it; all else stays as it is."""
    assert with_parent(table, parent, row) == found


def test_conferences_are_found_however_the_lists_were_cut(tmp_path: Path):
    """What came along with one shard is not landed again with another: any may tell of a conference."""
    kinds = [Shard(table="content_attempts", filters=(("content_type", each),)) for each in "45"]
    course = Shard(table="content_attempts", filters=(("course_ids", "8"),))
    with Dataset(tmp_path).writing(ORIGIN) as store:
        for number, shard in enumerate(kinds):
            spool = Spool()
            spool.add(b'{"id":%d,"video_conference":{"id":%d}}' % (number, number + 70))
            done = ShardDone(shard=shard, rows={"user_video_conferences": 1}, run=store.run)
            store.commit([(done, {"user_video_conferences": spool})])
        with opened(store) as found:
            assert found.parents(
                "attendance", [Shard(table="content_attempts")], store.run
            ).wanted.tolist() == [70, 71]
            assert found.parents("attendance", [course], store.run).wanted.tolist() == [70, 71]
            assert found.parents("attendance", [kinds[1]], store.run).wanted.tolist() == [71]


# --- tables of parents: as many readings as there are attempts ----------------------------------------

OfParent = tuple[int, int, bool, frozenset[int]]
"""Number of the run, parent, whether the reading agreed with the server's count, and the ids it brought."""

of_parents = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.frozensets(st.integers(0, 2))),
    max_size=8,
).map(lambda readings: sorted(readings, key=lambda reading: reading[0]))


def land_answers(path: Path, readings: list[OfParent]) -> None:
    """Each reading a commit; each run is ended."""
    for run, group in groupby(readings, key=lambda reading: reading[0]):
        with Dataset(path).writing(ORIGIN) as store:
            for _, parent, agrees, ids in group:
                spool = Spool()
                spool.add(*(_row(10 * parent + each, run) for each in sorted(ids)))
                done = ShardDone(
                    shard=Shard(table="user_answers", parent=parent),
                    rows={"user_answers": len(ids)},
                    agrees=agrees,
                    run=run,
                )
                store.commit([(done, {"user_answers": spool})])
            store.finish()


def gone_since(readings: list[OfParent], answer: int) -> int | None:
    """The run whose complete reading of the parent no longer had *answer*, after the last one that did."""
    of_parent = [each for each in readings if each[1] == answer // 10]
    last = max(place for place, (*_, ids) in enumerate(of_parent) if answer % 10 in ids)
    return next((run for run, _, agrees, _ in of_parent[last + 1 :] if agrees), None)


@settings(max_examples=60, deadline=None)
@given(of_parents)
def test_an_answer_is_gone_when_a_complete_reading_no_longer_has_it(readings: list[OfParent]):
    """Whatever else was read in between, in this run or in others."""
    brought = {10 * parent + each for _, parent, _, ids in readings for each in ids}
    gone = {answer: run for answer in brought if (run := gone_since(readings, answer)) is not None}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        land_answers(path, readings)
        with Dataset(path).writing(ORIGIN) as store:
            finish_tables(store, ["user_answers"])
        found = [row["id"] for row in rows(path / "user_answers.jsonl")]
        told = rows(path / "user_answers.gone.jsonl") if gone else []
    assert sorted(found) == sorted(brought - gone.keys())
    assert {row["id"]: row["run"] for row in told} == gone


def many_answers(first: int, number: int) -> Iterator[tuple[ShardDone, dict[str, Spool]]]:
    """An attempt each, of which one answer was read."""
    for parent in range(first, first + number):
        spool = Spool()
        spool.add(_row(parent, 1))
        shard = Shard(table="user_answers", parent=parent)
        yield ShardDone(shard=shard, rows={"user_answers": 1}, count=1, run=1), {"user_answers": spool}


def test_a_million_attempts_would_fit_into_memory(tmp_path: Path):
    """What Python holds while answers are landed, looked through and finished: less than 200 bytes each."""
    number, at_once = 20_000, 500
    attempts = Spool()
    attempts.add(*(_row(each, 1) for each in range(number)))
    whole = Shard(table="attempts")
    with Dataset(tmp_path).writing(ORIGIN) as store:
        store.commit([(ShardDone(shard=whole, rows={"attempts": number}, run=1), {"attempts": attempts})])
        del attempts
        gc.collect()
        tracemalloc.start()
        for first in range(0, number, at_once):
            store.commit([*many_answers(first, at_once)])
        with opened(store) as found:
            parents = found.parents("user_answers", [whole], store.run)
            assert (len(parents.wanted), parents.fresh, len(parents.read_now)) == (0, number, number)
            assert found.finish("user_answers").changes == Changes(new=number)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(lines(tmp_path / "user_answers.jsonl")) == number
    assert peak_bytes < 200 * number
