"""Ids in little memory: counted as a set would count them."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from testpress_async.harvest.certificate import WholeNumbers, different, packed

near = st.integers(-600, 600)
anywhere = st.integers(-(2**80), 2**80)
ids = near | anywhere | st.text(max_size=2) | st.none()


@given(st.lists(st.lists(near, max_size=20) | st.lists(ids, max_size=8), max_size=6))
def test_different_ids_are_counted(pages: list[list[object]]):
    """Numbers, texts and what has no id, in packed pages or not; each without an id is one of its own."""
    named = {each for page in pages for each in page if each is not None}
    nameless = sum(each is None for page in pages for each in page)
    assert different(map(packed, pages)) == len(named) + nameless


@given(st.lists(near | anywhere), st.lists(near))
def test_numbers_are_a_set(first: list[int], second: list[int]):
    """As many as there are different ones; equal if they are the same, in whatever order they came."""
    one, other = WholeNumbers(), WholeNumbers()
    one.add(first)
    other.add(reversed(second))
    assert len(one) == len(set(first))
    assert (one == other) == (set(first) == set(second))
    one.add(second)
    other.add(first)
    assert one == other


def test_packed_ids_take_eight_bytes():
    """Numbers of 64 bits are packed; a larger one or a text leaves the page as it is."""
    assert isinstance(packed([1, 2**63 - 1, -(2**63)]), array)
    for page in ([1, 2**63], ["a"], [1, None]):
        assert packed(page) is page
