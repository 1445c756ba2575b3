"""Finished tables in other formats, and SQL over them: DuckDB reads `<table>.jsonl` with our columns.

A file is written aside, in a folder nobody else may look into, synced and renamed over the old one: a reader
sees the old one or the new one. The same tables give the same rows again, in the same order.

What a column holds: `schema.columns`. Texts that mean "no value" (`"NA"`, empty) are null in columns of
numbers, durations and days; durations keep the server's text beside the seconds. Moments are in UTC. Of a
field that a record has twice, the first counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from testpress_async.errors import ConfigError, DatasetError
from testpress_async.harvest.files import sync_folder
from testpress_async.harvest.interruption import Interruption
from testpress_async.harvest.select import VIEWS, name, printable, quoted, typed
from testpress_async.models.frames import ArrowTable
from testpress_async.models.schema import RECORDS, columns

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation  # an extra: imported when it is needed

Format = Literal["jsonl", "csv", "parquet", "duckdb", "none"]

DUCKDB_FILE: Final = "testpress.duckdb"
MEMORY_LIMIT: Final = "512MB"
"""What DuckDB may hold while it converts; beyond that it spills into the dataset's folder."""

_ASIDE: Final = ".converting"
_MOST_THREADS: Final = 4  # each holds buffers


def require_format(format: Format) -> None:
    """Raise ConfigError now, rather than after hours of reading, if *format* needs what is not installed."""
    if format in ("csv", "parquet", "duckdb"):
        _require_duckdb(f"format={format}")


def convert(
    folder: Path,
    tables: Sequence[str],
    format: Format,
    *,
    formula_guard: bool = False,
    interruption: Interruption | None = None,
) -> tuple[Path, ...]:
    """`Dataset.convert`. Blocks: call it in a thread, one conversion at a time in a folder.

    `csv` and `parquet` make a file a table; `duckdb` makes one file of all finished tables there are, as it
    is replaced whole. `jsonl` and `none` have nothing to convert.
    """
    if format == "none":
        return ()
    for table in tables:
        _require_finished(folder, table)
    if format == "jsonl":
        return tuple(folder / f"{table}.jsonl" for table in tables)
    _require_duckdb(f"format={format}")
    if format == "duckdb" and "?" in str(folder.absolute()):  # DuckDB takes what follows for a query
        raise ConfigError("folder", "DuckDB cannot write a database below a name with a question mark")
    job = _Conversion(folder, interruption or Interruption())
    with job.working():
        if format == "duckdb":
            return (job.database(finished_tables(folder)),)
        return tuple(job.file(table, format, formula_guard) for table in tables)


def finished_tables(folder: Path) -> tuple[str, ...]:
    """Tables with a finished file in *folder*."""
    return tuple(table for table in RECORDS if (folder / f"{table}.jsonl").is_file())


def sweep(folder: Path) -> None:
    """Remove what a conversion that was killed left in *folder*."""
    shutil.rmtree(folder / _ASIDE, ignore_errors=True)


class _Conversion:
    def __init__(self, folder: Path, interruption: Interruption) -> None:
        self._folder, self._interruption = folder, interruption
        self._aside = folder / _ASIDE

    @contextlib.contextmanager
    def working(self) -> Generator[None]:
        """A private folder to write in; what a killed conversion left there goes."""
        try:
            with _faults(self._folder):
                sweep(self._folder)
                self._aside.mkdir(mode=0o700)
                yield
        finally:
            sweep(self._folder)

    def file(self, table: str, format: Literal["csv", "parquet"], formula_guard: bool) -> Path:
        aside = self._aside / f"{table}.{format}"
        self._interruption.begins(aside.name)

        def copy(connection: DuckDBPyConnection, rows: str) -> None:
            cells = printable(table, rows, formula_guard=formula_guard) if format == "csv" else rows
            connection.execute(f"COPY ({cells}) TO {quoted(str(aside.absolute()))} ({_OPTIONS[format]})")

        with self._connected(":memory:") as connection:
            self._from_lines(connection, table, copy)
        return self._publish(aside)

    def database(self, tables: Sequence[str]) -> Path:
        aside = self._aside / DUCKDB_FILE
        with self._connected(str(aside)) as connection:
            for table in tables:
                self._interruption.begins(f"{DUCKDB_FILE}: {table}")

                def create(connection: DuckDBPyConnection, rows: str, table: str = table) -> None:
                    connection.execute(f"CREATE OR REPLACE TABLE {name(table)} AS {rows}")

                self._from_lines(connection, table, create)
                _comment(connection, table)
            _create_joins(connection, tables)
        # Changes somebody made to the old file by hand, and never finished, are not for the new one.
        (self._folder / f"{DUCKDB_FILE}.wal").unlink(missing_ok=True)
        return self._publish(aside)

    @contextlib.contextmanager
    def _connected(self, path: str) -> Generator[DuckDBPyConnection]:
        self._interruption.check()
        limits = {"memory_limit": MEMORY_LIMIT, "threads": min(os.cpu_count() or 1, _MOST_THREADS)}
        with (
            contextlib.closing(_connect(path, self._aside / "spill", limits)) as connection,
            self._interruption.over(connection.interrupt),
        ):
            yield connection

    def _from_lines(
        self, connection: DuckDBPyConnection, table: str, use: Callable[[DuckDBPyConnection, str], None]
    ) -> None:
        """Give *use* the SELECT of the table's rows; again over a mended copy if DuckDB cannot read them."""
        import duckdb

        lines = self._folder / f"{table}.jsonl"
        try:
            use(connection, typed(table, str(lines.absolute())))
        except duckdb.InvalidInputException as error:
            if not any(reason in str(error) for reason in _UNREADABLE):
                raise
            copy = self._aside / lines.name
            longest_bytes = _mend(lines, copy)
            use(connection, typed(table, str(copy.absolute()), longest_bytes))
            copy.unlink()

    def _publish(self, aside: Path) -> Path:
        """Make the file durable, and only then visible."""
        self._interruption.check()
        aside.chmod(0o600)
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        path = self._folder / aside.name
        aside.replace(path)
        sync_folder(self._folder)
        return path


_OPTIONS: Final = {
    # RFC 4180: lines end with CR LF, quotes are doubled; an empty text is "", a missing one is nothing
    "csv": "FORMAT csv, HEADER true, NEW_LINE '\\r\\n', USE_TMP_FILE false",
    "parquet": "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false",
}
_UNREADABLE: Final = ("Malformed JSON", "maximum_object_size")
_ANEW: Final = "Export again: it is made anew from what was landed"


def _mend(lines: Path, copy: Path) -> int:
    """*copy* is *lines* without bytes that are no UTF-8, replaced by U+FFFD. Returns its longest line.

    JSON is UTF-8; a server can still put other bytes into a field that is passed through unread. DuckDB would
    refuse the whole file, for one byte. The landed parts keep what came.
    """
    longest_bytes = 0
    with open(lines, "rb") as source, open(copy, "wb") as target:
        for line in source:
            longest_bytes = max(longest_bytes, target.write(line.decode(errors="replace").encode()))
    return longest_bytes


# --- reading -----------------------------------------------------------------------------------------


def to_arrow(folder: Path, table: str) -> ArrowTable:
    """`Dataset.to_arrow`."""
    if table not in RECORDS:
        raise ConfigError("table", f"there is no table {table!r}; there are {', '.join(RECORDS)}")
    _require_duckdb("to_arrow")
    _require_finished(folder, table)
    with _faults(folder), contextlib.closing(_with_views(folder, [table])) as connection:
        relation: object = connection.table(table)
        try:
            return cast("ArrowTable", getattr(relation, "to_arrow_table")())  # noqa: B009 - has no types
        except ImportError:
            raise ConfigError("to_arrow", "needs pyarrow: pip install 'testpress-async[arrow]'") from None


def sql(folder: Path, query: str) -> DuckDBPyRelation:
    """`Dataset.sql`; every join of `select.VIEWS` whose tables are there is a view, too."""
    _require_duckdb("sql")
    tables = finished_tables(folder)
    if not tables:
        raise DatasetError(str(folder), "has no finished tables", "Export into it, in any format but none")
    return _with_views(folder, tables).sql(query)


def _with_views(folder: Path, tables: Sequence[str]) -> DuckDBPyConnection:
    """A connection in memory with a view for each of *tables*."""
    connection = _connect(":memory:", folder / ".spill", {})
    for table in tables:
        rows = typed(table, str((folder / f"{table}.jsonl").absolute()))
        connection.execute(f"CREATE VIEW {name(table)} AS {rows}")
    _create_joins(connection, tables)
    return connection


# --- DuckDB ------------------------------------------------------------------------------------------


def _require_duckdb(purpose: str) -> None:
    if find_spec("duckdb") is None:
        raise ConfigError(purpose, "needs DuckDB: pip install 'testpress-async[duckdb]'")


def _require_finished(folder: Path, table: str) -> None:
    path = folder / f"{table}.jsonl"
    if not path.is_file():
        raise DatasetError(str(path), "is not there", "Export the table first, in any format but none")


def _connect(path: str, spill: Path, limits: dict[str, str | int]) -> DuckDBPyConnection:
    """A connection that stays off the network, keeps rows in order and is in UTC."""
    import duckdb

    settings = {"temp_directory": str(spill.absolute()), "autoinstall_known_extensions": "false", **limits}
    connection = duckdb.connect(path, config=dict(settings))
    connection.execute("SET TimeZone = 'UTC'")
    bar = connection.execute("SELECT current_setting('enable_progress_bar')").fetchone()
    if bar == (True,):  # in Jupyter without ipywidgets it is off, and cannot be set
        connection.execute("SET enable_progress_bar = false")
    return connection


def _create_joins(connection: DuckDBPyConnection, tables: Iterable[str]) -> None:
    there = frozenset(tables)
    for view, needed, query in VIEWS:
        if needed <= there:
            connection.execute(f"CREATE VIEW {name(view)} AS {query}")


def _comment(connection: DuckDBPyConnection, table: str) -> None:
    """Say in the database what the tables and columns are."""
    what = (RECORDS[table].__doc__ or "").partition("\n\n")[0]
    connection.execute(f"COMMENT ON TABLE {name(table)} IS {quoted(' '.join(what.split()))}")
    for column in columns(table):
        if column.comment:
            place = f"{name(table)}.{name(column.name)}"
            connection.execute(f"COMMENT ON COLUMN {place} IS {quoted(column.comment)}")


@contextlib.contextmanager
def _faults(folder: Path) -> Generator[None]:
    """The system's and DuckDB's errors as ours. DuckDB's own text is told only where it speaks of files and
    memory: elsewhere it may quote a value."""
    import duckdb

    try:
        yield
    except duckdb.InterruptException:
        raise asyncio.CancelledError from None
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        said = str(error).partition("\n")[0]
        raise DatasetError(str(folder), said, "Free some space or memory and export again") from error
    except duckdb.Error as error:
        if _UNREADABLE[0] in str(error):
            raise DatasetError(str(folder), "a finished table has a line that is no JSON", _ANEW) from None
        raise DatasetError(str(folder), f"DuckDB failed with {type(error).__name__}", _ANEW) from error
    except OSError as error:
        place = str(error.filename or folder)
        raise DatasetError(place, error.strerror or type(error).__name__, "") from error
