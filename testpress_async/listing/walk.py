"""Which page to ask for next, and when a listing ends. Decides only; nothing here awaits.

The end is a missing `next`, or a 404 past page 1 that means it: the list shrank. It is never a short or an
empty page, and never a count alone: `count` and `per_page`, as the answer gives them, only tell how far ahead
may be asked, and whether to believe a 404 that is not in the framework's own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from testpress_async.errors import DecodeFailed, ListingChanged, NotFound
from testpress_async.http.wire import page_number
from testpress_async.models.pages import Head

# Django REST framework's words for a page past the end; up to 3.4: Invalid page "9": That page contains no
# results. A proxy, a server being replaced or a parent that was deleted meanwhile answers 404 in other words.
_PAST_THE_END = r'Invalid page(\.| "[0-9]+": .*)'

# And for a record, or the parent of a list, that does not exist; from 3.15 on they are Django's own.
_NO_SUCH_RECORD = r"Not found\.?|No \w+ matches the given query\."


def says_past_the_end(error: NotFound) -> bool:
    """Whether the framework itself says that a list has no such page."""
    return re.fullmatch(_PAST_THE_END, error.detail) is not None


def says_no_such_record(error: NotFound) -> bool:
    """Whether the framework itself says that what the path names does not exist; nobody else writes it so."""
    return re.fullmatch(_NO_SUCH_RECORD, error.detail) is not None


class Walk:
    """The state of one walk through the pages from `start`, at most `window` asked for and not taken."""

    def __init__(self, shown: str, *, start: int = 1, window: int = 1) -> None:
        self._shown, self._window = shown, window
        self._ask = start  # next page number to ask for
        self._take = start  # next page number to hand out
        self._known_last = start  # pages up to here are likely to exist
        self._counted = 0  # last page by the count of the last answer; 0 if it does not say
        self._largest = 0  # records on the fullest page so far
        self._previous: Sequence[object] = ()
        self.ended = False

    def wanted(self) -> range:
        """Page numbers to ask for now."""
        if self.ended:
            return range(0)
        first, self._ask = self._ask, max(self._ask, min(self._known_last, self._take + self._window - 1) + 1)
        return range(first, self._ask)

    def took(self, number: int, head: Head, records: Sequence[object]) -> None:
        """Page *number* was read; learn from it how to go on.

        Raises:
            ListingChanged: The server repeats a page, or `next` points backwards or past a page.
            DecodeFailed: `next` is a link without a page number.
        """
        if records and len(records) == len(self._previous) and records[0] == self._previous[0]:
            self._refuse_repetition(number, records)
        self._take = number + 1
        if head.next is None:
            self.ended, self._previous = True, ()
            return
        self._previous = records
        following = page_number(head.next)
        if following is None:
            raise DecodeFailed("$.next", "expected a link with a page number", source=f"GET {self._shown}")
        if following != number + 1:
            raise ListingChanged(
                self._shown, number, f"`next` leads to page {following}, expected {number + 1}"
            )
        self._counted = self._expected_last(head, len(records))
        self._known_last = max(number + 1, self._counted)

    def missing(self, number: int, error: NotFound) -> None:
        """Page *number* answered 404: the end, if it means that the list has no such page any more.

        Raises:
            NotFound: It is page 1, which must exist; or neither are the words the framework's nor did the
                last answer count too few records for this page.
        """
        shrank = says_past_the_end(error) or 0 < self._counted < number
        if number == 1 or not shrank:
            raise error
        self.ended = True

    def _refuse_repetition(self, number: int, records: Sequence[object]) -> None:
        if all(a == b for a, b in zip(records, self._previous, strict=True)):
            raise ListingChanged(self._shown, number, "the same page came twice: the server ignores `page`")

    def _expected_last(self, head: Head, records: int) -> int:
        """Last page the answer leads to expect; 0 if it does not say.

        A server that serves smaller pages than it claims is believed about what it serves.
        """
        self._largest = max(self._largest, records)
        size = min(head.per_page or self._largest, self._largest) or head.per_page
        return -(-head.count // size) if head.count and size else 0
