"""A dataset: landing parts with the server's own records, a manifest, finished tables.

Order of every commit: write parts → fsync → rename → one manifest entry. A file that no entry names is not
there; the next export sweeps it. A second export into the same place never changes a committed part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING

import msgspec

from testpress_async.errors import ConfigError, DatasetError
from testpress_async.harvest import convert as conversion
from testpress_async.harvest.convert import Format
from testpress_async.harvest.files import (
    CHUNK_BYTES,
    Files,
    LocalFiles,
    ObjectFiles,
    ObjectStore,
    unusable,
)
from testpress_async.harvest.manifest import FIRST, FOLDER, RESTORE, Entry, Manifest, Part, ShardDone
from testpress_async.harvest.report import Report, told
from testpress_async.harvest.shard import TABLES, Shard
from testpress_async.models.display import html_table, size
from testpress_async.models.frames import ArrowTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation  # an extra: imported when it is needed

SPOOL_BYTES = 1 << 20  # a shard's rows stay in memory up to here, beyond that in a temporary file
QUARANTINE = "quarantine"
CHANGED = "was changed after it was committed"


class Spool:
    """Rows of one shard for one table, on the way to a part: in memory, a large shard in a temporary file."""

    def __init__(self) -> None:
        self._near = bytearray()
        self._far: IO[bytes] | None = None
        self.rows = 0

    def add(self, *rows: bytes) -> None:
        """More rows. Raises DatasetError if there is no room for temporary files."""
        self._near += b"\n".join((*rows, b""))
        self.rows += len(rows)
        if len(self._near) >= SPOOL_BYTES:
            try:
                if self._far is None:
                    self._far = TemporaryFile()  # noqa: SIM115 - lives as long as the spool
                self._far.write(self._near)
                self._far.flush()
            except OSError as error:
                raise unusable(gettempdir(), error) from error
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

    def __del__(self) -> None:
        self.close()  # of a run that failed before it was committed


class Dataset:
    """The dataset in *place*, made when first written to. Every method blocks on the disk.

    Exporting into it again finishes a run that was interrupted, or begins the next one. The next run may ask
    for other tables or filters: a dataset holds what all its runs have read, the newest reading of each id
    wins. An interrupted run can only be finished as it was begun, because with other tables or filters the
    part of it that is there would pass for the whole.

    Args:
        place: A directory: new, empty, or a dataset already. Or a store of obstore (needs the `objects`
            extra). A store has no lock: of two exports at once, the one that commits second is refused. The
            converted files (csv, parquet, DuckDB) are for directories only.
        compress: Whether to land parts as ``.jsonl.zst`` (needs the `zstd` extra). Parts that are there
            stay as they are; a dataset may hold both.
    Raises:
        ConfigError: The extra is not installed.
    """

    def __init__(
        self,
        place: str | os.PathLike[str] | ObjectStore | LocalFiles | ObjectFiles,
        *,
        compress: bool = False,
    ) -> None:
        if isinstance(place, (str, os.PathLike)):
            self._files: Files = LocalFiles(place)
        else:
            self._files = place if isinstance(place, (LocalFiles, ObjectFiles)) else ObjectFiles(place)
        self._compress = compress
        if compress:
            try:
                import zstandard as _  # noqa: F401
            except ImportError:
                raise ConfigError(
                    "compress", "zstd is missing: pip install 'testpress-async[zstd]'"
                ) from None

    def __repr__(self) -> str:
        return f"Dataset({self._files.place()!r})"

    def _repr_html_(self) -> str:
        """For notebooks: its finished tables, as the last export has told of them."""
        if not isinstance(self._files, LocalFiles):
            return html_table(repr(self), "", [])  # looking into a store takes requests
        try:
            sizes, last = self._files.sizes(), self.report()
        except (DatasetError, OSError) as error:
            return html_table(repr(self), "", [], [str(error)])
        known = {} if last is None else {each.table: told(each) for each in last.tables}
        files = {table: sizes[f"{table}.jsonl"] for table in TABLES if f"{table}.jsonl" in sizes}
        rows = [{**known.get(table, {"table": table}), "size": size(files[table])} for table in files]
        about = f"{len(rows)} finished tables, {size(sum(files.values()))}" if rows else "no finished tables"
        return html_table(repr(self), about, rows)

    @property
    def path(self) -> Path:
        """Its directory. Raises DatasetError if it lies in an object store."""
        if isinstance(self._files, LocalFiles):
            return self._files.root
        raise DatasetError(self._files.place(), "is no directory", "Name a directory for this")

    def check(self) -> None:
        """See that one could export into it, before anything is read from the server. Changes nothing.

        Raises:
            DatasetError: The place is unusable, holds something else, or is a damaged dataset.
        """
        with self._told():
            self._require_place()
            self._loaded()

    @contextlib.contextmanager
    def writing(self, origin: str, fingerprint: str = "") -> Generator[Store]:
        """The right to write, for one export at a time.

        Args:
            origin: The institute the records come from; a dataset holds those of one.
            fingerprint: Of what is asked for (tables and filters, not how they are cut into reads). An
                interrupted run is resumed only with the fingerprint it began with. Empty: not compared.
        Raises:
            DatasetError: The place is unusable, damaged, of another institute, holds an interrupted run for
                something else, or is being written.
        """
        with self._told():
            self._require_place()
        with self._locked():
            with self._told():
                manifest = self._loaded()
            store = Store(self._files, manifest, origin, fingerprint, compress=self._compress)
            try:
                yield store
            except BaseException:
                with contextlib.suppress(DatasetError):  # why it failed matters more
                    store.close()
                raise
            store.close()

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables with finished files."""
        with self._told():
            names = self._files.sizes()
        return tuple(table for table in TABLES if f"{table}.jsonl" in names)

    def readings(self) -> Iterator[ShardDone]:
        """Every shard stored so far, oldest first; none if nothing is here yet.

        Raises:
            DatasetError: The manifest is damaged.
        """
        with self._told():
            manifest = self._loaded()
        return (done for _, done in manifest.readings())

    def last_run(self) -> int:
        """Number of the last export that ended, counted from 1; 0 if none has.

        Raises:
            DatasetError: The manifest is damaged.
        """
        with self._told():
            last = Manifest(self._files).last_finished()
        return 0 if last is None else last.run

    def report(self) -> Report | None:
        """What the last export that ended has told; None if none has.

        Raises:
            DatasetError: The manifest is damaged.
        """
        with self._told():
            last = Manifest(self._files).last_finished()
        return None if last is None else last.report

    def to_arrow(self, table: str) -> ArrowTable:
        """A finished table as a `pyarrow.Table`, wholly in memory. Columns are typed as in every format.

        Raises:
            ConfigError: DuckDB or pyarrow is not installed, or there is no such table.
            DatasetError: The table is not finished, or damaged; or the dataset lies in an object store.
        """
        return conversion.to_arrow(self.path, table)

    def sql(self, query: str) -> DuckDBPyRelation:
        """A DuckDB relation: `.fetchall()`, `.df()`, `.pl()`, `.to_arrow_table()`, `.show()`; or query on.

        Every finished table is a view of its name; `answers_with_questions` and others join them. Nothing a
        query does changes the tables. It runs when its rows are asked for, so not in a coroutine.

        Raises:
            ConfigError: DuckDB is not installed.
            DatasetError: There is no finished table; or the dataset lies in an object store.
            duckdb.Error: *query* is wrong.
        """
        return conversion.sql(self.path, query)

    def convert(
        self, format: Format, *, tables: Sequence[str] | None = None, formula_guard: bool = False
    ) -> tuple[Path, ...]:
        """Write finished tables as *format* too, without asking the server; returns the files.

        The next export removes them, as they would be out of date, unless it is asked for the format itself.

        Args:
            tables: All finished ones if None. A DuckDB file always holds all.
            formula_guard: In CSV, an apostrophe before texts that spreadsheets would run (CWE-1236).
        Raises:
            ConfigError: DuckDB is not installed, or cannot write there.
            DatasetError: There is no such finished table, or an export is running; or the disk refused. Files
                of before are untouched.
        """
        wanted = self.tables if tables is None else tuple(tables)
        if not self.tables:
            raise DatasetError(self._files.place(), "has no finished tables", "Export into it first")
        with self._locked():
            return conversion.convert(self.path, wanted, format, formula_guard=formula_guard)

    def _require_place(self) -> None:
        """Raise if this is no place for a dataset. Changes nothing and does not read all of one."""
        self._files.check((FOLDER, QUARANTINE, *TABLES))
        if FIRST in self._files.sizes(FOLDER):
            return
        Manifest(self._files).load()  # which says what is wrong if the folder holds anything
        if any(name.partition("/")[0] not in (FOLDER, ".lock") for name in self._files.sizes()):
            raise DatasetError(
                self._files.place(), "is not empty and no dataset", "Name a new or empty directory"
            )

    def _loaded(self) -> Manifest:
        """The manifest, and every part it names is there and as long as it was committed.

        (Its checksum is compared when it is read.)
        """
        manifest = Manifest(self._files)
        manifest.load()
        parts = [part for entry in manifest.entries for part in entry.parts]
        sizes = {table: self._files.sizes(table) for table in {part.table for part in parts}}
        for part in parts:
            size = sizes[part.table].get(part.path.partition("/")[2])
            if size != part.data_bytes:
                problem = "is missing" if size is None else CHANGED
                raise DatasetError(self._files.place(part.path), problem, RESTORE)
        return manifest

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        with contextlib.ExitStack() as held:
            with self._told():
                held.enter_context(self._files.lock())
            yield

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """The system's errors as ours."""
        try:
            yield
        except BlockingIOError:
            place = self._files.place()
            raise DatasetError(place, "another export is writing here", "Wait for it") from None
        except OSError as error:
            raise unusable(self._files.place(), error) from error


class Store:
    """A dataset opened for writing. Every method blocks on the disk: call it in a thread.

    After a write has failed every later one fails the same way: what a disk that refused once has kept is
    not known, and a failed sync that is repeated may succeed without having stored anything.
    """

    def __init__(
        self, files: Files, manifest: Manifest, origin: str, fingerprint: str = "", *, compress: bool = False
    ) -> None:
        self._files, self._manifest, self._compress = files, manifest, compress
        self._failure: DatasetError | None = None
        self._verified: set[str] = set()
        entries = manifest.entries
        known = next((entry.origin for entry in entries if entry.origin), origin)
        if known != origin:
            raise DatasetError(files.place(), f"holds records of {known}", "Use a directory per institute")
        last = entries[-1] if entries else None
        self.resumed = last is not None and last.kind != "finished"
        self.run = last.run if last and self.resumed else (last.run if last else 0) + 1
        if self.resumed:
            self._require_same(fingerprint)
        with self._changing():
            if files.exclusive:
                self._sweep()
            self._quarantine = _Quarantine(files)
            if not self.resumed:
                manifest.append(Entry(kind="started", run=self.run, origin=origin, fingerprint=fingerprint))

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
        tables = dict.fromkeys(table for _, spools in shards for table in spools)
        with self._changing():
            self._quarantine.flush()
            parts = tuple(
                self._part(table, number, [spools[table] for _, spools in shards if table in spools])
                for table in tables
            )
            done = tuple(done for done, _ in shards)
            self._manifest.append(Entry(kind="stored", run=self.run, parts=parts, shards=done))
        return sum(part.data_bytes for part in parts)

    def read_whole(self, lists: Sequence[Shard]) -> None:
        """Record that this run has read *lists* in parts: what is not in these parts is gone."""
        with self._changing():
            self._manifest.append(Entry(kind="whole", run=self.run, whole=tuple(lists)))

    def wholes(self, table: str) -> Iterator[tuple[int, Shard]]:
        """Lists of *table* that a run has read in parts, each with the run; oldest first."""
        for entry in self._manifest.entries:
            for shard in entry.whole:
                if shard.table == table:
                    yield entry.run, shard

    def finish(self, report: Report | None = None) -> None:
        """Record that the run is complete, and what it told: the next one is an update."""
        with self._changing():
            self._quarantine.flush()
            self._manifest.append(Entry(kind="finished", run=self.run, report=report))

    def close(self) -> None:
        """Write what is left of the quarantine."""
        if self._failure is None:
            with self._changing():
                self._quarantine.flush()

    def rows(self, table: str, shards: frozenset[str] | None = None) -> Iterator[tuple[ShardDone, bytes]]:
        """Landed rows of *table*, oldest first, each with its shard; only of *shards* if given.

        Raises:
            DatasetError: A part is missing or was changed after it was committed.
        """
        return ((done, row) for _, done, row in self.landed(table, shards))

    def landed(
        self, table: str, shards: frozenset[str] | None = None
    ) -> Iterator[tuple[int, ShardDone, bytes]]:
        """As `rows`, each with the number of its shard, too; see `readings`."""
        first = 0
        for entry in self._manifest.entries:
            parts = [part for part in entry.parts if part.table == table]
            readings = tuple(entry.shards) if parts else ()
            wanted = [shards is None or done.shard.id in shards for done in readings]
            for part in parts if any(wanted) else ():
                lines = self._lines(part)
                for number, (done, asked) in enumerate(zip(readings, wanted, strict=True), first):
                    for row in islice(lines, done.rows.get(table, 0)):
                        if asked:
                            yield number, done, row
            first += len(entry.shards)

    def readings(self, table: str | None = None) -> Iterator[tuple[int, ShardDone]]:
        """All shards stored, oldest first, each with its number; only those of *table* if given."""
        for number, done in self._manifest.readings(table):
            if table is None or done.shard.table == table:
                yield number, done

    def numbered(self, table: str, numbers: Iterable[int]) -> Iterator[ShardDone]:
        """The shards of *table* with these numbers, which are in order."""
        wanted = iter(numbers)
        sought = next(wanted, None)
        for number, done in self.readings(table):
            if number == sought:
                yield done
                sought = next(wanted, None)

    def sources(self, table: str) -> Iterator[tuple[int, ShardDone]]:
        """The shards that brought rows of *table*, or would have, oldest first, each with its number."""
        for number, done in self._manifest.readings(table):
            if done.shard.table == table or table in done.rows:
                yield number, done

    def quarantine(self, table: str, record: Mapping[str, object]) -> None:
        """Keep a bad record, its raw bytes and the reason. Durable before the shard it came from is."""
        with self._changing():
            self._quarantine.add(f"{QUARANTINE}/{table}.jsonl", msgspec.json.encode(record))

    def replace(self, name: str, lines: Iterator[bytes]) -> int:
        """Write the file *name* anew, atomically. Returns its lines."""
        count = 0

        def chunks() -> Iterator[bytes]:
            nonlocal count
            near = bytearray()
            for count, line in enumerate(lines, start=1):  # noqa: B007 - the last one is the total
                near += line
                near += b"\n"
                if len(near) >= CHUNK_BYTES:
                    yield bytes(near)
                    near.clear()
            yield bytes(near)

        with self._changing():
            self._files.write(name, chunks())
        return count

    def remove(self, names: Iterable[str]) -> tuple[str, ...]:
        """Remove files that were made of the parts; returns those that were there."""
        with self._changing():
            there = self._files.sizes()
            found = tuple(name for name in names if name in there)
            for name in found:
                self._files.remove(name)
        return found

    # --- inside ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Generator[None]:
        """Around every write: its failure is ours, and the last one."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except OSError as error:
            self._failure = unusable(self._files.place(), error)
            raise self._failure from error
        except DatasetError as error:
            self._failure = error
            raise

    def _require_same(self, fingerprint: str) -> None:
        began = (e.fingerprint for e in self._manifest.entries if e.run == self.run and e.kind == "started")
        if fingerprint and next(began, "") not in ("", fingerprint):
            raise DatasetError(
                self._files.place(),
                "holds an interrupted export of other tables or filters",
                "Finish it with the tables and filters it was begun with, or export into a new directory",
            )

    def _part(self, table: str, number: int, spools: Sequence[Spool]) -> Part:
        own = "" if self._files.exclusive else f"-{secrets.token_hex(4)}"  # never another writer's name
        suffix = ".jsonl.zst" if self._compress else ".jsonl"
        path = f"{table}/part-{self.run:04}-{number:08}{own}{suffix}"
        digest, size = hashlib.sha256(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            plain = _drained(spools)
            for chunk in _compressed(plain) if self._compress else plain:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        self._files.write(path, chunks())
        return Part(
            table=table,
            path=path,
            records=sum(spool.rows for spool in spools),
            data_bytes=size,
            sha256=digest.hexdigest(),
        )

    def _lines(self, part: Part) -> Iterator[bytes]:
        """Rows of *part*, after it has been found to be as it was committed."""
        place = self._files.place(part.path)
        try:
            self._verify(part)
            stored = self._files.read(part.path)
            yield from _split(_decompressed(place, stored) if part.path.endswith(".zst") else stored)
        except OSError as error:
            raise unusable(place, error) from error

    def _verify(self, part: Part) -> None:
        if part.path in self._verified:
            return
        digest, size = hashlib.sha256(), 0
        for chunk in self._files.read(part.path):
            digest.update(chunk)
            size += len(chunk)
        if (size, digest.hexdigest()) != (part.data_bytes, part.sha256):
            raise DatasetError(self._files.place(part.path), CHANGED, RESTORE)
        self._verified.add(part.path)

    def _sweep(self) -> None:
        """Remove what a killed export left behind and no entry names."""
        named = {part.path for entry in self._manifest.entries for part in entry.parts}
        left: list[str] = []
        for folder in (FOLDER, QUARANTINE, *TABLES, ""):
            for name in self._files.sizes(folder):
                path = f"{folder}/{name}" if folder else name
                part = _PART.fullmatch(name)
                if part and path not in named:
                    self._require_last(path, int(part["number"]))
                if (part and path not in named) or _ASIDE.fullmatch(name):
                    left.append(path)
        for path in left:  # only now that nothing speaks against it
            with contextlib.suppress(IsADirectoryError):
                self._files.remove(path)

    def _require_last(self, path: str, number: int) -> None:
        """A commit that was cut short has the next number; with another one, it is the entry that is gone."""
        if number != len(self._manifest.entries) + 1:
            raise DatasetError(
                self._files.place(path), "the manifest entry that names it is missing", RESTORE
            )


class _Quarantine:
    """Bad records on the way to their files; each is kept once, however often it is read."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()  # a commit and readers of other shards call from several threads
        self._near: dict[str, list[bytes]] = {}
        self._near_bytes = 0
        self._known: dict[str, set[bytes]] = {}
        if files.exclusive:  # elsewhere a line is named by its hash
            for name, size in files.sizes(QUARANTINE).items():
                self._learn(f"{QUARANTINE}/{name}", size)

    def add(self, name: str, line: bytes) -> None:
        digest = _short(line)
        with self._lock:
            known = self._known.setdefault(name, set())
            if digest in known:
                return
            known.add(digest)
            self._near.setdefault(name, []).append(line)
            self._near_bytes += len(line)
            if self._near_bytes >= SPOOL_BYTES:
                self._flush()

    def flush(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        for name, lines in self._near.items():
            self._files.append(name, lines)
        self._near.clear()
        self._near_bytes = 0

    def _learn(self, name: str, size: int) -> None:
        """Know the lines of *name*; one that a crash cut short is dropped, its shard is read again."""
        known, whole = self._known.setdefault(name, set()), 0
        for line in _split(self._files.read(name)):
            known.add(_short(line))
            whole += len(line) + 1
        if whole != size:
            self._files.write(name, (line + b"\n" for line in _split(self._files.read(name))))


_PART = re.compile(r"part-\d{4,}-(?P<number>\d{8})\.jsonl(\.zst)?", re.ASCII)
_UNPACK_BYTES = 1 << 14  # at a time: so little compressed text is never much text
_ASIDE = re.compile(r"\..+\.tmp")


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines; what comes after the last newline is left out."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _short(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=12).digest()


def _drained(spools: Iterable[Spool]) -> Iterator[bytes]:
    for spool in spools:
        yield from spool.chunks()
        spool.close()


def _compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """One closed zstd frame."""
    import zstandard

    packer = zstandard.ZstdCompressor().compressobj()
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()


def _decompressed(place: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What is in the frame, in bounded pieces."""
    try:
        import zstandard
    except ImportError:
        raise DatasetError(
            place, "is compressed and zstd is missing", "pip install 'testpress-async[zstd]'"
        ) from None
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    for chunk in chunks:
        for start in range(0, len(chunk), _UNPACK_BYTES):
            yield unpacker.decompress(chunk[start : start + _UNPACK_BYTES])
