"""Sweeps over lists that change between the answers: what is called perfect is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from testpress_async.harvest.certificate import Sweep

SIZE = 3


@dataclass
class Listed:
    """A list of ids in a fixed order, served in pages of three; `between` runs before every answer."""

    ids: list[int]
    between: Callable[[Listed, int], None] = lambda listed, answer: None
    answers: int = 0
    asked: list[int] = field(default_factory=list)
    states: list[frozenset[int]] = field(default_factory=list)

    def sweep(self, sweep: Sweep, *, cap: int = 300) -> list[int]:
        """Read it to the end; the ids of the pages that count, those that moved only once."""
        found: dict[int, list[int]] = {}
        while (page := sweep.wanted()) is not None:
            self.between(self, self.answers)
            self.states.append(frozenset(self.ids))
            self.answers += 1
            self.asked.append(page)
            assert self.answers < cap
            pages = max(1, -(-len(self.ids) // SIZE))
            if page > pages:
                sweep.missing(page)
                continue
            ids = self.ids[(page - 1) * SIZE : page * SIZE]
            if sweep.took(page, len(self.ids), ids, size=SIZE, is_last=page == pages):
                found[page] = ids
        came = [each for page in sweep.pages for each in found.get(page, ())]
        return list(dict.fromkeys(came)) if sweep.thinned else came


@given(st.integers(0, 40), st.integers(1, 16), st.booleans())
def test_a_still_list_is_read_once(records: int, first_guess: int, closing: bool):
    """Without changes a read is perfect, at the cost of its pages and of a wrong guess."""
    listed = Listed(list(range(records)))
    sweep = Sweep(first_guess=first_guess, closing_probe=closing)
    assert listed.sweep(sweep) == list(range(records))
    assert sweep.perfect
    pages = max(1, -(-records // SIZE))
    assert listed.answers <= pages + closing + (first_guess > pages)


def test_pages_are_asked_for_from_last_to_first():
    """After the first answer, which tells how many there are, the last page comes first."""
    listed = Listed(list(range(12)))
    listed.sweep(Sweep())
    assert listed.asked == [1, 4, 3, 2]


def test_a_change_begins_the_read_again():
    """When the count changes nothing that came before it is believed."""

    def delete(listed: Listed, answer: int) -> None:
        if answer == 2:
            listed.ids.remove(0)

    listed = Listed(list(range(12)), delete)
    sweep = Sweep()
    assert listed.sweep(sweep) == list(range(1, 12))
    assert sweep.perfect
    assert sweep.disturbances == 1
    assert listed.asked == [1, 4, 3, 4, 2, 1]


def test_where_ids_rise_a_deletion_costs_only_what_came_before_its_turn():
    """Records move towards pages still to be read; page 1, which came first, is read again in its turn."""

    def delete(listed: Listed, answer: int) -> None:
        if answer == 2:
            listed.ids.remove(0)

    listed = Listed(list(range(12)), delete)
    sweep = Sweep(newest_id=lambda: 11)
    assert listed.sweep(sweep) == list(range(1, 12))
    assert sweep.perfect
    assert sweep.disturbances == 0
    assert listed.asked == [1, 4, 3, 2, 1]


Change = tuple[str, int]
changes = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["delete", "insert"]), st.integers(0, 60)))


def scripted(script: list[tuple[int, str, int]]) -> Callable[[Listed, int], None]:
    fresh = iter(range(1000, 2000))

    def between(listed: Listed, answer: int) -> None:
        for when, kind, place in script:
            if when != answer:
                continue
            if kind == "insert":
                listed.ids.insert(place % (len(listed.ids) + 1), next(fresh))
            elif listed.ids:
                listed.ids.pop(place % len(listed.ids))

    return between


def cancels(script: list[tuple[int, str, int]]) -> bool:
    """Whether an insertion and a deletion fall between the same two answers."""
    kinds: dict[int, set[str]] = {}
    for when, kind, _ in script:
        kinds.setdefault(when, set()).add(kind)
    return any(len(each) > 1 for each in kinds.values())


@given(st.integers(0, 30), changes, st.integers(1, 12), st.booleans())
def test_a_perfect_read_is_the_list_as_it_was(
    records: int, script: list[tuple[int, str, int]], first_guess: int, closing: bool
):
    """Unless an insertion and a deletion cancel between two answers, a perfect read is exactly some state."""
    listed = Listed(list(range(records)), scripted(script))
    sweep = Sweep(first_guess=first_guess, closing_probe=closing, patience=40)
    found = listed.sweep(sweep)
    assert len(found) == len(set(found)) or not sweep.perfect
    if sweep.perfect and not cancels(script):
        assert frozenset(found) in listed.states
    if not cancels(script):
        assert sweep.perfect  # the script ends after thirty answers, the patience after forty changes


@given(st.integers(0, 30), changes, st.booleans())
def test_where_ids_rise_a_perfect_read_has_all_that_stayed(
    records: int, script: list[tuple[int, str, int]], closing: bool
):
    """Even if insertions and deletions cancel: the new record is seen, or nothing was lost by it.

    Unless the new record itself is deleted again before its page comes.
    """
    listed = Listed(list(range(records)), scripted(script))
    known = records - 1

    def newest() -> int:
        return known

    sweep = Sweep(closing_probe=closing, patience=60, newest_id=newest)
    before = frozenset(listed.ids)
    found: dict[int, list[int]] = {}
    while (page := sweep.wanted()) is not None and listed.answers < 300:
        listed.between(listed, listed.answers)
        listed.answers += 1
        pages = max(1, -(-len(listed.ids) // SIZE))
        if page > pages:
            sweep.missing(page)
            continue
        ids = listed.ids[(page - 1) * SIZE : page * SIZE]
        known = max([known, *ids])
        if sweep.took(page, len(listed.ids), ids, size=SIZE, is_last=page == pages):
            found[page] = ids
    came = {each for page in sweep.pages for each in found.get(page, ())}
    new_ones_stayed = all(each in listed.ids for each in range(1000, 1000 + inserted(script)))
    if sweep.perfect and new_ones_stayed:
        assert before & frozenset(listed.ids) <= came


def inserted(script: list[tuple[int, str, int]]) -> int:
    return sum(kind == "insert" for _, kind, _ in script)


@given(st.integers(1, 30), changes)
def test_reading_once_never_misses_what_stayed(records: int, script: list[tuple[int, str, int]]):
    """With deletions anywhere and insertions at the end only, one pass finds all that stayed."""

    fresh = iter(range(1000, 2000))

    def between(listed: Listed, answer: int) -> None:
        for when, kind, place in script:
            if when == answer and kind == "insert":
                listed.ids.append(next(fresh))
            elif when == answer and listed.ids:
                listed.ids.pop(place % len(listed.ids))

    listed = Listed(list(range(records)), between)
    sweep = Sweep(first_guess=-(-records // SIZE), once=True, patience=100)
    assert frozenset(listed.sweep(sweep)) >= frozenset.intersection(*listed.states)


def test_a_list_that_never_rests_is_given_up():
    """Patience is an end: a list that changes at every answer is not called perfect."""
    fresh = iter(range(100, 1000))
    listed = Listed(list(range(12)), lambda listed, _: listed.ids.append(next(fresh)))
    sweep = Sweep(first_guess=4, patience=3)
    listed.sweep(sweep)
    assert not sweep.perfect
    assert sweep.disturbances == 4


def test_the_closing_probe_notices_an_insertion_after_the_last_page():
    """An insertion between the last answer and the probe makes it read again."""

    def insert(listed: Listed, answer: int) -> None:
        if answer == 2:
            listed.ids.insert(0, 99)

    listed = Listed(list(range(6)), insert)
    sweep = Sweep(first_guess=2, closing_probe=True)
    assert listed.sweep(sweep) == [99, *range(6)]
    assert sweep.perfect
    assert sweep.disturbances == 1


def took(sweep: Sweep, page: int, count: int, ids: list[int | None], *, last: bool) -> None:
    sweep.took(page, count, ids, size=SIZE, is_last=last)


def test_what_came_meanwhile_may_be_made_known_before_the_read_begins_again():
    """`grown` says so, and nothing of the answer that told it is kept: the next read is perfect at once."""
    newest = 11

    def insert(listed: Listed, answer: int) -> None:
        nonlocal newest
        if answer == 2:
            listed.ids.insert(5, 12)  # with a date of long ago
        if sweep.grown:
            newest = 12  # whoever reads has looked

    listed = Listed(list(range(12)), insert)
    sweep = Sweep(newest_id=lambda: newest)
    assert sorted(listed.sweep(sweep)) == list(range(13))
    assert (sweep.perfect, sweep.disturbances, sweep.grown) == (True, 1, False)
    assert listed.asked == [1, 4, 3, 5, 4, 3, 2, 1]


def test_a_repeated_record_is_no_proof():
    """As many records as counted, but one of them twice: the order was not a total one."""
    sweep = Sweep(first_guess=2)
    took(sweep, 2, 5, [3, 4], last=True)
    took(sweep, 1, 5, [1, 2, 3], last=False)
    assert not sweep.perfect
    assert sweep.wanted() == 2


def test_answers_that_contradict_themselves_are_not_accepted():
    """A last page before the count's last one, or a next page after it, is read again until patience ends."""
    for page, last in ((1, True), (2, False)):
        sweep = Sweep(first_guess=page, patience=1)
        took(sweep, page, 5, [1, 2, 3], last=last)
        took(sweep, page, 5, [1, 2, 3], last=last)
        assert sweep.wanted() is None
        assert not sweep.perfect


def test_records_without_ids_are_counted():
    """Where records have no id, as many as the server counts is all that can be asked."""
    sweep = Sweep()
    took(sweep, 1, 3, [None, None, None], last=True)
    assert sweep.perfect


def test_the_size_of_full_pages_is_believed_more_than_what_the_server_claims():
    """A server that claims ten a page and serves three is read to the end."""
    sweep = Sweep()
    sweep.took(1, 5, [1, 2, 3], size=10, is_last=False)
    assert sweep.wanted() == 2
    sweep.took(2, 5, [4, 5], size=10, is_last=True)
    assert sweep.perfect
