"""Rows 104 to 114 of the fault matrix: full disks, planted files, damage, rivals, signals, clocks.

Rows 102 and 103 are in `test_crash`; 112 (CSV) belongs to the conversion, 115 (ten million) to the harvest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from testpress_async.cli import exits
from testpress_async.errors import BadRequest, DatasetError
from testpress_async.harvest.dataset import Dataset, Spool, Store
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.plan import plan
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard
from testpress_async.sandbox import Fault, Sandbox
from tests.support.exporting import (
    ANSWERS,
    ATTEMPTS,
    EXAMS,
    SMALL,
    command,
    entries,
    environment,
    everything,
    export,
    files,
    opened,
    served,
    tables,
    until,
)

ORIGIN = "https://institute.example"
ROOT = os.geteuid() == 0
NOBODY = 65_534


def _commit(store: Store, number: int, *rows: bytes) -> None:
    spool = Spool()
    for row in rows or (b'{"id":%d}' % number,):
        spool.add(row)
    shard = Shard(table="attendance", parent=number)
    store.commit([(ShardDone(shard=shard, rows={"attendance": spool.rows}), {"attendance": spool})])


def _contents(path: Path) -> dict[Path, bytes | None]:
    """Everything below *path*, as it is."""
    return {each: each.read_bytes() if each.is_file() else None for each in everything(path)}


# --- 104: no space left --------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(path: Path, *options: str) -> Iterator[Path]:
    """A disk of its own, one MiB large, at *path*."""
    path.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(("size=1m", *options)), "tmpfs", path])
    if tried.returncode:
        pytest.skip("may not mount here")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.row(104)
@pytest.mark.skipif(not ROOT, reason="only root may mount a small disk")
@pytest.mark.parametrize("free_bytes", [20_000, 50_000, 90_000])
async def test_a_full_disk_stops_the_export_and_room_lets_it_go_on(tmp_path: Path, free_bytes: int):
    """No space left: DatasetError with the remedy; with room the same export completes a sound dataset."""
    wanted = ["exams", "attempts", "user_answers"]
    with mounted(tmp_path / "small") as small:
        async with opened(attempts=20) as (_, client):
            await export(client, tmp_path / "calm", *wanted)
            assert sum(map(len, files(tmp_path / "calm").values())) > 2 * free_bytes
            (small / "ballast").write_bytes(b"x" * ((1 << 20) - free_bytes))
            with pytest.raises(DatasetError, match="No space left") as caught:
                await export(client, small / "out", *wanted)
            assert "Free some space" in caught.value.remedy
            assert caught.value.path.startswith(str(small / "out"))
            Dataset(small / "out").check()
            before = files(small / "out")
            (small / "ballast").unlink()
            report = await export(client, small / "out", *wanted)
        assert report.resumed
        named = {part.path for entry in entries(small / "out") for part in entry.parts}
        assert before.keys() <= named
        assert before.items() <= files(small / "out").items()
        assert tables(small / "out") == tables(tmp_path / "calm")


@pytest.mark.row(104)
def test_no_room_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch):
    """A large shard waits in a temporary file; if that cannot be written its directory is named."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(DatasetError, match="/nowhere/at/all"):
        Spool().add(b"x" * (1 << 20))


# --- 105 and 103 with real system calls ----------------------------------------------------------------


def _unmeasured(env: dict[str, str]) -> dict[str, str]:
    """*env* without coverage, which writes files of its own and looks at clocks."""
    return {name: value for name, value in env.items() if not name.startswith("COV")}


def _traced(injected: str, log: Path, *arguments: str, env: dict[str, str]) -> tuple[int, str]:
    """`testpress` with *arguments*, one of its system calls failing or deadly: (exit code, stderr)."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tracer = ["strace", "-f", "-o", str(log), "-e", "trace=fsync,link,linkat,rename,renameat,renameat2"]
    done = subprocess.run(
        [*tracer, "-e", f"inject={injected}", sys.executable, "-m", "testpress_async", *arguments],
        env=_unmeasured(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    if "ptrace" in done.stderr and not log.exists():
        pytest.skip("may not trace here")
    return done.returncode, done.stderr


def _complete(institute: Sandbox, out: Path, *arguments: str) -> None:
    """The same command again ends well, with everything the institute has."""
    again = command(*arguments, str(out), env=environment(institute))
    _, err = again.communicate()
    assert again.returncode == exits.DONE, err.decode()
    counts = {table: len(set(lines)) for table, lines in tables(out).items()}
    assert counts == {table: institute.truth.export_counts()[table] for table in ("exams", "attempts")}


@pytest.mark.row(105)
@pytest.mark.parametrize("injected", ["fsync:error=EIO:when=2", "link,linkat:error=EIO", "rename:error=EIO"])
def test_a_system_call_that_fails_ends_with_8_and_is_not_repeated(tmp_path: Path, injected: str):
    """EIO from the kernel: the command ends with the disk's exit code, syncs nothing more, and resumes."""
    arguments = ("export", "exams", "attempts", "--quiet", "--out")
    with served() as institute:
        env = environment(institute)
        code, err = _traced(injected, tmp_path / "log", *arguments, str(tmp_path / "out"), env=env)
        assert code == exits.DISK, err
        assert "Input/output error" in err
        assert "Traceback" not in err
        calls = (tmp_path / "log").read_text().splitlines()
        at = next(number for number, line in enumerate(calls) if "INJECTED" in line)
        assert not [line for line in calls[at + 1 :] if "(" in line and "INJECTED" not in line]
        _complete(institute, tmp_path / "out", *arguments)


@pytest.mark.row(103)
@pytest.mark.parametrize(("call", "number"), [("fsync", 3), ("link,linkat", 2), ("rename", 1)])
def test_a_process_that_dies_in_a_system_call_is_survived(tmp_path: Path, call: str, number: int):
    """SIGKILL on entry to the n-th sync, link or rename of a thread: the next export completes the rest."""
    arguments = ("export", "exams", "attempts", "--quiet", "--out")
    with served() as institute:
        env = environment(institute)
        injected = f"{call}:signal=KILL:when={number}"
        code, err = _traced(injected, tmp_path / "log", *arguments, str(tmp_path / "out"), env=env)
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), err
        _complete(institute, tmp_path / "out", *arguments)


# --- 106: no place for a dataset -----------------------------------------------------------------------


def _link(path: Path) -> None:
    (path.parent / "real").mkdir()
    path.symlink_to("real")


def _linked_table(path: Path) -> None:
    with Dataset(path).writing(ORIGIN):
        pass
    (path.parent / "real").mkdir()
    (path / "exams").symlink_to(path.parent / "real")


def _linked_manifest(path: Path) -> None:
    with Dataset(path).writing(ORIGIN):
        pass
    (path / "manifest").rename(path.parent / "real")
    (path / "manifest").symlink_to(path.parent / "real")


def _linked_lock(path: Path) -> None:
    path.mkdir()
    (path.parent / "real").mkdir()
    (path / ".lock").symlink_to(path.parent / "real" / "lock")


def _below_a_file(path: Path) -> None:
    path.parent.joinpath("real").mkdir()
    path.write_text("mine")


@pytest.mark.row(106)
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_link, r"out: is a symbolic link. Name the directory itself: .*/real"),
        (lambda path: path.symlink_to("nowhere"), r"out: is a symbolic link"),
        (os.mkfifo, r"out: Not a directory. Name a new or empty directory"),
        (lambda path: path.write_text("mine"), r"out: Not a directory"),
        (_linked_table, r"out/exams: .*symbolic"),
        (_linked_manifest, r"out/manifest: .*symbolic"),
        (_linked_lock, r"out/\.lock: .*symbolic"),
    ],
)
async def test_an_unusable_place_is_told_before_the_first_request(
    tmp_path: Path, make: Callable[[Path], object], told: str
):
    """Links, FIFOs and files where directories should be: named with a remedy, not followed."""
    path = tmp_path / "out"
    make(path)
    before = _names(tmp_path)
    async with opened() as (institute, client):
        reads = await plan(client, ("exams",))
        institute.log.clear()
        with pytest.raises(DatasetError, match=told):
            await harvest(client, reads, into=Dataset(path))
        assert not institute.log
    assert _names(tmp_path) == before


def _names(path: Path) -> list[Path]:
    """What links could lead to."""
    return sorted(path.rglob("real/*"))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in which we have no more rights than anybody else."""
    with TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        if not ROOT:
            yield path
            return
        os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield path
        finally:
            os.seteuid(0)


@pytest.mark.row(106)
@pytest.mark.parametrize("mode", [0o500, 0o600, 0o000])
@pytest.mark.parametrize("place", ["", "exams", "manifest", "above"])
def test_a_missing_right_is_told_before_the_first_request(shared: Path, place: str, mode: int):
    """No right to write in the directory, in one of its folders or above it: named, by the check as well."""
    path = shared / "out"
    with Dataset(path).writing(ORIGIN):
        pass
    (path / "exams").mkdir()
    target = path / "new" if place == "above" else path
    closed = path if place == "above" else path / place
    closed.chmod(mode)
    try:
        for refused in (Dataset(target).check, Dataset(target).writing(ORIGIN).__enter__):
            with pytest.raises(
                DatasetError, match=r"Permission denied\. Get the right to write there"
            ) as caught:
                refused()
            assert Path(caught.value.path) in (closed, target)
    finally:
        closed.chmod(0o700)


@pytest.mark.row(106)
@pytest.mark.skipif(not ROOT, reason="only root may mount a disk")
@pytest.mark.parametrize("name", ["", "out", "deep/out"])
def test_a_read_only_disk_is_told_before_the_first_request(tmp_path: Path, name: str):
    """A disk that is mounted read-only is named, even to root."""
    with mounted(tmp_path / "disk", "ro") as disk, pytest.raises(DatasetError, match="Read-only") as caught:
        Dataset(disk / name).check()
    assert caught.value.path == str(disk)
    assert caught.value.remedy


# --- 107: something is there ---------------------------------------------------------------------------


@pytest.mark.row(107)
@pytest.mark.parametrize(
    "there",
    [
        "thesis.txt",
        "attempts.jsonl",
        "attempts/notes.jsonl",
        "attempts/part-0001-00000001.jsonl",
        "manifest/app.json",
        "manifest/manifest.json",
    ],
)
async def test_a_directory_with_anything_else_in_it_is_left_alone(tmp_path: Path, there: str):
    """What is no dataset is refused before the first request, and not a byte of it changes."""
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    before = _contents(tmp_path)
    async with opened() as (institute, client):
        reads = await plan(client, ("exams",))
        institute.log.clear()
        with pytest.raises(DatasetError) as caught:
            await harvest(client, reads, into=Dataset(tmp_path))
        assert not institute.log
    assert caught.value.remedy
    assert _contents(tmp_path) == before


@pytest.mark.row(107)
def test_files_of_others_in_a_dataset_are_not_swept(tmp_path: Path):
    """Only what an export leaves behind is removed, whatever else lies in its folders."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        _commit(store, 1)
    mine = [tmp_path / "attendance" / name for name in ("notes.jsonl", "part-1.jsonl", "part.tmp")]
    mine += [tmp_path / "attendance.xlsx", tmp_path / "quarantine.txt"]
    for path in mine:
        path.write_text("mine")
    with Dataset(tmp_path).writing(ORIGIN) as store:
        assert len(list(store.rows("attendance"))) == 1
    assert all(path.read_text() == "mine" for path in mine)


# --- 108: a manifest that is not as it was -------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A dataset with an interrupted run of fingerprint `all`."""
    path = tmp_path / "interrupted"
    with Dataset(path).writing(ORIGIN, "all") as store:
        for number in (1, 2):
            _commit(store, number)
    return path


@pytest.mark.row(108)
def test_every_flipped_byte_of_the_manifest_is_noticed(interrupted: Path):
    """Any other byte than was written, anywhere, is an error that names the entry; never a new start."""
    found = sorted((interrupted / "manifest").iterdir())
    assert len(found) == 3
    for path in found:
        sound = path.read_bytes()
        for place, byte in enumerate(sound):
            for flip in (1, 1 << place % 8, 255):
                path.write_bytes(sound[:place] + bytes([byte ^ flip]) + sound[place + 1 :])
                with pytest.raises(DatasetError, match=rf"{path.name}: the entry .*Restore the dataset"):
                    Dataset(interrupted).check()
        path.write_bytes(sound)
    Dataset(interrupted).check()


@pytest.mark.row(108)
def test_every_shortened_entry_is_noticed(interrupted: Path):
    """Cut after any byte, or with one more: an error that names the entry."""
    for path in sorted((interrupted / "manifest").iterdir()):
        sound = path.read_bytes()
        for damaged in (*(sound[:end] for end in range(len(sound))), sound + b"\n", b"\n" + sound):
            path.write_bytes(damaged)
            with pytest.raises(DatasetError, match=rf"{path.name}: the entry"):
                Dataset(interrupted).check()
        path.write_bytes(sound)


@pytest.mark.row(108)
@pytest.mark.parametrize("lost", [(1,), (2,), (1, 2), (2, 3), (1, 2, 3)])
def test_lost_entries_do_not_cost_the_parts_they_named(interrupted: Path, lost: tuple[int, ...]):
    """Entries that are gone are noticed by what is left, and no part is taken for a leftover and swept."""
    for number in lost:
        (interrupted / "manifest" / f"{number:08}.json").unlink()
    before = _contents(interrupted)
    with pytest.raises(DatasetError) as caught, Dataset(interrupted).writing(ORIGIN):
        pass
    assert caught.value.remedy
    assert _contents(interrupted) == before


@pytest.mark.row(108)
def test_losing_the_last_entry_costs_its_part_only(interrupted: Path):
    """As after a crash before it was written: its part is a leftover, its shards are read again."""
    (interrupted / "manifest" / "00000003.json").unlink()
    with Dataset(interrupted).writing(ORIGIN, "all") as store:
        assert store.resumed
        assert [done.shard.parent for done in store.stored().values()] == [1]
        _commit(store, 2)
        assert [row for _, row in store.rows("attendance")] == [b'{"id":1}', b'{"id":2}']


@pytest.mark.row(108)
@pytest.mark.parametrize("asked", ["all", ""])
def test_an_interrupted_run_goes_on_with_what_it_was_begun_for(interrupted: Path, asked: str):
    """The same fingerprint, or none, resumes."""
    with Dataset(interrupted).writing(ORIGIN, asked) as store:
        assert store.resumed
        assert len(store.stored()) == 2


@pytest.mark.row(108)
def test_an_interrupted_run_is_not_finished_as_another(interrupted: Path):
    """Other tables or filters would make a part pass for the whole: refused, with both ways out."""
    before = _contents(interrupted)
    with pytest.raises(DatasetError, match="interrupted export of other tables or filters") as caught:  # noqa: SIM117
        with Dataset(interrupted).writing(ORIGIN, "some"):
            pass
    assert "Finish it with the tables and filters it was begun with" in caught.value.remedy
    assert "into a new directory" in caught.value.remedy
    assert _contents(interrupted) == before


@pytest.mark.row(108)
def test_a_finished_run_may_be_followed_by_another(interrupted: Path):
    """After a complete run other tables and filters are welcome, and are what the next run is held to."""
    with Dataset(interrupted).writing(ORIGIN, "all") as store:
        store.finish()
    with Dataset(interrupted).writing(ORIGIN, "some") as store:
        assert (store.run, store.resumed) == (2, False)
    with pytest.raises(DatasetError, match="interrupted"), Dataset(interrupted).writing(ORIGIN, "all"):
        pass


# --- 109: parts that are not as they were --------------------------------------------------------------


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": _flipped,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"{}\n"),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("moved"))),
}


@pytest.mark.row(109)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_part_is_named_and_never_exported(tmp_path: Path, damage: str, compress: bool):
    """Edited, cut or lost after its commit: the file and a remedy are told; tables stay as they were."""
    place = Dataset(tmp_path, compress=compress)
    async with opened() as (institute, client):
        reads = await plan(client, ("exams", "attempts"))
        await harvest(client, reads, into=place)
        before = tables(tmp_path)
        (part,) = (tmp_path / "attempts").glob("part-*")
        DAMAGES[damage](part)
        institute.log.clear()
        with pytest.raises(DatasetError, match=part.name) as caught:
            await harvest(client, reads, into=place)
        assert caught.value.remedy
        assert tables(tmp_path) == before
        if damage != "flipped":  # its length tells at once; a checksum only when the part is read
            assert not institute.log


@pytest.mark.row(109)
def test_a_part_swapped_for_another_is_noticed(tmp_path: Path):
    """Two parts of the same length that changed places are not read."""
    with Dataset(tmp_path).writing(ORIGIN) as store:
        _commit(store, 1)
        _commit(store, 2)
        one, two = sorted((tmp_path / "attendance").iterdir())
        one.rename(tmp_path / "aside")
        two.rename(one)
        (tmp_path / "aside").rename(two)
        with pytest.raises(DatasetError, match="was changed after it was committed"):
            next(store.rows("attendance"))


# --- 110: two exports ----------------------------------------------------------------------------------


@pytest.mark.row(110)
async def test_a_second_process_is_refused_and_disturbs_nothing(tmp_path: Path):
    """While one export is on its way another one into its directory ends with 8; the first completes."""
    async with Sandbox(**SMALL) as sandbox:
        go = asyncio.Event()
        rule = sandbox.script(Fault(path=ANSWERS.format(30), hold=go))[0]
        arguments = ("export", "user_answers", "--out", str(tmp_path / "out"), "--quiet")
        first = command(*arguments, env=environment(sandbox))
        await until(lambda: rule.hits == 1)
        second = command(*arguments, env=environment(sandbox))
        _, err = await asyncio.to_thread(second.communicate)
        assert second.returncode == exits.DISK
        assert b"another export is writing here" in err
        go.set()
        _, err = await asyncio.to_thread(first.communicate)
        assert first.returncode == exits.DONE, err.decode()
        wanted = sandbox.truth.export_counts()["user_answers"]
    assert len(tables(tmp_path / "out")["user_answers"]) == wanted


@pytest.mark.row(110)
async def test_a_lock_ends_with_its_process(tmp_path: Path):
    """An export that was killed does not lock the next one out."""
    async with Sandbox(**SMALL) as sandbox:
        rule = sandbox.script(Fault(path=ANSWERS.format(30), hold=asyncio.Event()))[0]
        arguments = ("export", "user_answers", "--out", str(tmp_path / "out"), "--quiet")
        first = command(*arguments, env=environment(sandbox))
        await until(lambda: rule.hits == 1)
        first.kill()
        await asyncio.to_thread(first.communicate)
        second = command(*arguments, env=environment(sandbox))
        _, err = await asyncio.to_thread(second.communicate)
        assert second.returncode == exits.DONE, err.decode()


# --- 111: Ctrl-C and SIGTERM ---------------------------------------------------------------------------


@pytest.mark.row(111)
@pytest.mark.parametrize(("told", "moment"), [(signal.SIGINT, EXAMS), (signal.SIGTERM, ATTEMPTS)])
async def test_a_stopped_export_ends_with_130_wherever_it_is(
    tmp_path: Path, told: signal.Signals, moment: str
):
    """In its first requests as well: exit code 130, no traceback, and everything the next time."""
    async with Sandbox(**SMALL) as sandbox:
        arguments = ("export", "exams", "user_answers", "--out", str(tmp_path / "out"))
        process = command(*arguments, env=environment(sandbox))
        rule = sandbox.script(Fault(path=moment, hold=asyncio.Event()))[0]
        await until(lambda: rule.hits == 1)
        process.send_signal(told)
        _, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == exits.INTERRUPTED, err.decode()
        assert b"Traceback" not in err
        sandbox.clear_faults()
        again = command(*arguments, env=environment(sandbox))
        _, err = await asyncio.to_thread(again.communicate)
        assert again.returncode == exits.DONE, err.decode()
        found = tables(tmp_path / "out")["user_answers"]
        assert len(set(found)) == len(found) == sandbox.truth.export_counts()["user_answers"]


# --- 113: what is left on the disk ---------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever new files are allowed by default."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.row(113)
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("compress", [False, True])
async def test_an_export_leaves_private_files_and_no_secret(tmp_path: Path, compress: bool):
    """After a failure and after the end: 0600 and 0700, nothing temporary, no secret in any byte."""
    root = tmp_path / "deep" / "out"
    stored: list[bytes] = []
    async with opened(password="correct-horse-7") as (institute, client):
        institute.script(Fault(path=ANSWERS.format(30), status=400, body=b"{}", times=1))
        reads = await plan(client)
        for _ in range(2):
            with contextlib.suppress(BadRequest):
                await harvest(client, reads, into=Dataset(root, compress=compress), concurrency=1)
            found = everything(root)
            modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in found}
            assert modes == {(True, 0o700), (False, 0o600)}
            assert not [path for path in found if ".tmp" in path.name]
            stored = [path.read_bytes() for path in found if path.is_file()]
            for secret in (b"correct-horse-7", *institute.token().encode().split(b".")[::2]):
                assert not any(secret in data for data in stored)
    assert len(stored) > 20
    assert entries(root)[-1].kind == "finished"


# --- 114: clocks that jump -----------------------------------------------------------------------------


def _false_clock(file: Path) -> dict[str, str]:
    """Variables under which a program reads the time of day from *file*; its monotonic clock stays true."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("faketime is not installed")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.row(114)
@pytest.mark.parametrize("jumps", [("-3650d", "+3650d"), ("+2h", "-2h")])
async def test_a_clock_that_jumps_does_not_disturb_an_export(tmp_path: Path, jumps: tuple[str, str]):
    """Hours or years, forward and back, twice in the middle: the export ends, and is complete."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    async with Sandbox(**SMALL) as sandbox:
        rules = [Fault(path=ANSWERS.format(number), hold=asyncio.Event()) for number in (20, 40)]
        scripted = sandbox.script(*rules)
        arguments = ("export", "user_answers", "--out", str(tmp_path / "out"), "--concurrency", "1")
        process = command(*arguments, env=_unmeasured(environment(sandbox, **_false_clock(clock))))
        for rule, scripted_rule, jump in zip(rules, scripted, jumps, strict=True):
            await until(lambda each=scripted_rule: each.hits == 1)
            clock.write_text(f"{jump}\n")
            assert rule.hold
            rule.hold.set()
        _, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == exits.DONE, err.decode()
        found = tables(tmp_path / "out")["user_answers"]
        assert len(set(found)) == len(found) == sandbox.truth.export_counts()["user_answers"]
