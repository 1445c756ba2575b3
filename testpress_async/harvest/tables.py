"""Finished tables, made from the landed parts: one row per id, the newest reading wins, what is gone is gone.

The bookkeeping is done by SQLite in a temporary file, so that memory does not grow with the tables.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from array import array
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from testpress_async.harvest.dataset import Store
from testpress_async.harvest.interruption import Interruption
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.report import Changes, UnknownField
from testpress_async.harvest.shard import PARENTS, Shard, Window, covers, joined
from testpress_async.models.schema import PARENT_FIELD, known_fields

GONE_FILE = "{}.gone.jsonl"


class _Identity(msgspec.Struct):
    id: object = None


class _Conference(msgspec.Struct):
    id: int


class _UserVideoConference(msgspec.Struct):
    video_conference: _Conference | None = None


_identity = msgspec.json.Decoder(_Identity)
_conferences = msgspec.json.Decoder(_UserVideoConference)

_SCHEMA = """
CREATE TABLE newest (
    tab TEXT, key, place INTEGER, reading INTEGER, hash BLOB, first_run INTEGER, changed_run INTEGER,
    changed_in INTEGER, PRIMARY KEY (tab, key)) WITHOUT ROWID;
CREATE TABLE readings (
    tab TEXT, number INTEGER, parent, run INTEGER, counts INTEGER, dead_run INTEGER,
    PRIMARY KEY (tab, number)) WITHOUT ROWID;
CREATE INDEX of_parents ON readings (tab, parent, number) WHERE parent IS NOT NULL;
CREATE TABLE children (
    tab TEXT, parent INTEGER, run INTEGER, seen_in INTEGER, PRIMARY KEY (tab, parent)) WITHOUT ROWID;
CREATE TABLE wanted (number INTEGER PRIMARY KEY);
CREATE VIEW judged AS SELECT newest.*, dead_run
    FROM newest JOIN readings ON readings.tab = newest.tab AND readings.number = newest.reading;
CREATE VIEW alive AS SELECT * FROM judged WHERE dead_run IS NULL;
CREATE VIEW gone AS SELECT * FROM judged WHERE dead_run IS NOT NULL;
"""
_TAKE = """
INSERT INTO newest VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tab, key) DO UPDATE SET
    changed_run = CASE WHEN hash = excluded.hash THEN changed_run ELSE excluded.changed_run END,
    changed_in = CASE WHEN hash = excluded.hash THEN changed_in ELSE excluded.changed_in END,
    place = excluded.place, reading = excluded.reading, hash = excluded.hash
"""
_REPLACED = """
UPDATE readings SET dead_run = (
    SELECT later.run FROM readings AS later INDEXED BY of_parents
    WHERE later.tab = readings.tab AND later.parent = readings.parent AND later.number > readings.number
        AND later.counts
    ORDER BY later.number LIMIT 1)
WHERE tab = ?
"""  # what `replaced` finds, where each list is that of one parent, and read as a whole
_ORPHANED = """
UPDATE readings SET dead_run = (SELECT gone.dead_run FROM gone WHERE gone.tab = 'attempts' AND key = parent)
WHERE tab = ? AND dead_run IS NULL
"""
_OF_ATTEMPTS = """
SELECT key, ifnull(seen_in >= changed_in, FALSE), seen_in, run
FROM alive LEFT JOIN children ON children.tab = ? AND parent = key
WHERE alive.tab = 'attempts' AND typeof(key) = 'integer' AND reading IN (SELECT number FROM wanted)
ORDER BY place
"""
_CHANGES = """
SELECT count(*) FILTER (WHERE dead_run IS NULL AND first_run = :run),
    count(*) FILTER (WHERE dead_run IS NULL AND first_run < :run AND changed_run = :run),
    count(*) FILTER (WHERE dead_run = :run),
    count(*) FILTER (WHERE dead_run IS NULL AND changed_run < :run)
FROM judged WHERE tab = :tab
"""
_SEE_CHILD = """
INSERT INTO children VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET run = excluded.run, seen_in = excluded.seen_in
"""


_Child: TypeAlias = tuple[int, bool, int | None, int | None]
"""A parent, whether it is fresh, the number of the reading that last read it, and the run of that."""


class Parents(msgspec.Struct, frozen=True):
    """Parents that were asked for.

    Attributes:
        wanted: Ids of those to be read.
        fresh: How many have not changed since they were read.
        read_now: Of these, the readings of this very run: their numbers, in order.
    """

    wanted: array[int]
    fresh: int
    read_now: array[int]


class Finished(msgspec.Struct, frozen=True):
    """A finished table: what changed in it, and what it holds that no column is for."""

    changes: Changes
    unknown_fields: tuple[UnknownField, ...]


def finish_tables(
    store: Store, tables: Sequence[str], interruption: Interruption | None = None
) -> dict[str, Finished]:
    """Write ``DIR/<table>.jsonl`` for *tables*."""
    with opened(store, interruption) as found:
        return {table: found.finish(table) for table in tables}


@contextlib.contextmanager
def opened(store: Store, interruption: Interruption | None = None) -> Generator[Tables]:
    """The landed tables of *store*. Blocks on the disk: use it in a thread."""
    with contextlib.closing(sqlite3.connect("", check_same_thread=False, isolation_level=None)) as database:
        database.executescript(_SCHEMA)
        yield Tables(store, database, interruption or Interruption())


class Tables:
    """What the landed parts come to, table by table."""

    def __init__(self, store: Store, database: sqlite3.Connection, interruption: Interruption) -> None:
        self._store, self._db, self._interruption = store, database, interruption
        self._folded: set[str] = set()

    def finish(self, table: str) -> Finished:
        """Write the finished table, and beside it the ids that are gone."""
        self._interruption.begins(f"{table}.jsonl")
        self.fold(table)
        watch = FieldWatch(table)
        self._store.replace(f"{table}.jsonl", watch.over(self._alive(table)))
        dead = self._gone(table)
        if dead:
            lines = (
                msgspec.json.encode({"id": key, "run": run})
                for key, run in dead.items()
                if isinstance(key, int)
            )
            self._store.replace(GONE_FILE.format(table), lines)
        return Finished(self._changes(table), watch.found)

    def fold(self, table: str) -> None:
        """Find the newest reading of each row, and which readings do not count any more. Once a table."""
        if table in self._folded:
            return
        self._folded.add(table)
        if PARENTS.get(table) == "attempts":
            self.fold("attempts")
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?, NULL)",
            (
                (table, number, done.shard.parent, done.run, _counts(done))
                for number, done in self._store.sources(table)
            ),
        )
        if table in PARENTS:
            self._db.execute(_REPLACED, (table,))
            if PARENTS[table] == "attempts":
                self._db.execute(_ORPHANED, (table,))
        else:
            dead = self._dead(table)
            self._db.executemany(
                "UPDATE readings SET dead_run = ? WHERE tab = ? AND number = ?",
                ((run, table, number) for number, run in dead.items()),
            )
        self._db.executemany(
            _TAKE,
            (
                (table, key, place, number, _hash(row), done.run, done.run, number)
                for place, (number, done, row, key) in enumerate(_keyed(table, self._rows(table)))
            ),
        )
        self._db.execute("COMMIT")

    def parents(self, table: str, asked: Sequence[Shard], run: int) -> Parents:
        """Parents of *table* that were asked for.

        Answers are read again when their attempt changed; attendance, which changes without a sign, always.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            _SEE_CHILD,
            ((table, done.shard.parent, done.run, number) for number, done in self._store.readings(table)),
        )
        self._db.execute("COMMIT")
        found = (
            self._of_attempts(table, asked)
            if PARENTS[table] == "attempts"
            else self._of_conferences(asked, run)
        )
        wanted, read_now, fresh = array("q"), array("q"), 0
        for parent, is_fresh, seen_in, seen_run in found:
            if not is_fresh:
                wanted.append(parent)
                continue
            fresh += 1
            if seen_run == run and seen_in is not None:
                read_now.append(seen_in)
        return Parents(wanted, fresh, array("q", sorted(read_now)))

    # --- inside ----------------------------------------------------------------------------------------

    def _of_attempts(self, table: str, asked: Sequence[Shard]) -> Iterable[_Child]:
        """The attempts in the reads asked for.

        In the order of the readings: one run can read an attempt, then its answers and, once it has been
        interrupted, the attempt again.
        """
        self.fold("attempts")
        windows = joined(shard.window for shard in asked)
        filters = {shard.filters for shard in asked}
        self._db.execute("DELETE FROM wanted")
        self._db.executemany(
            "INSERT INTO wanted VALUES (?)",
            (
                (number,)
                for number, done in self._store.sources("attempts")
                if done.shard.filters in filters
                and any(not done.shard.window.meet(window).is_empty for window in windows)
            ),
        )
        return self._db.execute(_OF_ATTEMPTS, (table,))

    def _of_conferences(self, asked: Sequence[Shard], run: int) -> Iterator[_Child]:
        found = self._db.execute("SELECT parent, seen_in, run FROM children WHERE tab = 'attendance'")
        read = {parent: (seen_in, seen_run) for parent, seen_in, seen_run in found}
        for parent in self._conferences(asked):
            seen_in, seen_run = read.get(parent, (None, None))
            yield parent, seen_run == run, seen_in, seen_run

    def _conferences(self, asked: Sequence[Shard]) -> Iterator[int]:
        """Conferences in all readings that can hold what was asked for, however it was cut into shards then.

        What is sent along is landed once, so a later reading need not have landed it again.
        """
        wanted = frozenset(
            done.shard.id
            for _, done in self._store.readings("content_attempts")
            if any(_may_share(done.shard, shard) for shard in asked)
        )
        seen: set[int] = set()
        for _, row in self._store.rows("user_video_conferences", wanted):
            found = conference_of(row)
            if found is not None and found not in seen:
                seen.add(found)
                yield found

    def _rows(self, table: str) -> Iterator[tuple[int, ShardDone, bytes]]:
        return self._interruption.each(self._store.landed(table))

    def _alive(self, table: str) -> Iterator[bytes]:
        places = self._db.execute("SELECT place FROM alive WHERE tab = ? ORDER BY place", (table,))
        wanted: int = next(places, (-1,))[0]
        for place, (done, row) in enumerate(self._store.rows(table)):
            if place == wanted:
                wanted = next(places, (-1,))[0]
                yield with_parent(table, done.shard.parent, row)

    def _gone(self, table: str) -> dict[object, int]:
        return dict(self._db.execute("SELECT key, dead_run FROM gone WHERE tab = ? ORDER BY key", (table,)))

    def _changes(self, table: str) -> Changes:
        found = self._db.execute(_CHANGES, {"tab": table, "run": self._store.run}).fetchone()
        return Changes(new=found[0], changed=found[1], gone=found[2], unchanged=found[3])

    def _dead(self, table: str) -> dict[int, int]:
        """Number of each reading of a list that does not count any more → the run since which."""
        numbers, readings = [*zip(*self._store.readings(table), strict=True)] or ((), ())
        if not readings:
            return {}  # side tables hold only what their run had not landed yet, so they are never replaced
        dead = replaced(readings)
        for run, root in self._store.wholes(table):
            for place, done in enumerate(readings):
                if done.run < run and _is_within(done.shard, root):
                    dead.setdefault(place, run)
        _keep_states_together(readings, dead)
        return {numbers[place]: run for place, run in dead.items()}


def replaced(readings: Sequence[ShardDone]) -> dict[int, int]:
    """Number of each reading all of whose days were read again later, and perfectly → the run that did it.

    What such a reading brought and the later ones did not is gone. A read with fewer filters, or with more
    values for one, reads the same again, too.
    """
    lists: dict[object, list[tuple[int, ShardDone]]] = {}
    for number, done in enumerate(readings):
        lists.setdefault((done.shard.table, done.shard.parent), []).append((number, done))
    dead: dict[int, int] = {}
    for members in lists.values():
        if len(members) == 1:
            continue
        left: dict[int, list[Window]] = {}
        for run, group in groupby(members, key=lambda member: member[1].run):
            again = list(group)
            # A reading within a run can only replace what came before the run, or the very same read.
            _take(left, readings, [done for _, done in again], dead)
            latest: dict[Shard, list[int]] = {}
            for number, done in again:
                same = latest.setdefault(done.shard, [])
                if _counts(done):
                    for earlier in same:
                        dead[earlier] = run
                        del left[earlier]
                    same.clear()
                same.append(number)
                left[number] = [done.shard.window]
    return dead


def _take(
    left: dict[int, list[Window]],
    readings: Sequence[ShardDone],
    again: Sequence[ShardDone],
    dead: dict[int, int],
) -> None:
    """Take the days of *again*, readings of one run, from what is *left* of earlier ones."""
    fresh: dict[object, list[Window]] = {}
    for number in list(left):
        shard = readings[number].shard
        if shard.family not in fresh:
            fresh[shard.family] = _read_again(shard, again)
        left[number] = [rest for window in left[number] for rest in window.minus(fresh[shard.family])]
        if not left[number]:
            dead[number] = again[0].run
            del left[number]


def _read_again(shard: Shard, again: Sequence[ShardDone]) -> list[Window]:
    """Days of which *again*, readings of one run, hold all that *shard* asks for."""
    wider = [done for done in again if _is_within(shard, done.shard)]
    days = joined(done.shard.window for done in wider if _counts(done) and not done.shard.undated)
    if not shard.undated:
        return days
    undated = [done for done in wider if done.shard.undated]
    if undated:
        return [Window()] if any(map(_counts, undated)) else []
    return days if covers(Window(), days) else []  # whoever reads all days looks whether some have none


def _keep_states_together(readings: Sequence[ShardDone], dead: dict[int, int]) -> None:
    """Take back from *dead* what was read by state, unless all its states were read again.

    A content attempt that left its state since then is in another one, and may not have been asked for there.
    """
    groups: dict[object, list[int]] = {}
    for number, done in enumerate(readings):
        filters = dict(done.shard.filters)
        if done.shard.table == "content_attempts" and filters.pop("state", None) is not None:
            groups.setdefault((done.run, tuple(filters.items())), []).append(number)
    for members in groups.values():
        runs = [dead.pop(number, None) for number in members]
        if None not in runs:
            dead.update(dict.fromkeys(members, max(run for run in runs if run is not None)))


def _is_within(shard: Shard, other: Shard) -> bool:
    """Whether *other* asks for everything that *shard* asks for, days aside."""
    filters = dict(shard.filters)
    return all(name in filters and _values(filters[name]) <= _values(text) for name, text in other.filters)


def _may_share(shard: Shard, other: Shard) -> bool:
    """Whether a record can be in both, days aside."""
    filters = dict(shard.filters)
    return all(name not in filters or _values(filters[name]) & _values(text) for name, text in other.filters)


def _values(text: str) -> set[str]:
    return set(text.split(","))


def _counts(done: ShardDone) -> bool:
    return done.tells_gone or done.shard.table == "attendance"  # two readings of rows without ids double them


def _keyed(
    table: str, rows: Iterable[tuple[int, ShardDone, bytes]]
) -> Iterator[tuple[int, ShardDone, bytes, object]]:
    """*rows*, each with what makes it the same as another."""
    for number, reading in groupby(rows, key=itemgetter(0)):
        seen = Counter[bytes]()
        for _, done, row in reading:
            if table != "attendance":
                yield number, done, row, _key(row)
                continue
            # It has no ids, and equal rows are possible: the second of a reading is that of the next one.
            seen[_hash(row)] += 1
            place = b"%d/%d/" % (done.shard.parent or 0, seen[_hash(row)])
            yield number, done, row, hashlib.blake2b(place + row, digest_size=16).digest()


def _key(row: bytes) -> object:
    found = _identity.decode(row).id
    if isinstance(found, int) and -(2**63) <= found < 2**63:
        return found
    return hashlib.blake2b(row if found is None else repr(found).encode(), digest_size=16).digest()


def _hash(row: bytes) -> bytes:
    return hashlib.blake2b(row, digest_size=12).digest()


def conference_of(row: bytes) -> int | None:
    """The conference that a row of `user_video_conferences` is about."""
    try:
        found = _conferences.decode(row).video_conference
    except msgspec.DecodeError:
        return None
    return None if found is None else found.id


def with_parent(table: str, parent: int | None, row: bytes) -> bytes:
    """*row* with the id of its parent in front, which the server does not repeat in every row."""
    field = PARENT_FIELD.get(table)
    if field is None or parent is None or f'"{field}":'.encode() in row or not row.startswith(b"{"):
        return row
    rest = row[1:].lstrip()
    return f'{{"{field}":{parent}{"" if rest == b"}" else ","}'.encode() + rest


# --- what the server sends and this version does not know ----------------------------------------------

MOST_FIELDS: Final = 200
"""Of a table that are told: more is a server that puts values where names belong."""

_LONGEST_NAME: Final = 200
_fields_of: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_whole: Final = msgspec.json.Decoder(int)


class FieldWatch:
    """Looks at the rows of *table*, a JSON object each, that pass by.

    Values are not decoded: about two microseconds a row. What is no object is passed over.
    """

    def __init__(self, table: str) -> None:
        self._table, self._known = table, known_fields(table)
        self._first_ids, self._records = dict[str, int | None](), Counter[str]()

    def over(self, rows: Iterable[bytes]) -> Iterator[bytes]:
        """*rows*, looked at."""
        for row in rows:
            self._note(row)
            yield row

    @property
    def found(self) -> tuple[UnknownField, ...]:
        """Fields that *table* has no column for, in the order they appeared; 200 at most."""
        return tuple(
            UnknownField(table=self._table, field=field, first_id=first_id, records=self._records[field])
            for field, first_id in self._first_ids.items()
        )

    def _note(self, row: bytes) -> None:
        try:
            fields = _fields_of.decode(row)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if self._known.issuperset(fields):
            return
        for field in fields:
            if field in self._known:
                continue
            name = field[:_LONGEST_NAME]
            if name not in self._first_ids:
                if len(self._first_ids) == MOST_FIELDS:
                    continue
                self._first_ids[name] = _id_of(self._table, fields)
            self._records[name] += 1


def _id_of(table: str, fields: dict[str, msgspec.Raw]) -> int | None:
    raw = fields.get("id", fields.get(PARENT_FIELD.get(table, "")))
    if raw is None:
        return None
    try:
        return _whole.decode(raw)
    except msgspec.DecodeError:
        return None
