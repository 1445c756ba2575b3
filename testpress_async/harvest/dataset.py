"""A dataset on disk: landing parts with the server's own records, a manifest, finished tables.

Order of every commit: write parts → fsync → rename → one manifest entry. A file that no entry names is not
there; the next export sweeps it. A second export into the same directory never changes a committed part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import msgspec

from testpress_async.errors import DatasetError
from testpress_async.harvest.manifest import (
    NO_LINKS,
    Entry,
    Manifest,
    Part,
    ShardDone,
    private,
    sync_folder,
    unusable,
)
from testpress_async.harvest.shard import TABLES

if sys.platform != "win32":
    import fcntl

SPOOL_BYTES = 1 << 20  # a shard's rows stay in memory up to here, beyond that in a temporary file


class Spool:
    """Rows of one shard for one table, on the way to a part: in memory, a large shard in a temporary file."""

    def __init__(self) -> None:
        self._near = bytearray()
        self._far: IO[bytes] | None = None
        self.rows = 0

    def add(self, row: bytes) -> None:
        self._near += row
        self._near += b"\n"
        self.rows += 1
        if len(self._near) >= SPOOL_BYTES:
            if self._far is None:
                self._far = TemporaryFile()  # noqa: SIM115 - lives as long as the spool
            self._far.write(self._near)
            self._near.clear()

    def chunks(self) -> Iterator[bytes]:
        """Everything, in order."""
        if self._far is not None:
            self._far.seek(0)
            while chunk := self._far.read(SPOOL_BYTES):
                yield chunk
        yield bytes(self._near)

    def close(self) -> None:
        if self._far is not None:
            self._far.close()


class Dataset:
    """The dataset in *path*, made when first written to.

    Args:
        path: A directory: new, empty, or a dataset already.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._manifest = Manifest(self.path / "manifest")

    @contextlib.contextmanager
    def writing(self, origin: str) -> Generator[Store]:
        """The right to write, for one export at a time.

        Raises:
            DatasetError: The directory is unusable, damaged, of another institute, or being written.
        """
        try:
            self._prepare()
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | NO_LINKS, 0o600)
        except OSError as error:
            raise unusable(self.path, error) from error
        try:
            try:
                _lock(lock)
            except BlockingIOError:
                raise DatasetError(str(self.path), "another export is writing here", "Wait for it") from None
            manifest = Manifest(self.path / "manifest")
            manifest.load()
            yield Store(self.path, manifest, origin)
        finally:
            os.close(lock)

    def _prepare(self) -> None:
        if self.path.is_dir() and not (self.path / "manifest").is_dir() and any(self.path.iterdir()):
            raise DatasetError(str(self.path), "is not empty and no dataset", "Name a new or empty directory")
        for folder in (self.path, self.path / "manifest"):
            folder.mkdir(mode=0o700, parents=folder is self.path, exist_ok=True)

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables with finished files."""
        return tuple(table for table in TABLES if (self.path / f"{table}.jsonl").is_file())


class Store:
    """A dataset opened for writing. Every method blocks on the disk: call it in a thread."""

    def __init__(self, path: Path, manifest: Manifest, origin: str) -> None:
        self.path, self._manifest = path, manifest
        entries = manifest.entries
        known = next((entry.origin for entry in entries if entry.origin), origin)
        if known != origin:
            raise DatasetError(str(path), f"holds records of {known}", "Use a directory per institute")
        self._sweep()
        last = entries[-1] if entries else None
        self.resumed = last is not None and last.kind != "finished"
        self.run = last.run if last and self.resumed else (last.run if last else 0) + 1
        if not self.resumed:
            manifest.append(Entry(kind="started", run=self.run, origin=origin))

    def stored(self) -> dict[str, ShardDone]:
        """What this run has stored already, by shard id."""
        return {
            done.shard.id: done
            for entry in self._manifest.entries
            if entry.run == self.run
            for done in entry.shards
        }

    def commit(self, shards: Sequence[tuple[ShardDone, Mapping[str, Spool]]]) -> int:
        """Store whole shards durably, one part per table. Returns bytes written.

        Raises:
            DatasetError: The disk refused. Nothing of these shards counts; an export again reads them anew.
        """
        number = len(self._manifest.entries) + 1
        try:
            tables = dict.fromkeys(table for _, spools in shards for table in spools)
            parts = tuple(
                self._part(table, number, [spools[table] for _, spools in shards if table in spools])
                for table in tables
            )
            done = tuple(done for done, _ in shards)
            self._manifest.append(Entry(kind="stored", run=self.run, parts=parts, shards=done))
        except OSError as error:
            raise unusable(self.path, error) from error
        return sum(part.data_bytes for part in parts)

    def finish(self) -> None:
        """Record that the run is complete: the next one reads everything anew."""
        self._manifest.append(Entry(kind="finished", run=self.run))

    def rows(
        self, table: str, shards: frozenset[str] | None = None, *, this_run: bool = False
    ) -> Iterator[tuple[ShardDone, bytes]]:
        """Landed rows of *table*, oldest first, each with its shard; only of *shards* if given.

        Raises:
            DatasetError: A part is missing or was changed after it was committed.
        """
        for entry in self._manifest.entries:
            if this_run and entry.run != self.run:
                continue
            for part in entry.parts:
                if part.table != table:
                    continue
                lines = self._lines(part)
                for done in entry.shards:
                    wanted = shards is None or done.shard.id in shards
                    for _, row in zip(range(done.rows.get(table, 0)), lines, strict=False):
                        if wanted:
                            yield done, row

    def readings(self, table: str) -> Iterator[ShardDone]:
        """All readings of *table*'s shards, oldest first."""
        for entry in self._manifest.entries:
            for done in entry.shards:
                if done.shard.table == table:
                    yield done

    def quarantine(self, table: str, record: Mapping[str, object]) -> None:
        """Keep a bad record, its raw bytes and the reason."""
        folder = self.path / "quarantine"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with open(folder / f"{table}.jsonl", "ab", opener=private) as file:
                file.write(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise unusable(folder, error) from error

    def replace(self, name: str, lines: Iterator[bytes]) -> int:
        """Write the file *name* anew, atomically. Returns its lines."""
        aside, count = self.path / f".{name}.tmp", 0
        try:
            with open(aside, "wb", opener=private) as file:
                for count, line in enumerate(lines, start=1):  # noqa: B007 - the last one is the total
                    file.write(line)
                    file.write(b"\n")
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self.path / name)
            sync_folder(self.path)
        except OSError as error:
            raise unusable(self.path / name, error) from error
        return count

    # --- inside ------------------------------------------------------------------------------------

    def _part(self, table: str, number: int, spools: Sequence[Spool]) -> Part:
        folder = self.path / table
        folder.mkdir(mode=0o700, exist_ok=True)
        name = f"part-{self.run:04}-{number:08}.jsonl"
        digest, size = hashlib.blake2b(digest_size=16), 0
        with open(folder / f".{name}.tmp", "wb", opener=private) as file:
            for spool in spools:
                for chunk in spool.chunks():
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                spool.close()
            file.flush()
            os.fsync(file.fileno())
        (folder / f".{name}.tmp").rename(folder / name)
        sync_folder(folder)
        records = sum(spool.rows for spool in spools)
        return Part(
            table=table,
            path=f"{table}/{name}",
            records=records,
            data_bytes=size,
            blake2b=digest.hexdigest(),
        )

    def _lines(self, part: Part) -> Iterator[bytes]:
        path = self.path / part.path
        try:
            if path.stat().st_size != part.data_bytes:
                raise DatasetError(str(path), "was changed after it was committed", "Restore it from a copy")
            with open(path, "rb") as file:
                for line in file:
                    yield line[:-1]
        except OSError as error:
            raise unusable(path, error) from error

    def _sweep(self) -> None:
        """Remove what a killed export left behind and no entry names."""
        named = {part.path for entry in self._manifest.entries for part in entry.parts}
        for table in TABLES:
            for path in (self.path / table).glob("*.jsonl*"):
                if f"{table}/{path.name}" not in named:
                    path.unlink()
            for path in (self.path / table).glob(".*.tmp"):
                path.unlink()
        for path in (*self.path.glob(".*.tmp"), *(self.path / "manifest").glob("*.tmp")):
            path.unlink()


def _lock(handle: int) -> None:
    """Take the lock or raise BlockingIOError. On Windows nothing keeps two exports apart."""
    if sys.platform != "win32":
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
