"""When a read of a list behind numbered pages is proved complete. Decides only; nothing here awaits.

A page number is a place in a list that changes: every record deleted before a page moves the rest one place
up, and a record that crosses to a page already read is lost without a trace. Two things help. Read from the
last page to the first, and deletions only move records towards pages still to be read. And every page bears
the server's count of the whole list:

    A read is perfect if all its answers, and one more after them, give the same count, and that many
    different records came.

It can have missed a record only if an insertion and a deletion cancelled out in that list between two
answers; where ids only rise, the new record itself gives that away. Without the last answer, the closing
probe, an insertion between the server's own counting and its own slicing of the last page could also escape;
records that are only appended cannot, so the probe may be left out where nothing is inserted.

Where ids only rise, a falling count does no harm either: nothing was inserted, or it would be among what was
read, and so the records only moved towards pages still to be read.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

Status = Literal["certified", "open", "unverified"]
"""certified: a perfect read; open: still growing or not final, read once; unverified: no perfect read."""


class Sweep:
    """One read of a list, from its last page to its first, again and again until it is perfect.

    Page 1 may come before the others, to learn the count.

    Args:
        first_guess: The page to begin with; too high a guess costs a request.
        closing_probe: Whether one more answer must confirm the count.
        once: Read every page once and be content, as for a list that grows while it is read.
        patience: How often the list may change, or contradict itself, before the read is given up.
        in_turn: Whether a page that came before its turn, such as page 1, is read again. Then no perfect read
            misses a record that stayed where others are only appended and deleted, even if these cancel out.
        newest_id: Tells the highest id seen anywhere, for lists in a fixed order whose ids only rise.
    """

    def __init__(
        self,
        *,
        first_guess: int = 1,
        closing_probe: bool = False,
        once: bool = False,
        in_turn: bool = False,
        patience: int = 3,
        newest_id: Callable[[], int | None] | None = None,
    ) -> None:
        self._guess, self._closing, self._once, self._patience = first_guess, closing_probe, once, patience
        self._in_turn = in_turn
        self._newest_id, self._known_id = newest_id, None if newest_id is None else newest_id()
        self._asked_id = self._known_id  # the highest id seen when the page on its way was asked for
        self._sure_id = self._known_id  # the highest that surely was there when the first page was answered
        self._full = 0  # records on the fullest page that another one follows
        self._next = 0  # page to read next on the way down; 0: all were read
        self._run: dict[int, Sequence[object]] = {}  # ids by page, of this read
        self._top = 0  # the count at the beginning of this read
        self._counts: dict[int, int] = {}  # the count on each of these pages
        self._shuffled = False
        self.count: int | None = None
        self.last_page = 0
        self.disturbances = 0
        self.thinned = False
        self.grown = False  # whether a record that came is why the read begins again
        self.perfect = False

    @property
    def pages(self) -> tuple[int, ...]:
        """The pages that make up the read, in the order of the list."""
        return tuple(sorted(self._run))

    def wanted(self) -> int | None:
        """The page to ask for next; None when nothing more is to be read."""
        self._asked_id = None if self._newest_id is None else self._newest_id()
        if self.perfect or self.disturbances > self._patience:
            return None
        if self.count is None:
            return self._guess
        if self._next:
            return self._next
        return None if self._once else self.last_page  # the closing probe

    def took(self, page: int, count: int, ids: Sequence[object], *, size: int, is_last: bool) -> bool:
        """Page *page* came. Returns whether it is part of the read.

        Args:
            count: The server's count of the whole list.
            ids: Of the page's records; None for one that has no id.
            size: Records on a full page, as the server says; a full page itself is believed more.
            is_last: Whether the server names no next page.
        """
        probing = self.count is not None and not self._next
        if not is_last:
            self._full = max(self._full, len(ids))
        pages = max(1, -(-count // max(1, self._full or size)))
        if self._once:
            return self._took_once(page, count, pages, ids, is_last=is_last)
        if self.count is None or not self._still(count):
            self.grown = self.count is not None and self._newest_id is not None
            self._begin(count, pages)
            if self.grown:
                return False  # the new record must be known before the read that is to hold it begins
            probing = False
        if page > pages or is_last != (page == pages):
            self._disturb()  # the answer contradicts itself
            return False
        self.last_page, self.count = pages, count
        if probing:
            self._judge(ids)
            return False
        if self._in_turn and page < self._next:
            return False
        if not self._run and self._newest_id is not None:
            here = (each for each in ids if isinstance(each, int))
            self._known_id = self._newest_id()
            self._sure_id = max(self._asked_id or 0, max(here, default=0))
            self.grown = False
        self._run[page], self._counts[page] = packed(ids), count
        self._shuffled = self._shuffled or self._repeats(page)
        if page >= self._next:
            self._next = page - 1
        while self._next in self._run:
            self._next -= 1
        if not self._next and not (self._closing and self._fits()):
            self._judge(())
        return True

    def contradicted(self) -> None:
        """What came cannot be right, such as an answer whose next page is not the next."""
        self._disturb()
        if not self._once:
            self.count, self._guess = None, 1  # what is known of the list may be what is wrong

    def missing(self, page: int) -> None:
        """The list ends before *page*, says the server."""
        if self._once and self.count is not None:
            self._disturb()
            self._next = page - 1
            return
        if self.count is not None:
            self._disturb()
        self.count, self._guess = None, 1

    # --- inside ------------------------------------------------------------------------------------

    def _still(self, count: int) -> bool:
        """Whether the read may go on with *count*: it is the same, or a lower one does no harm."""
        if count == self.count:
            return True
        if self.count is None or count > self.count or self._newest_id is None:
            self._disturb()
            return False
        if not self.thinned:
            self.thinned = True
            for early in [page for page in self._run if page <= self._next]:
                del self._run[early]  # read before its turn: what moved there since would be missed
        return True

    def _begin(self, count: int, pages: int) -> None:
        """A new read, down from the last page."""
        self._run.clear()
        self.count, self._top, self.last_page, self._next = count, count, pages, pages
        self.thinned = self._shuffled = False

    def _disturb(self) -> None:
        self.disturbances += 1
        if not self._once and self.count is not None:
            self._begin(self.count, self.last_page)

    def _took_once(self, page: int, count: int, pages: int, ids: Sequence[object], *, is_last: bool) -> bool:
        if page > pages or is_last != (page == pages):
            self._guess = (
                1  # the answer contradicts itself, or a last page alone does not say how long one is
            )
            return False
        if self.count is None:
            self.count, self.last_page, self._next = count, pages, pages
            if page < pages:
                return False
        elif count != self.count:
            self.count = count
            self.disturbances += 1  # what is appended now came after the read began
        self._run[page] = packed(ids)
        self._next = page - 1
        self.perfect = not self._next and not self.disturbances and self._fits()
        return True

    def _judge(self, probed: Sequence[object]) -> None:
        fits = self._fits()
        self.perfect = fits and not self._grew(probed)
        if not self.perfect:
            self.grown = fits
            self._disturb()

    def _fits(self) -> bool:
        """Whether as many different records came as the counts say."""
        came = sum(map(len, self._run.values()))
        differing = different(self._run.values())
        if not self.thinned:
            return differing == self.count
        gone = self._top - (self.count or 0)
        return not self._shuffled and self._top - gone <= differing and came - differing <= gone

    def _repeats(self, page: int) -> bool:
        """Whether *page* repeats more of the page after it than deletions in between explain."""
        after = self._run.get(page + 1)
        if after is None:
            return False
        repeated = len(set(after).intersection(self._run[page]) - {None})
        return repeated > self._counts[page + 1] - self._counts[page]

    def _grew(self, probed: Sequence[object]) -> bool:
        """Whether a record came after the first answer of the read."""
        if self._known_id is None or (self.last_page == 1 and not self.thinned):
            return False
        # Where the count fell, nothing may have been inserted: and what others saw while the first
        # page was on its way may have come after its answer was made.
        known = self._sure_id if self.thinned and self._sure_id is not None else self._known_id
        pages = (*self._run.values(), probed)
        return any(newest(ids, known) > known for ids in pages)


# --- ids by the million, in little memory ------------------------------------------------------------

_BLOCK: Final = 256


@dataclass(slots=True)
class WholeNumbers:
    """A set of whole numbers, a bit for each: neighbours, as ids of one list are, share a block."""

    blocks: dict[int, int] = field(default_factory=dict[int, int])

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self.blocks.values())

    def add(self, numbers: Iterable[int]) -> None:
        """Add *numbers*."""
        blocks = self.blocks
        for number in numbers:
            block, bit = divmod(number, _BLOCK)
            blocks[block] = blocks.get(block, 0) | 1 << bit


def packed(ids: Sequence[object]) -> Sequence[object]:
    """*ids* in 8 bytes each, if all are numbers of 64 bits; else as they are."""
    try:
        return array("q", ids)  # type: ignore[arg-type] - whether it may be is what it finds out
    except (TypeError, OverflowError):
        return ids


def newest(ids: Sequence[object], default: int) -> int:
    """The largest number among *ids*."""
    if isinstance(ids, array):
        return max(cast("array[int]", ids), default=default)
    return max((each for each in ids if isinstance(each, int)), default=default)


def different(pages: Iterable[Sequence[object]]) -> int:
    """How many different ids *pages* hold; each None is one of its own."""
    numbers, texts, nameless = WholeNumbers(), set[object](), 0
    for ids in pages:
        if isinstance(ids, array):
            numbers.add(cast("array[int]", ids))
        else:
            numbers.add(each for each in ids if isinstance(each, int))
            texts.update(each for each in ids if each is not None and not isinstance(each, int))
            nameless += sum(each is None for each in ids)
    return len(numbers) + len(texts) + nameless
