"""The manifest: numbered entries, each created once and never changed. Readers trust nothing else.

``DIR/manifest/00000001.json`` holds one JSON line and a line with its checksum. An entry appears whole or not
at all: it is written aside, synced, and linked to its number, which fails if the number is taken.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from testpress_async.errors import DatasetError
from testpress_async.harvest.shard import Shard

VERSION = 1
NO_LINKS: int = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of whole shards: `path` below the dataset, one record a line."""

    table: str
    path: str
    records: int
    data_bytes: int
    blake2b: str


class ShardDone(msgspec.Struct, frozen=True, kw_only=True):
    """A shard stored whole.

    Attributes:
        rows: Its lines per table; an entry's parts hold them in the order of the entry's shards.
        count: What the server last said the listing holds; None if it has no count.
        agrees: Whether every page gave that count and that many different records came.
        quarantined: Bad records per table.
    """

    shard: Shard
    rows: dict[str, int]
    count: int | None = None
    agrees: bool = True
    quarantined: dict[str, int] = {}


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact: a run began, parts were stored, a run ended."""

    kind: Literal["started", "stored", "finished"]
    run: int
    origin: str = ""
    parts: tuple[Part, ...] = ()
    shards: tuple[ShardDone, ...] = ()
    version: int = VERSION


class Manifest:
    """All entries under *folder*, in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.entries: list[Entry] = []

    def load(self) -> None:
        """Read every entry. Raises DatasetError if one is damaged, missing or of another version."""
        names = sorted(path.name for path in self._folder.glob("*.json")) if self._folder.is_dir() else []
        for number, name in enumerate(names, start=1):
            path = self._folder / name
            if name != f"{number:08}.json":
                raise DatasetError(str(path), f"entry {number} before it is missing", _RESTORE)
            self.entries.append(_read(path))

    def append(self, entry: Entry) -> None:
        """Store *entry* durably under the next number."""
        path = self._folder / f"{len(self.entries) + 1:08}.json"
        line = msgspec.json.encode(entry)
        aside = path.with_suffix(".tmp")
        try:
            write_synced(aside, line + b"\n" + _checksum(line) + b"\n")
            try:
                os.link(aside, path)
            finally:
                aside.unlink()
            sync_folder(self._folder)
        except FileExistsError:
            raise DatasetError(str(path), "another export wrote here", "Run one export at a time") from None
        except OSError as error:
            raise unusable(path, error) from error
        self.entries.append(entry)


_RESTORE = "Restore the dataset from a copy, or export into a new directory"


def _read(path: Path) -> Entry:
    try:
        line, _, rest = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise unusable(path, error) from error
    if rest.strip() != _checksum(line):
        raise DatasetError(str(path), "the entry is damaged: its checksum does not fit", _RESTORE)
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except msgspec.DecodeError:
        raise DatasetError(str(path), "the entry is not of this version", _RESTORE) from None
    if entry.version != VERSION:
        raise DatasetError(str(path), f"the entry is of version {entry.version}, not {VERSION}", _RESTORE)
    return entry


def _checksum(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).hexdigest().encode()


def write_synced(path: Path, data: bytes) -> None:
    """Write *data* to *path*, readable by its owner only, and wait until it is on disk."""
    with open(path, "wb", opener=private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def private(path: str, flags: int) -> int:
    """Opener: files hold personal data, so only their owner may read them; links are not followed."""
    return os.open(path, flags | NO_LINKS, 0o600)


def sync_folder(folder: Path) -> None:
    """Make new names in *folder* durable. Windows cannot open folders and does this by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unusable(path: Path, error: OSError) -> DatasetError:
    """Our error for one of the system's."""
    remedy = (
        "Free some space and export again: what was committed stays" if error.errno == errno.ENOSPC else ""
    )
    return DatasetError(str(error.filename or path), error.strerror or type(error).__name__, remedy)
