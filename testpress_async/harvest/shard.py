"""A shard: a small, JSON-able description of a read, named by the hash of its canonical JSON.

Streaming reads one shard, concurrency runs many, resuming skips those that are durably stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from testpress_async.errors import ConfigError

SIDE_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "user_answers": ("exam_questions",),
    "content_attempts": (
        "user_videos",
        "user_exams",
        "courses",
        "chapter_contents",
        "user_video_conferences",
        "user_live_streams",
        "users",
    ),
}
"""What the server sends along, by the table that brings it."""

PARENTS: Final[Mapping[str, str]] = {
    "attempt_details": "attempts",
    "user_answers": "attempts",
    "attendance": "content_attempts",
}
"""Tables read once per parent, and the table that knows the parents."""

PARENT_FIELD: Final[Mapping[str, str]] = {"user_answers": "attempt_id", "attendance": "video_conference_id"}
"""Field of a finished table that says which parent a row belongs to; the server's rows do not."""

ROOTS: Final = ("exams", "attempts", "content_attempts")
READABLE: Final = (*ROOTS, *PARENTS)
TABLES: Final = (*READABLE, *(side for sides in SIDE_TABLES.values() for side in sides))


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One read: a table with filters, or a table of one parent.

    Attributes:
        table: One of `READABLE`; its side tables come along.
        filters: Keyword filters of the resource's `list`, as sorted pairs of texts.
        parent: Id of the attempt or conference; None for tables that are read as a whole.
    """

    table: str
    filters: tuple[tuple[str, str], ...] = ()
    parent: int | None = None

    @property
    def id(self) -> str:
        """16 hex digits; the same read has the same id everywhere."""
        return hashlib.blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=8).hexdigest()


def readable_tables(tables: tuple[str, ...]) -> tuple[str, ...]:
    """The tables to read so that *tables* are complete, parents first.

    Raises:
        ConfigError: A name is unknown.
    """
    wanted: set[str] = set()
    for table in tables:
        if table not in TABLES:
            raise ConfigError("tables", f"there is no table {table!r}; there are {', '.join(TABLES)}")
        source = next((name for name, sides in SIDE_TABLES.items() if table in sides), table)
        wanted.add(source)
        if source in PARENTS:
            wanted.add(PARENTS[source])
    return tuple(table for table in READABLE if table in wanted)
