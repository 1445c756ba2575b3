"""Where datasets lie: the same promises on a disk and in object stores."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest
from obstore.store import LocalStore, MemoryStore

from testpress_async.errors import ConfigError, DatasetError
from testpress_async.harvest.dataset import Dataset, Spool, Store
from testpress_async.harvest.files import CHUNK_BYTES, Files, LocalFiles, ObjectFiles, unusable
from testpress_async.harvest.manifest import Entry, Manifest, ShardDone
from testpress_async.harvest.plan import plan
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard
from testpress_async.sandbox import Fault
from tests.support.exporting import ANSWERS, export, opened, tables

P = ParamSpec("P")
R = TypeVar("R")

ORIGIN = "https://institute.example"
PLACES: dict[str, Callable[[Path], LocalFiles | ObjectFiles]] = {
    "directory": LocalFiles,
    "local store": lambda path: ObjectFiles(LocalStore(path)),
    "memory store": lambda path: ObjectFiles(MemoryStore()),
}


@pytest.fixture(params=PLACES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> LocalFiles | ObjectFiles:
    """An empty place of each kind."""
    return PLACES[request.param](tmp_path)


def _content(files: Files, name: str) -> bytes:
    return b"".join(files.read(name))


def _commit(store: Store, shard: Shard, *rows: bytes) -> None:
    spool = Spool()
    for row in rows:
        spool.add(row)
    store.commit([(ShardDone(shard=shard, rows={shard.table: len(rows)}), {shard.table: spool})])


# --- what every place promises ----------------------------------------------------------------------------


def test_a_name_is_created_once(files: Files):
    """The second to create a name is refused and changes nothing."""
    files.create("manifest/1.json", b"first")
    with pytest.raises(FileExistsError):
        files.create("manifest/1.json", b"second")
    assert _content(files, "manifest/1.json") == b"first"
    assert files.sizes("manifest") == {"1.json": 5}


@pytest.mark.parametrize("pieces", [(), (b"",), (b"ab", b"c"), (b"x" * (CHUNK_BYTES + 1), b"y")])
def test_a_written_file_holds_all_pieces(files: Files, pieces: tuple[bytes, ...]):
    """Whatever the pieces, they are read back in order, and replaced as a whole by the next writing."""
    files.write("exams/part", iter(pieces))
    assert _content(files, "exams/part") == b"".join(pieces)
    files.write("exams/part", [b"new"])
    assert _content(files, "exams/part") == b"new"


def test_a_writing_that_fails_leaves_what_was_there(files: Files):
    """A source that breaks off half-way neither shows half a file nor leaves anything beside it."""

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise DatasetError("x", "broke off")

    files.write("exams/part", [b"old"])
    for name in ("exams/part", "exams/other"):
        with pytest.raises(DatasetError, match="broke off"):
            files.write(name, broken())
    assert files.sizes("exams") == {"part": 3}
    assert _content(files, "exams/part") == b"old"


def test_names_are_those_of_one_folder(files: Files):
    """Names come in order and without their folder; a folder that is not there has none."""
    for name in ("b/2", "b/1", "bb/3"):
        files.write(name, [b"12"])
    assert list(files.sizes("b").items()) == [("1", 2), ("2", 2)]
    assert files.sizes("c") == {}
    files.remove("b/1")
    assert list(files.sizes("b")) == ["2"]


def test_lines_can_be_added(files: Files):
    """Appended lines are all there, whole, however a place keeps them."""
    files.append("quarantine/exams.jsonl", [b"one", b"two"])
    files.append("quarantine/exams.jsonl", [b"three"])
    names = files.sizes("quarantine")
    assert all(name.startswith("exams") and name.endswith(".jsonl") for name in names)
    found = b"".join(_content(files, f"quarantine/{name}") for name in names)
    assert sorted(found.split()) == [b"one", b"three", b"two"]


def test_a_missing_file_is_an_error_of_the_system(files: Files):
    """Reading what is not there is an OSError with the full name in it."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - any of its kinds
        _content(files, "exams/none")
    assert str(unusable("elsewhere", caught.value)).startswith(files.place("exams/none"))


def test_a_manifest_lies_anywhere(files: Files):
    """Entries come back in order from every place; a number that is taken is refused."""
    entries = [Entry(kind="started", run=1, origin=ORIGIN), Entry(kind="finished", run=1)]
    with files.lock():
        first, second = Manifest(files), Manifest(files)
        for entry in entries:
            first.append(entry)
        with pytest.raises(DatasetError, match=r"00000001\.json: another export wrote here"):
            second.append(entries[0])
        again = Manifest(files)
        again.load()
    assert again.entries == entries


@pytest.mark.parametrize("compress", [False, True])
def test_a_dataset_lies_anywhere(files: LocalFiles | ObjectFiles, compress: bool):
    """Rows, resuming, quarantine and finished files work in every place, packed or not."""
    shard = Shard(table="exams")
    dataset = Dataset(files, compress=compress)
    with dataset.writing(ORIGIN) as store:
        store.quarantine("exams", {"reason": "odd"})
        _commit(store, shard, b'{"id":1}', b'{"id":2}')
    dataset.check()
    with dataset.writing(ORIGIN) as store:
        assert store.resumed
        assert set(store.stored()) == {shard.id}
        assert [row for _, row in store.rows("exams")] == [b'{"id":1}', b'{"id":2}']
        assert store.replace("exams.jsonl", (row for _, row in store.rows("exams"))) == 2
        store.finish()
    assert dataset.tables == ("exams",)
    assert _content(files, "exams.jsonl") == b'{"id":1}\n{"id":2}\n'
    assert len(files.sizes("quarantine")) == 1
    (name,) = files.sizes("exams")
    assert name.endswith(".zst") == compress


@pytest.mark.parametrize("compress", [False, True])
async def test_a_harvest_can_go_anywhere(
    files: LocalFiles | ObjectFiles, tmp_path_factory: pytest.TempPathFactory, compress: bool
):
    """An export into any place ends with the same tables as one into a directory."""
    calm, wanted = tmp_path_factory.mktemp("calm"), ["exams", "attempts", "content_attempts"]
    async with opened() as (_, client):
        await export(client, calm, *wanted)
        reads = await plan(client, wanted)
        report = await harvest(client, reads, into=Dataset(files, compress=compress))
    assert not report.resumed
    assert {
        table: sorted(_content(files, f"{table}.jsonl").split(b"\n")[:-1]) for table in Dataset(files).tables
    } == tables(calm)


# --- object stores ----------------------------------------------------------------------------------------


@pytest.fixture(params=["local store", "memory store"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store of obstore, as a user would name it."""
    return LocalStore(tmp_path) if request.param == "local store" else MemoryStore()


@pytest.mark.row(110)
def test_of_two_exports_into_a_store_the_second_to_commit_is_refused(objects: Any):
    """There is no lock: the entry's number decides, and the first export's parts stay as they are."""
    one, two = Shard(table="attendance", parent=1), Shard(table="attendance", parent=2)
    with Dataset(objects).writing(ORIGIN) as first:
        with Dataset(objects).writing(ORIGIN) as second:
            _commit(first, one, b'{"id":1}')
            with pytest.raises(DatasetError, match="another export wrote here"):
                _commit(second, two, b'{"id":2}')
        assert [row for _, row in first.rows("attendance")] == [b'{"id":1}']
        _commit(first, two, b'{"id":3}')
        first.finish()
    Dataset(objects).check()
    with Dataset(objects).writing(ORIGIN) as third:
        assert third.run == 2
        assert [row for _, row in third.rows("attendance")] == [b'{"id":1}', b'{"id":3}']


class _LosesAnswers(MemoryStore):
    """A store that has done what it was asked when it is asked again, because its answer was lost."""

    def put(self, path: str, *args: Any, **options: Any) -> Any:
        result = super().put(path, *args, **options)
        if options.get("mode") == "create":
            super().put(path, *args, **options)
        return result


def test_an_entry_whose_answer_was_lost_is_ours():
    """A repeated creation is refused by our own object: its parts are ours, so the commit has succeeded."""
    objects = _LosesAnswers()
    with pytest.raises(DatasetError, match="another export wrote here"), Dataset(objects).writing(ORIGIN):
        pass  # who began a run cannot be told
    with Dataset(objects).writing(ORIGIN) as store:
        _commit(store, Shard(table="exams"), b'{"id":1}')
        _commit(store, Shard(table="attempts"), b'{"id":2}')
        assert len(store.stored()) == 2
        store.finish()
    Dataset(objects).check()


def test_parts_that_another_export_may_be_about_to_name_are_left_alone(objects: Any):
    """Where nothing keeps others out nothing is swept."""
    with Dataset(objects).writing(ORIGIN) as store:
        _commit(store, Shard(table="exams"), b'{"id":1}')
        files = ObjectFiles(objects)
        files.write("exams/part-0001-00000003-abcd.jsonl", [b"{}\n"])
    with Dataset(objects).writing(ORIGIN) as store:
        assert [row for _, row in store.rows("exams")] == [b'{"id":1}']
    assert "part-0001-00000003-abcd.jsonl" in files.sizes("exams")


def test_a_store_with_other_objects_is_refused(objects: Any):
    """A bucket that holds something else is no place for a dataset."""
    ObjectFiles(objects).write("thesis/chapter", [b"mine"])
    with pytest.raises(DatasetError, match="is not empty and no dataset"):
        Dataset(objects).check()


def test_an_edited_object_is_noticed(objects: Any):
    """A part of the same length and other content is named when it is read; a lost one at once."""
    with Dataset(objects).writing(ORIGIN) as store:
        _commit(store, Shard(table="exams"), b'{"id":1}')
    files = ObjectFiles(objects)
    (name,) = files.sizes("exams")
    files.write(f"exams/{name}", [b'{"id":7}\n'])
    with pytest.raises(DatasetError, match=f"{name}: was changed"), Dataset(objects).writing(ORIGIN) as store:
        list(store.rows("exams"))
    files.remove(f"exams/{name}")
    with pytest.raises(DatasetError, match=f"{name}: is missing"):
        Dataset(objects).check()


def test_a_bad_record_read_again_is_one_object(objects: Any):
    """A line's name is its hash, so that an export that reads it again adds nothing."""
    for _ in range(2):
        with Dataset(objects).writing(ORIGIN) as store:
            store.quarantine("exams", {"reason": "odd"})
    assert len(ObjectFiles(objects).sizes("quarantine")) == 1


async def test_an_export_into_a_store_resumes(objects: Any, tmp_path_factory: pytest.TempPathFactory):
    """What an interrupted export has stored as objects is not asked for again."""
    calm = tmp_path_factory.mktemp("calm")
    async with opened() as (institute, client):
        await export(client, calm, "user_answers")
        fault = institute.script(Fault(path=ANSWERS.format(30), status=400, body=b"{}", times=None))[0]
        reads = await plan(client, ["user_answers"])
        with pytest.raises(Exception, match="30/user_answers"):
            await harvest(client, reads, into=Dataset(objects), concurrency=1)
        assert fault.hits
        manifest = Manifest(ObjectFiles(objects))
        manifest.load()
        stored = {ANSWERS.format(d.shard.parent) for entry in manifest.entries for d in entry.shards}
        institute.clear_faults()
        institute.log.clear()
        report = await harvest(client, reads, into=Dataset(objects))
        assert report.resumed
        assert len(stored) > 20
        assert stored.isdisjoint({seen.path for seen in institute.log})
    found = b"".join(ObjectFiles(objects).read("user_answers.jsonl")).split(b"\n")[:-1]
    assert sorted(found) == tables(calm)["user_answers"]


def test_a_store_has_no_path():
    """Who needs a directory is told that this is none."""
    with pytest.raises(DatasetError, match="MemoryStore: is no directory"):
        Dataset(MemoryStore()).path


def test_errors_of_a_store_are_told_in_one_line(tmp_path: Path):
    """An object that cannot be written is a DatasetError that names it, without the store's inner report."""
    (tmp_path / "manifest").write_text("in the way")
    with pytest.raises(DatasetError) as caught, Dataset(LocalStore(tmp_path)).writing(ORIGIN):
        pass
    assert "\n" not in str(caught.value)


# --- extras that are not installed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "make", "extra"),
    [
        ("obstore.exceptions", lambda: Dataset(MemoryStore()), "objects"),
        ("zstandard", lambda: Dataset("out", compress=True), "zstd"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str, make: Callable[[], Dataset], extra: str
):
    """Without the package the error says what to install, before anything is done."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"testpress-async\[{extra}\]"):
        make()


def test_a_packed_part_without_zstd_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A dataset that was packed elsewhere names itself and the extra it needs."""
    with Dataset(tmp_path, compress=True).writing(ORIGIN) as store:
        _commit(store, Shard(table="exams"), b'{"id":1}')
        monkeypatch.setitem(sys.modules, "zstandard", None)
        with pytest.raises(DatasetError, match="is compressed") as caught:
            list(store.rows("exams"))
    assert "[zstd]" in caught.value.remedy


# --- directories --------------------------------------------------------------------------------------------


class _NoLinks(LocalFiles):
    """A disk without hard links, such as FAT."""

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if operation is os.link:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return super()._call(operation, *args, **kwargs)


def test_a_disk_without_hard_links_will_do(tmp_path: Path):
    """Names are still created once and nothing is left aside."""
    files = _NoLinks(tmp_path)
    files.create("manifest/1", b"first")
    with pytest.raises(FileExistsError):
        files.create("manifest/1", b"second")
    assert files.sizes("manifest") == {"1": 5}


class _Short(LocalFiles):
    """A disk that takes a few bytes at a time."""

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if operation is os.write:
            return super()._call(operation, args[0], bytes(args[1])[:3])  # type: ignore[call-arg,arg-type,index]
        return super()._call(operation, *args, **kwargs)


def test_a_disk_may_take_a_few_bytes_at_a_time(tmp_path: Path):
    """What a write did not take is written again, not lost."""
    _Short(tmp_path).write("exams/part", [b"0123456789", b"abc"])
    assert (tmp_path / "exams" / "part").read_bytes() == b"0123456789abc"


class _Watching(LocalFiles):
    """Keeps the order of what it does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.done: list[str] = []

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        self.done.append(operation.__name__.strip("_"))
        return super()._call(operation, *args, **kwargs)


def test_nothing_gets_its_name_before_it_is_on_disk(tmp_path: Path):
    """Content is synced before its name, the name before the next step, and a new folder's name first."""
    files = _Watching(tmp_path)
    files.write("exams/part", [b"x"])
    assert files.done == ["mkdir", "fsync", "open_file", "write", "fsync", "replace", "fsync"]
    files.done.clear()
    files.create("exams/entry", b"x")
    assert files.done == ["open_file", "write", "fsync", "link", "unlink", "fsync"]
    files.done.clear()
    files.append("exams/lines", [b"x"])
    assert files.done == ["open_file", "write", "fsync", "fsync"]


def test_something_planted_aside_is_not_written_through(tmp_path: Path):
    """A link, a FIFO or a leftover where a file is written aside is replaced, and what it led to is kept."""
    precious = tmp_path / "precious"
    precious.write_text("keep")
    files = LocalFiles(tmp_path)
    for plant in (lambda path: path.symlink_to(precious), os.mkfifo, lambda path: path.write_text("old")):
        plant(tmp_path / ".part.tmp")
        files.write("part", [b"new"])
        assert (tmp_path / "part").read_bytes() == b"new"
        assert not (tmp_path / ".part.tmp").exists()
    assert precious.read_text() == "keep"


@pytest.mark.parametrize("plant", ["link", "fifo", "folder"])
@pytest.mark.parametrize(
    "job",
    [
        lambda files: _content(files, "name"),
        lambda files: files.append("name", [b"x"]),
        lambda files: files.lock().__enter__(),
    ],
    ids=["read", "append", "lock"],
)
@pytest.mark.row(106)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, plant: str, job: Callable[[LocalFiles], object]):
    """A link, FIFO or directory in a file's place is an error at once: never followed, never waited for."""
    for name in ("name", ".lock"):
        _plant(tmp_path / name, plant)
    with pytest.raises(OSError, match=r"name|\.lock"):
        job(LocalFiles(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def _plant(path: Path, plant: str) -> None:
    if plant == "link":
        path.symlink_to(path.parent / "elsewhere")
    elif plant == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path):
    """Nothing is written into a directory that only a link leads to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "exams").symlink_to("real")
    with pytest.raises(OSError, match="symbolic"):
        LocalFiles(tmp_path).write("exams/part", [b"x"])
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "helps"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EIO, "Check the disk"),
        (errno.EACCES, "right to write"),
        (errno.EROFS, "can be written"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_errors_of_the_system_say_what_helps(code: int, helps: str):
    """The error names the file, what the system said, and a remedy."""
    error = unusable("place", OSError(code, os.strerror(code)))
    assert str(error).startswith(f"place: {os.strerror(code)}. ")
    assert helps in error.remedy
    named = unusable("place", OSError(code, os.strerror(code), "the/file"))
    assert named.path == "the/file"
