"""Finished tables: one row per id, the newest reading wins, made from the landed parts."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from testpress_async.harvest.dataset import Store
from testpress_async.harvest.shard import PARENT_FIELD, TABLES


class _Identity(msgspec.Struct):
    id: object = None


_identity = msgspec.json.Decoder(_Identity)


def finish_tables(store: Store) -> dict[str, int]:
    """Write ``DIR/<table>.jsonl`` for every table that has rows; returns rows per table."""
    finished: dict[str, int] = {}
    for table in TABLES:
        if (store.path / table).is_dir():
            lines = _latest_reading(store, table) if table == "attendance" else _latest_rows(store, table)
            finished[table] = store.replace(f"{table}.jsonl", lines)
    return finished


def _latest_rows(store: Store, table: str) -> Iterator[bytes]:
    """The last row of each id, in the order of these last rows."""
    last = {_key(row): number for number, (_, row) in enumerate(store.rows(table))}
    for number, (done, row) in enumerate(store.rows(table)):
        if last[_key(row)] == number:
            yield with_parent(table, done.shard.parent, row)


def _latest_reading(store: Store, table: str) -> Iterator[bytes]:
    """All rows of the last reading of each parent: attendance has no ids, and equal rows are possible."""
    last: dict[int | None, int] = {}
    for done, _ in store.rows(table):
        last[done.shard.parent] = id(done)
    for done, row in store.rows(table):
        if last[done.shard.parent] == id(done):
            yield with_parent(table, done.shard.parent, row)


def _key(row: bytes) -> object:
    found = _identity.decode(row).id
    return row if found is None else found


def with_parent(table: str, parent: int | None, row: bytes) -> bytes:
    """*row* with the id of its parent in front, which the server does not repeat in every row."""
    field = PARENT_FIELD.get(table)
    if field is None or parent is None or f'"{field}":'.encode() in row:
        return row
    rest = row[1:].lstrip()
    return f'{{"{field}":{parent}{"" if rest == b"}" else ","}'.encode() + rest
