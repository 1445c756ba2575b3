"""Filtered, ordered lists over facts that are computed, not stored, and the changes laid over them.

A list is its *base* – indexes in order, as the seed has them, often no more than a range – minus the places
`gone` (deleted or changed), with `extras` (new or changed) woven in between. A change costs a binary search
in each list in use, however large the table is; an untouched table is read straight from its base.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeAlias, TypeVar

from testpress_async.sandbox.data import NEVER


class Facts(Protocol):
    """What every table's facts have: the time its date filters look at, or NEVER."""

    @property
    def at_us(self) -> int: ...


_LISTS = 256
_KEPT_FACTS = 16_384
_STORED_INDEXES = 8_000_000  # 64 MB

F = TypeVar("F", bound=Facts)
Key: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A filter and an order.

    Attributes:
        where: Field of the facts and the values it may have, sorted by field.
        since_us, until_us: `at_us` lies in [since_us, until_us); None leaves the side open.
        order: Field the list is ordered by, "" for the id.
        descending: Whether the list is read backwards.
    """

    where: tuple[tuple[str, frozenset[int]], ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    order: str = ""
    descending: bool = False

    @property
    def is_dated(self) -> bool:
        """Whether only records with a date can match."""
        return self.since_us is not None or self.until_us is not None

    def matches(self, facts: Facts) -> bool:
        if self.is_dated and not self._covers(facts.at_us):
            return False
        return all(getattr(facts, field) in values for field, values in self.where)

    def key(self, index: int, facts: Facts) -> Key:
        """Where a record stands in the list, read upwards."""
        return (getattr(facts, self.order), index) if self.order else (index,)

    def _covers(self, at_us: int) -> bool:
        after = self.since_us is None or self.since_us <= at_us
        return after and at_us < (NEVER if self.until_us is None else self.until_us)


class Woven:
    """One list: base, gone and extras."""

    def __init__(self, base: Sequence[int], key: Callable[[int], Key]) -> None:
        self._base = base
        self._key = key  # of a base index, as the seed has it
        self._gone: list[int] = []
        self._extras: list[tuple[Key, int, int]] = []  # key, place in the base before which it stands, index
        self._extra_of: dict[int, tuple[Key, int, int]] = {}
        self.seen_changes = 0

    @property
    def stored(self) -> int:
        """How many indexes the base holds in memory."""
        return len(self._base) if isinstance(self._base, array) else 0

    def __len__(self) -> int:
        return len(self._base) - len(self._gone) + len(self._extras)

    def take_out(self, index: int, *, is_base: bool) -> None:
        """Remove a record, wherever it stands."""
        extra = self._extra_of.pop(index, None)
        if extra is not None:
            del self._extras[bisect_left(self._extras, extra)]
        elif is_base:
            place = bisect_left(self._base, self._key(index), key=self._key)
            if place < len(self._base) and self._base[place] == index and not self._is_gone(place):
                insort(self._gone, place)

    def put_in(self, index: int, key: Key) -> None:
        """Insert a record that is not in the list."""
        extra = (key, bisect_left(self._base, key, key=self._key), index)
        insort(self._extras, extra)
        self._extra_of[index] = extra

    def slice(self, start: int, stop: int) -> list[int]:
        """The indexes *start* to *stop* of the list."""
        stop = min(stop, len(self))
        if start >= stop:
            return []
        if not self._gone and not self._extras:
            return [self._base[place] for place in range(start, stop)]
        return [index for index, _ in zip(self._walk(start), range(stop - start), strict=False)]

    def _walk(self, start: int) -> Iterator[int]:
        """Everything from the place *start* of the list on."""
        extras, gone = self._extras, self._gone
        passed = bisect_left(range(len(extras)), start, key=self._place_of_extra)
        place = self._alive_place(start - passed)
        skip = bisect_left(gone, place)
        while True:
            while passed < len(extras) and extras[passed][1] <= place:
                yield extras[passed][2]
                passed += 1
            if skip < len(gone) and gone[skip] == place:
                skip += 1
            elif place < len(self._base):
                yield self._base[place]
            else:
                return
            place += 1

    def _place_of_extra(self, number: int) -> int:
        before = self._extras[number][1]
        return before - bisect_left(self._gone, before) + number

    def _alive_place(self, rank: int) -> int:
        """Place in the base of its *rank*-th record that is not gone, or the base's end."""
        gone = self._gone
        skipped = bisect_right(range(len(gone)), rank, key=lambda number: gone[number] - number)
        return rank + skipped

    def _is_gone(self, place: int) -> bool:
        at = bisect_left(self._gone, place)
        return at < len(self._gone) and self._gone[at] == place


class Table(Generic[F]):
    """The records of one kind: facts by index, filtered lists of them, and changes.

    Args:
        count: How many records the seed has.
        facts: Their facts by index; called beyond *count* for records made later.
        by_date: Indexes in the order of `at_us`, undated ones last, and how many are dated; None if
            the index says nothing about it.
        posted: Fields by which long lists are asked for; indexed on first use.
    """

    def __init__(
        self,
        count: int,
        facts: Callable[[int], F],
        *,
        by_date: tuple[Sequence[int], int] | None = None,
        posted: Sequence[str] = (),
    ) -> None:
        self.base_count = count
        self.next_index = count
        self._base_facts = lru_cache(_KEPT_FACTS)(facts)
        self._by_date = by_date
        self._posted = posted
        self._changed: dict[int, F | None] = {}
        self._changes: list[int] = []
        self._postings: dict[str, dict[int, array[int]]] = {}
        self._lists: OrderedDict[Query, Woven] = OrderedDict()

    @property
    def version(self) -> int:
        """Rises with every change."""
        return len(self._changes)

    def facts(self, index: int) -> F | None:
        """Facts of a record as it is now; None if there is none."""
        if index in self._changed:
            return self._changed[index]
        return self._base_facts(index) if 0 <= index < self.base_count else None

    def existing(self, index: int) -> F:
        """Facts of a record that the caller knows to exist."""
        facts = self.facts(index)
        assert facts is not None  # noqa: S101 - callers looked
        return facts

    def seeded(self, index: int) -> F:
        """Facts of a record as the seed has them, also of one that is not made yet."""
        return self._base_facts(index)

    def set(self, index: int, facts: F | None) -> None:
        """Make, change or (None) delete a record."""
        self.next_index = max(self.next_index, index + 1)
        self._changed[index] = facts
        self._changes.append(index)

    def count(self, query: Query) -> int:
        return len(self._list(query))

    def page(self, query: Query, start: int, stop: int) -> list[int]:
        """The indexes *start* to *stop* of the matching records, in order."""
        woven = self._list(query)
        if not query.descending:
            return woven.slice(start, stop)
        total = len(woven)
        return woven.slice(max(0, total - stop), total - start)[::-1]

    # -- lists ---------------------------------------------------------------------------------------

    def _list(self, query: Query) -> Woven:
        upwards = Query(query.where, query.since_us, query.until_us, query.order)
        woven = self._lists.get(upwards)
        if woven is None:
            woven = Woven(self._base(upwards), lambda index: upwards.key(index, self._base_facts(index)))
            self._lists[upwards] = woven
            self._forget_old_lists()
        self._lists.move_to_end(upwards)
        for index in _each_once(self._changes[woven.seen_changes :]):
            woven.take_out(index, is_base=index < self.base_count)
            facts = self._changed[index]
            if facts is not None and upwards.matches(facts):
                woven.put_in(index, upwards.key(index, facts))
        woven.seen_changes = len(self._changes)
        return woven

    def _forget_old_lists(self) -> None:
        while len(self._lists) > 1 and (
            len(self._lists) > _LISTS or sum(woven.stored for woven in self._lists.values()) > _STORED_INDEXES
        ):
            self._lists.popitem(last=False)

    def _base(self, query: Query) -> Sequence[int]:
        """The matching indexes as the seed has them, in order."""
        if not query.where and query.order in ("", "at_us"):
            plain = self._plain(query)
            if plain is not None:
                return plain
        found = array(
            "q", (index for index in self._candidates(query) if query.matches(self._base_facts(index)))
        )
        if not query.order or (query.order == "at_us" and query.is_dated and self._by_date):
            return found
        return array("q", sorted(found, key=lambda index: query.key(index, self._base_facts(index))))

    def _plain(self, query: Query) -> Sequence[int] | None:
        """A list without filters, or of a window of days: nothing is searched, nothing is stored."""
        if not query.is_dated and not query.order:
            return range(self.base_count)
        if self._by_date is None:
            return None
        order, _ = self._by_date
        return Part(order, *self._window(query)) if query.is_dated else order

    def _window(self, query: Query) -> tuple[int, int]:
        """The places in `by_date` that a query's window covers."""
        assert self._by_date is not None  # noqa: S101 - callers looked
        order, dated = self._by_date

        def place_at(at_us: int) -> int:
            return bisect_left(range(dated), at_us, key=lambda place: self._base_facts(order[place]).at_us)

        start = 0 if query.since_us is None else place_at(query.since_us)
        stop = dated if query.until_us is None else place_at(query.until_us)
        return start, max(start, stop)

    def _candidates(self, query: Query) -> Iterable[int]:
        """Few indexes, among them every match, rising."""
        best: Sequence[int] = range(self.base_count)
        for field, values in query.where:
            if field in self._posted:
                lists = [self._posting(field)[value] for value in values if value in self._posting(field)]
                if sum(map(len, lists)) < len(best):
                    best = lists[0] if len(lists) == 1 else sorted(index for part in lists for index in part)
        if query.is_dated and self._by_date:
            order, _ = self._by_date
            start, stop = self._window(query)
            if start == stop:
                return ()
            first, last = order[start], order[stop - 1]
            best = best[bisect_left(best, first) : bisect_right(best, last)]
        return best

    def _posting(self, field: str) -> dict[int, array[int]]:
        """Indexes by value of a field; those of all fields are found in one go, on first use."""
        if not self._postings:
            self._postings = {posted: {} for posted in self._posted}
            for index in range(self.base_count):
                facts = self._base_facts(index)
                for posted, posting in self._postings.items():
                    value: int = getattr(facts, posted)
                    if value not in posting:
                        posting[value] = array("I")
                    posting[value].append(index)
        return self._postings[field]


class Part(Sequence[int]):
    """A part of a longer sequence, without copying it."""

    def __init__(self, whole: Sequence[int], start: int, stop: int) -> None:
        self._whole, self._start, self._stop = whole, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, place: int) -> int:  # type: ignore[override]  # slices are not needed
        return self._whole[self._start + place]


def _each_once(changes: list[int]) -> Iterable[int]:
    """The changed indexes without repeats: only a record's last state matters."""
    return dict.fromkeys(changes) if len(changes) > 1 else changes
