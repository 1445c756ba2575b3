"""The manifest: numbered entries, each created once and never changed. Readers trust nothing else.

``DIR/manifest/00000001.json`` holds one JSON line and a line with its checksum. An entry appears whole or not
at all, and is created only if its number is free: of two exports that write, the second is refused here.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Collection, Iterator
from datetime import date
from typing import Literal

import msgspec

from testpress_async.errors import DatasetError
from testpress_async.harvest.certificate import Status
from testpress_async.harvest.files import Files, unusable
from testpress_async.harvest.report import Report
from testpress_async.harvest.shard import Shard

VERSION = 1
FOLDER = "manifest"
FIRST = "00000001.json"
RESTORE = "Restore the dataset from a copy, or export into a new directory"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of whole shards: `path` below the dataset, one record a line.

    Attributes:
        data_bytes: Its size; of what is stored, compressed or not.
        sha256: Checksum of what is stored, as `sha256sum` prints it.
    """

    table: str
    path: str
    records: int
    data_bytes: int
    sha256: str


class ShardDone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A shard stored whole.

    Attributes:
        rows: Its lines per table; an entry's parts hold them in the order of the entry's shards.
        count: What the server last said the listing holds; None if it has no count.
        agrees: Whether every page gave that count and that many different records came.
        status: What was proved of it.
        passes: How often it was gone through.
        running: Attempts in it that had not ended.
        run: In which it was read.
        read_on: The day (UTC) of that.
        quarantined: Bad records per table.
    """

    shard: Shard
    rows: dict[str, int]
    count: int | None = None
    agrees: bool = True
    status: Status = "certified"
    passes: int = 1
    running: int = 0
    run: int = 0
    read_on: date | None = None
    quarantined: dict[str, int] = {}

    @property
    def tells_gone(self) -> bool:
        """Whether what it did not bring is gone: all that is there came, and none without a usable id."""
        return self.agrees and not self.quarantined.get(self.shard.table)


_readings = msgspec.json.Decoder(tuple[ShardDone, ...])


class Readings(Collection[ShardDone]):
    """The shards of an entry, packed: of a million attempts' answers each takes some twenty bytes, not 600.

    They are unpacked, all of them, when they are gone through; each time they are other objects.
    """

    __slots__ = ("_length", "_packed", "_tables")

    def __init__(self, shards: Collection[ShardDone]) -> None:
        self._packed, self._length = zlib.compress(msgspec.json.encode(shards), 1), len(shards)
        self._tables = frozenset(table for done in shards for table in (done.shard.table, *done.rows))

    def concern(self, table: str) -> bool:
        """Whether some of them are of *table*, or brought rows of it."""
        return table in self._tables

    def __iter__(self) -> Iterator[ShardDone]:
        return iter(_readings.decode(zlib.decompress(self._packed)))

    def __len__(self) -> int:
        return self._length

    def __contains__(self, done: object) -> bool:
        return done in tuple(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Collection) and tuple(self) == tuple(other)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact: a run began, parts were stored, lists were read whole, a run ended.

    Attributes:
        whole: Lists that the run has read in parts, each perfectly, which together are all of them.
        fingerprint: Of what a run was started for; empty if nobody said.
        report: Of a run that ended.
    """

    kind: Literal["started", "stored", "whole", "finished"]
    run: int
    origin: str = ""
    fingerprint: str = ""
    parts: tuple[Part, ...] = ()
    shards: Collection[ShardDone] = ()
    whole: tuple[Shard, ...] = ()
    report: Report | None = None
    version: int = VERSION


class Manifest:
    """All entries of a dataset, in order."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.entries: list[Entry] = []

    def readings(self, table: str | None = None) -> Iterator[tuple[int, ShardDone]]:
        """Every shard stored, oldest first, with its number; with *table*, of entries that have such."""
        first = 0
        for entry in self.entries:
            shards = entry.shards  # packed, or none
            if table is None or (isinstance(shards, Readings) and shards.concern(table)):
                yield from enumerate(shards, first)
            first += len(shards)

    def load(self) -> None:
        """Read every entry. Raises DatasetError if one is damaged, missing or of another version."""
        for number, name in enumerate(self._names(), start=1):
            place = self._files.place(f"{FOLDER}/{name}")
            if not _ENTRY.fullmatch(name):
                raise DatasetError(place, "is no entry of a manifest", "Move it away")
            if int(name[:8]) != number:
                raise DatasetError(place, f"entry {number} before it is missing", RESTORE)
            self.entries.append(_packed(self._read(name)))

    def last_finished(self) -> Entry | None:
        """The newest entry of a run that ended, without reading what is older."""
        for name in reversed(self._names()):
            entry = self._read(name)
            if entry.kind == "finished":
                return entry
        return None

    def append(self, entry: Entry) -> None:
        """Store *entry* durably under the next number."""
        name = f"{FOLDER}/{len(self.entries) + 1:08}.json"
        line = msgspec.json.encode(entry)
        data = line + b"\n" + _checksum(line) + b"\n"
        try:
            self._create(name, data, mine=entry.kind != "started")
        except FileExistsError:
            raise DatasetError(
                self._files.place(name), "another export wrote here", "Run one export at a time"
            ) from None
        except OSError as error:
            raise unusable(self._files.place(name), error) from error
        self.entries.append(_packed(entry))

    def _names(self) -> list[str]:
        try:
            return [name for name in self._files.sizes(FOLDER) if name.endswith(".json")]
        except OSError as error:
            raise unusable(self._files.place(FOLDER), error) from error

    def _create(self, name: str, data: bytes, *, mine: bool) -> None:
        """Create *name*. Data that is *mine* names parts of ours or ends our run: nobody else has written it.

        An object store's client repeats a request whose answer was lost, and is then told of its own object.
        """
        try:
            self._files.create(name, data)
        except FileExistsError:
            if not mine or b"".join(self._files.read(name)) != data:
                raise

    def _read(self, name: str) -> Entry:
        place = self._files.place(f"{FOLDER}/{name}")
        try:
            line, _, rest = b"".join(self._files.read(f"{FOLDER}/{name}")).partition(b"\n")
        except OSError as error:
            raise unusable(place, error) from error
        if rest != _checksum(line) + b"\n":
            raise DatasetError(place, "the entry is damaged: its checksum does not fit", RESTORE)
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            raise DatasetError(place, "the entry is not of this version", RESTORE) from None
        if entry.version != VERSION:
            raise DatasetError(place, f"the entry is of version {entry.version}, not {VERSION}", RESTORE)
        return entry


def _packed(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, shards=Readings(entry.shards)) if entry.shards else entry


_ENTRY = re.compile(r"\d{8}\.json", re.ASCII)


def _checksum(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).hexdigest().encode()
