"""A dataset on disk: whole shards or nothing, one writer, one institute, damage is noticed."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest
import zstandard

from testpress_async.errors import DatasetError
from testpress_async.harvest.dataset import SPOOL_BYTES, Dataset, Spool, Store
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.shard import Shard
from tests.support.exporting import entries, everything, export, files, lines, opened, tables

ORIGIN = "https://institute.example"
EXAMS = Shard(table="exams")


def _commit(store: Store, *pieces: bytes, shard: Shard = EXAMS) -> int:
    spool = Spool()
    for piece in pieces:
        spool.add(piece)
    done = ShardDone(shard=shard, rows={shard.table: len(pieces)}, count=len(pieces))
    return store.commit([(done, {shard.table: spool})])


def _part(path: Path) -> Path:
    (part,) = path.glob("exams/part-*.jsonl")
    return part


def test_committed_rows_are_read_back(tmp_path: Path):
    """Rows come back in order, each with the shard it was read by, and only of the shards asked for."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        one, two = Shard(table="attendance", parent=1), Shard(table="attendance", parent=2)
        assert _commit(store, b'{"n":1}', b'{"n":2}', shard=one) == 16
        _commit(store, b'{"n":3}', shard=two)
        _commit(store, b'{"id":9}')
        found = [(done.shard, row) for done, row in store.rows("attendance")]
        assert found == [(one, b'{"n":1}'), (one, b'{"n":2}'), (two, b'{"n":3}')]
        assert [row for _, row in store.rows("attendance", frozenset({two.id}))] == [b'{"n":3}']
        assert set(store.stored()) == {one.id, two.id, EXAMS.id}


def test_a_part_can_hold_many_shards(tmp_path: Path):
    """Small shards share one part; rows still know their shard."""
    shards = [Shard(table="attendance", parent=number) for number in range(5)]
    with Dataset(tmp_path).writing(ORIGIN) as store:
        batch: list[tuple[ShardDone, dict[str, Spool]]] = []
        for number, shard in enumerate(shards):
            spool = Spool()
            for _ in range(number):
                spool.add(b'{"n":%d}' % number)
            batch.append((ShardDone(shard=shard, rows={"attendance": number}), {"attendance": spool}))
        store.commit(batch)
        found = [(done.shard.parent, row) for done, row in store.rows("attendance")]
    assert len(files(tmp_path)) == 1
    assert found == [(n, b'{"n":%d}' % n) for n in range(5) for _ in range(n)]


@pytest.mark.parametrize("size", [10, SPOOL_BYTES - 1, SPOOL_BYTES, SPOOL_BYTES + 1])
def test_a_spool_gives_back_everything_in_order(size: int):
    """Small or larger than memory allows: what was added comes out, in order."""
    spool = Spool()
    pieces = [b"%d" % number + b"x" * (size // 2) for number in range(5)]
    for piece in pieces:
        spool.add(piece)
    assert b"".join(spool.chunks()) == b"".join(piece + b"\n" for piece in pieces)
    assert spool.rows == 5
    spool.close()


def test_an_interrupted_run_goes_on_a_finished_one_begins_anew(tmp_path: Path):
    """The run number stays until a run is finished; then nothing counts as stored any more."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert (store.run, store.resumed) == (1, False)
        _commit(store, b'{"id":1}')
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert (store.run, store.resumed, set(store.stored())) == (1, True, {EXAMS.id})
        store.finish()
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert (store.run, store.resumed, store.stored()) == (2, False, {})
        assert [row for _, row in store.rows("exams")] == [b'{"id":1}']


def test_two_exports_cannot_write_at_once(tmp_path: Path):
    """The second writer is refused and disturbs nothing; after the first has ended it may."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        with (
            pytest.raises(DatasetError, match="another export is writing here"),
            Dataset(tmp_path).writing(ORIGIN),
        ):
            pass
        _commit(store, b'{"id":1}')
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert store.resumed


def test_a_foreign_directory_is_refused_untouched(tmp_path: Path):
    """A directory with other files in it is no place for a dataset; nothing is added to it."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty and no dataset"), Dataset(tmp_path).writing(ORIGIN):
        pass
    assert everything(tmp_path) == [tmp_path, tmp_path / "thesis.txt"]


def test_another_institutes_dataset_is_refused(tmp_path: Path):
    """Records of two institutes are never mixed: the error names the one that is there."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        store.finish()
    with (
        pytest.raises(DatasetError, match=r"holds records of https://institute\.example"),
        Dataset(tmp_path).writing("https://other.example"),
    ):
        pass
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("below", ["", "out", "deep/out"])
def test_a_file_in_the_way_is_an_error(tmp_path: Path, below: str):
    """A file where the directory should be is named."""
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    with pytest.raises(DatasetError, match="file"), Dataset(blocked / below).writing(ORIGIN):
        pass
    assert blocked.read_text() == "mine"


def test_a_file_in_the_way_of_a_part_is_an_error(tmp_path: Path):
    """If a table's directory cannot be made the commit fails as DatasetError and nothing counts."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        (tmp_path / "exams").write_text("in the way")
        with pytest.raises(DatasetError, match="exams"):
            _commit(store, b'{"id":1}')
        assert store.stored() == {}


def test_a_directory_in_the_way_of_a_finished_table_is_an_error(tmp_path: Path):
    """A finished table that cannot be replaced is named."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        (tmp_path / "exams.jsonl" / "x").mkdir(parents=True)
        with pytest.raises(DatasetError, match=r"exams\.jsonl"):
            store.replace("exams.jsonl", iter([b"{}"]))


def test_a_full_disk_is_told_with_a_remedy(tmp_path: Path):
    """No space left: the error says what helps, and what was committed before is still there."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        _commit(store, b'{"id":1}')

        class Full(Spool):
            def chunks(self):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                yield b""

        done = ShardDone(shard=Shard(table="attempts"), rows={"attempts": 0})
        with pytest.raises(DatasetError, match="No space left") as caught:
            store.commit([(done, {"attempts": Full()})])
        assert "Free some space" in caught.value.remedy
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert set(store.stored()) == {EXAMS.id}
        assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("data", [b"", b'{"id":1', b'{"id":1}\n{"id":2}\n'])
def test_a_part_changed_after_its_commit_is_noticed(tmp_path: Path, data: bytes):
    """A part of another size than was committed is named, not read as if nothing had happened."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        _commit(store, b'{"id":1}')
        _part(tmp_path).write_bytes(data)
        with pytest.raises(DatasetError, match=r"part-0001-00000002\.jsonl: was changed"):
            list(store.rows("exams"))


def test_a_missing_part_is_noticed(tmp_path: Path):
    """A part the manifest names and that is gone is named."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        _commit(store, b'{"id":1}')
        _part(tmp_path).unlink()
        with pytest.raises(DatasetError, match=r"part-0001-00000002\.jsonl: No such file"):
            list(store.rows("exams"))


def test_leftovers_of_a_killed_export_are_swept(tmp_path: Path):
    """What no entry names is removed by the next export; what is named stays."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        _commit(store, b'{"id":1}')
    kept = files(tmp_path)
    left = [
        tmp_path / "exams" / "part-0001-00000003.jsonl",
        tmp_path / "exams" / ".part-0001-00000003.jsonl.tmp",
        tmp_path / ".exams.jsonl.tmp",
        tmp_path / "manifest" / ".00000003.json.tmp",
    ]
    for path in left:
        path.write_bytes(b'{"id":666}\n')
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert [row for _, row in store.rows("exams")] == [b'{"id":1}']
    assert files(tmp_path) == kept
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("number", [0, 1, 60_000])
def test_a_finished_file_holds_every_line(tmp_path: Path, number: int):
    """None, one or more than is kept in memory at once: all lines, in order."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        made = [b"%040d" % each for each in range(number)]
        assert store.replace("exams.jsonl", iter(made)) == number
    assert lines(tmp_path / "exams.jsonl") == made


def test_a_bad_record_is_kept_once(tmp_path: Path):
    """However often it is read: within a run, in the next one, and after a crash that cut its line short."""
    kept = tmp_path / "quarantine" / "exams.jsonl"
    for _ in range(2):
        with Dataset(tmp_path).writing(ORIGIN) as store:
            for number in (1, 2, 1):
                store.quarantine("exams", {"number": number})
    assert lines(kept) == [b'{"number":1}', b'{"number":2}']
    kept.write_bytes(kept.read_bytes()[:-4])
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert lines(kept) == [b'{"number":1}']
        store.quarantine("exams", {"number": 2})
    assert lines(kept) == [b'{"number":1}', b'{"number":2}']


def test_many_bad_records_do_not_pile_up_in_memory(tmp_path: Path):
    """They are on disk long before the shard they came from is complete; the rest follows with its commit."""
    kept = tmp_path / "quarantine" / "exams.jsonl"
    with Dataset(tmp_path).writing(ORIGIN) as store:
        for number in range(2_000):
            store.quarantine("exams", {"number": number, "raw": b"x" * 1_000})
        assert 0 < len(lines(kept)) < 2_000
        _commit(store, b'{"id":1}')
        assert len(lines(kept)) == 2_000


@pytest.mark.parametrize("failing", [False, True])
def test_bad_records_are_kept_without_a_commit(tmp_path: Path, failing: bool):
    """An export that ends, well or not, before it stores another shard has written them."""
    with contextlib.suppress(KeyError), Dataset(tmp_path).writing(ORIGIN) as store:
        store.quarantine("exams", {"number": 1})
        if failing:
            raise KeyError("elsewhere")
    assert lines(tmp_path / "quarantine" / "exams.jsonl") == [b'{"number":1}']


def test_a_compressed_part_is_one_closed_frame(tmp_path: Path):
    """Any zstd tool can read a part, and its rows come back as they were."""
    made = [b'{"id":%d,"text":"%s"}' % (number, b"ab" * 500) for number in range(3_000)]
    with Dataset(tmp_path, compress=True).writing(ORIGIN) as store:
        stored_bytes = _commit(store, *made)
        assert [row for _, row in store.rows("exams")] == made
    (part,) = (tmp_path / "exams").iterdir()
    assert part.name.endswith(".jsonl.zst")
    assert part.stat().st_size == stored_bytes < sum(map(len, made)) / 10
    with part.open("rb") as file:
        assert zstandard.ZstdDecompressor().stream_reader(file).read() == b"".join(m + b"\n" for m in made)


def test_parts_of_both_kinds_are_read_together(tmp_path: Path):
    """Compression can be turned on and off between exports."""
    for number, compress in enumerate((False, True, False)):
        with Dataset(tmp_path, compress=compress).writing(ORIGIN) as store:
            _commit(store, b'{"id":%d}' % number, shard=Shard(table="attendance", parent=number))
            assert len(list(store.rows("attendance"))) == number + 1


def test_a_dataset_knows_its_finished_tables(tmp_path: Path):
    """Only tables with a finished file are named; making the object touches nothing."""
    dataset = Dataset(tmp_path / "out")
    assert dataset.tables == ()
    assert not (tmp_path / "out").exists()
    with dataset.writing(ORIGIN) as store:
        assert store.replace("users.jsonl", iter([b"{}", b"{}"])) == 2
        assert store.replace("exams.jsonl", iter([])) == 0
    assert dataset.tables == ("exams", "users")
    assert lines(tmp_path / "out" / "exams.jsonl") == []


async def test_a_finished_dataset_with_a_damaged_part_is_not_exported_over(tmp_path: Path):
    """A new export over a damaged part fails by name and keeps the finished tables as they were."""
    async with opened() as (_, client):
        await export(client, tmp_path, "exams")
        before = tables(tmp_path)
        part = _part(tmp_path)
        part.write_bytes(part.read_bytes()[:-3])
        with pytest.raises(DatasetError, match=part.name):
            await export(client, tmp_path, "exams")
    assert tables(tmp_path) == before
