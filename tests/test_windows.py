"""Windows of days: cutting, halving and covering lose no day and invent none."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from testpress_async.harvest.shard import Window, covers

BASE = date(2024, 1, 1)
LINE = [BASE + timedelta(days=n) for n in range(-3, 44)]  # beyond every window's ends below
days = st.integers(0, 40).map(lambda n: BASE + timedelta(days=n))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    first, last = draw(st.none() | days), draw(st.none() | days)
    if first and last and first > last:
        first, last = last, first
    return Window(first, last)


def inside(window: Window) -> set[date]:
    return {day for day in LINE if not window.meet(Window(day, day)).is_empty}


@given(windows(), st.lists(windows(), max_size=5))
def test_minus_leaves_exactly_the_other_days(window: Window, others: list[Window]):
    """What is left is the window's days that none of the others has, each once."""
    left = window.minus(others)
    found = [day for each in left for day in inside(each)]
    assert sorted(found) == sorted(inside(window) - set().union(*map(inside, others)))
    assert not any(each.is_empty for each in left)
    assert covers(window, others) == (not found)


@given(windows(), st.lists(days))
def test_cutting_keeps_every_day_once(window: Window, cuts: list[date]):
    """The pieces are the window again, and begin at the days asked for."""
    pieces = window.cut_before(cuts)
    assert sorted(day for each in pieces for day in inside(each)) == sorted(inside(window))
    assert {each.first for each in pieces[1:]} <= set(cuts)
    assert pieces[0].first == window.first
    assert pieces[-1].last == window.last


@given(windows(), st.lists(days))
def test_halving_keeps_every_day_once_and_makes_progress(window: Window, seen: list[date]):
    """Halves are the window again, and smaller, unless it is one day or nothing is known of it."""
    halves = window.halves(seen)
    assert sorted(day for each in halves for day in inside(each)) == sorted(inside(window))
    known = any(day in inside(window) for day in seen)
    if not window.is_one_day and (known or (window.first and window.last)):
        assert len(halves) > 1


@given(windows(), days)
def test_a_record_of_a_neighbouring_day_may_be_in_the_window(window: Window, day: date):
    """A day more on either side is allowed for, as the record's day may be of another zone."""
    near = {day - timedelta(days=1), day, day + timedelta(days=1)}
    assert window.may_hold(day) == bool(near & inside(window))
