"""The manifest: entries appear whole, in order, once, and damage is noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from testpress_async.errors import DatasetError
from testpress_async.harvest.files import LocalFiles
from testpress_async.harvest.manifest import Entry, Manifest, Part, ShardDone
from testpress_async.harvest.shard import Shard

PART = Part(table="exams", path="exams/part-0001-00000002.jsonl", records=2, data_bytes=20, sha256="ab")
DONE = ShardDone(shard=Shard(table="exams"), rows={"exams": 2}, count=2)
ENTRIES = [
    Entry(kind="started", run=1, origin="https://institute.example"),
    Entry(kind="stored", run=1, parts=(PART,), shards=(DONE,)),
    Entry(kind="finished", run=1),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of three entries."""
    (tmp_path / "manifest").mkdir()
    manifest = Manifest(LocalFiles(tmp_path))
    for entry in ENTRIES:
        manifest.append(entry)
    return tmp_path / "manifest"


def _loaded(folder: Path) -> list[Entry]:
    return _manifest(folder).entries


def _manifest(folder: Path) -> Manifest:
    manifest = Manifest(LocalFiles(folder.parent))
    manifest.load()
    return manifest


def _forge(path: Path, line: bytes) -> None:
    """Write *line* with a checksum that fits."""
    path.write_bytes(line + b"\n" + hashlib.blake2b(line, digest_size=16).hexdigest().encode() + b"\n")


def test_entries_come_back_in_order(folder: Path):
    """What was appended is loaded again, equal and in order, from numbered files for their owner only."""
    assert _loaded(folder) == ENTRIES
    found = sorted(folder.iterdir())
    assert [path.name for path in found] == ["00000001.json", "00000002.json", "00000003.json"]
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}


def test_a_missing_folder_has_no_entries(tmp_path: Path):
    """A dataset that was never written to has an empty manifest."""
    assert _loaded(tmp_path / "manifest") == []


def test_appending_goes_on_after_loading(folder: Path):
    """A loaded manifest appends under the next number."""
    _manifest(folder).append(Entry(kind="started", run=2))
    assert _loaded(folder)[3:] == [Entry(kind="started", run=2)]


def test_a_number_that_is_taken_is_never_overwritten(folder: Path):
    """Two writers cannot both have a number: the second gets DatasetError and leaves no trace."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DatasetError, match=r"00000001\.json: another export wrote here"):
        Manifest(LocalFiles(folder.parent)).append(Entry(kind="started", run=9))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_entry_is_noticed(folder: Path, number: int):
    """An entry that is gone from the middle is named by the entry after it."""
    (folder / f"{number:08}.json").unlink()
    with pytest.raises(DatasetError, match=rf"{number + 1:08}\.json: entry {number} before it is missing"):
        _loaded(folder)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
def test_a_damaged_entry_is_noticed(folder: Path, number: int, damage: str):
    """An entry with other bytes than were written is named."""
    path = folder / f"{number:08}.json"
    data = path.read_bytes()
    path.write_bytes(
        {"truncated": data[:-5], "flipped": bytes([data[0] ^ 1]) + data[1:], "emptied": b""}[damage]
    )
    with pytest.raises(DatasetError, match=f"{path.name}: the entry is damaged") as caught:
        _loaded(folder)
    assert caught.value.path == str(path)
    assert "copy" in caught.value.remedy


def test_an_entry_of_another_version_is_refused(folder: Path):
    """A dataset of a later version is not guessed at: the error names both versions."""
    path = folder / "00000003.json"
    _forge(path, msgspec.json.encode(Entry(kind="finished", run=1, version=2)))
    with pytest.raises(DatasetError, match=r"00000003\.json: the entry is of version 2, not 1"):
        _loaded(folder)


def test_an_entry_of_another_shape_is_refused(folder: Path):
    """An intact entry that says something unknown is named too."""
    _forge(folder / "00000003.json", b'{"kind":"melted","run":1}')
    with pytest.raises(DatasetError, match=r"00000003\.json: the entry is not of this version"):
        _loaded(folder)


def test_a_link_in_the_way_is_not_followed(folder: Path, tmp_path: Path):
    """A link planted where the next entry is written aside is removed, not written through."""
    target = tmp_path / "precious"
    target.write_text("keep")
    os.symlink(target, folder / ".00000004.json.tmp")
    _manifest(folder).append(Entry(kind="started", run=2))
    assert target.read_text() == "keep"
    assert [path.name for path in sorted(folder.iterdir())][-1] == "00000004.json"
