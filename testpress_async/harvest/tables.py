"""Finished tables: one row per id, the newest reading wins, made from the landed parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from testpress_async.harvest.dataset import Store
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.shard import PARENT_FIELD


class _Identity(msgspec.Struct):
    id: object = None


_identity = msgspec.json.Decoder(_Identity)


def finish_tables(store: Store, tables: Sequence[str]) -> dict[str, int]:
    """Write ``DIR/<table>.jsonl`` for *tables*; returns rows per table."""
    return {table: store.replace(f"{table}.jsonl", _rows(store, table)) for table in tables}


def _rows(store: Store, table: str) -> Iterator[bytes]:
    """One row per id: the last of the readings that still count, in their order."""
    replaced = _replaced(store, table)
    last: dict[object, int] = {}
    for number, (done, row) in enumerate(store.rows(table)):
        if id(done) not in replaced:
            last[_key(table, number, row)] = number
    for number, (done, row) in enumerate(store.rows(table)):
        if last.get(_key(table, number, row)) == number:
            yield with_parent(table, done.shard.parent, row)


def _replaced(store: Store, table: str) -> set[int]:
    """Readings of shards that were read again later and agreed with the server's count: what is missing
    there is gone. (Side tables hold only what their run had not landed yet, so they are never replaced.)"""
    earlier: dict[str, list[ShardDone]] = {}
    replaced: set[int] = set()
    for done in store.readings(table):
        before = earlier.setdefault(done.shard.id, [])
        if done.agrees or table == "attendance":  # two readings of rows without ids would double them
            replaced.update(map(id, before))
        before.append(done)
    return replaced


def _key(table: str, number: int, row: bytes) -> object:
    """What makes a row the same as another. Attendance has no ids, and equal rows are possible."""
    if table == "attendance":
        return number
    found = _identity.decode(row).id
    return row if found is None else found


def with_parent(table: str, parent: int | None, row: bytes) -> bytes:
    """*row* with the id of its parent in front, which the server does not repeat in every row."""
    field = PARENT_FIELD.get(table)
    if field is None or parent is None or f'"{field}":'.encode() in row or not row.startswith(b"{"):
        return row
    rest = row[1:].lstrip()
    return f'{{"{field}":{parent}{"" if rest == b"}" else ","}'.encode() + rest
