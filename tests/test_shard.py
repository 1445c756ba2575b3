"""Shards: the same read has the same name everywhere, and tables bring what they depend on."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import ConfigError
from testpress_async.harvest.shard import PARENTS, READABLE, SIDE_TABLES, TABLES, Shard, readable_tables

shards = st.builds(
    Shard,
    table=st.sampled_from(READABLE),
    filters=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=3).map(tuple),
    parent=st.none() | st.integers(0, 2**63 - 1),
)


@pytest.mark.parametrize(
    ("shard", "name"),
    [
        (Shard(table="attempts"), "22c1e5938a53d609"),
        (Shard(table="user_answers", parent=2147483650), "4462995b9a7c3337"),
        (Shard(table="attempts", filters=(("exams", "5,6"), ("state", "1"))), "96ee42e0a3536d28"),
    ],
)
def test_ids_never_change(shard: Shard, name: str):
    """Ids are written into datasets: a release that changes them could not resume older exports."""
    assert shard.id == name


@given(shards)
def test_shards_survive_json(shard: Shard):
    """A shard read back from JSON is equal and has the same id."""
    again = msgspec.json.decode(msgspec.json.encode(shard), type=Shard)
    assert again == shard
    assert again.id == shard.id


@given(shards, shards)
def test_different_reads_have_different_ids(one: Shard, other: Shard):
    """Two shards share an id only if they are the same read."""
    assert (one.id == other.id) == (one == other)


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        (("exams",), ("exams",)),
        (("user_answers",), ("attempts", "user_answers")),
        (("exam_questions",), ("attempts", "user_answers")),
        (("attendance", "exams"), ("exams", "content_attempts", "attendance")),
        (("users", "courses"), ("content_attempts",)),
        (("attempt_details", "attempts", "attempts"), ("attempts", "attempt_details")),
        ((), ()),
    ],
)
def test_tables_bring_what_they_depend_on(asked: tuple[str, ...], read: tuple[str, ...]):
    """Parents and the tables that bring side tables are added, each once."""
    assert readable_tables(asked) == read


@given(st.lists(st.sampled_from(TABLES)).map(tuple))
def test_parents_are_read_before_their_children(asked: tuple[str, ...]):
    """Whatever is asked for, a table comes after its parent, and every asked table is covered."""
    read = readable_tables(asked)
    for table in set(read) & set(PARENTS):
        assert read.index(PARENTS[table]) < read.index(table)
    covered = {*read, *(side for table in read for side in SIDE_TABLES.get(table, ()))}
    assert covered >= set(asked)


def test_an_unknown_table_is_refused_by_name():
    """The error names the unknown table and those there are."""
    with pytest.raises(ConfigError, match=r"tables: there is no table 'attemps'; there are exams, attempts"):
        readable_tables(("exams", "attemps"))
