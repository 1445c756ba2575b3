"""Which page comes next, and when a listing ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import DecodeFailed, ListingChanged, NotFound
from testpress_async.listing.walk import Walk, says_no_such_record, says_past_the_end
from testpress_async.models.pages import Head


def not_found(detail: str) -> NotFound:
    return NotFound("GET", "/a/", 404, detail=detail)


def head(next_page: int | None, *, count: int | None = None, per_page: int | None = None) -> Head:
    return Head(count, per_page, None if next_page is None else f"https://x/?page={next_page}")


def test_first_page_is_asked_for_alone() -> None:
    """Before an answer tells how many pages there are, only the first one is asked for."""
    walk = Walk("/a/", window=8)
    assert list(walk.wanted()) == [1]
    assert list(walk.wanted()) == []


def test_count_opens_the_window_and_taking_refills_it() -> None:
    """After page 1 a window of pages is wanted; each further page taken lets one more be wanted."""
    walk = Walk("/a/", window=3)
    walk.wanted()
    walk.took(1, head(2, count=100, per_page=10), range(10))
    assert list(walk.wanted()) == [2, 3, 4]
    walk.took(2, head(3, count=100, per_page=10), range(10, 20))
    assert list(walk.wanted()) == [5]


def test_a_page_past_the_expected_last_is_asked_for_when_next_says_so() -> None:
    """A count that is too small ends nothing: `next` does."""
    walk = Walk("/a/", window=8)
    walk.wanted()
    walk.took(1, head(2, count=1, per_page=10), range(10))
    assert list(walk.wanted()) == [2]
    walk.took(2, head(3, count=1, per_page=10), range(10, 20))
    assert list(walk.wanted()) == [3]


@pytest.mark.parametrize(("count", "per_page"), [(None, None), (0, 10), (None, 10), (100, None)])
def test_without_usable_counts_the_window_stays_one_page(count: int | None, per_page: int | None) -> None:
    """What is not known is not guessed; only a full page itself can stand in for `per_page`."""
    walk = Walk("/a/", window=4)
    walk.wanted()
    walk.took(1, head(2, count=count, per_page=per_page), [])
    assert list(walk.wanted()) == [2]


def test_smaller_pages_than_claimed_are_believed() -> None:
    """`per_page` 200 with 10 records a page means ten times as many pages ahead."""
    walk = Walk("/a/", window=50)
    walk.wanted()
    walk.took(1, head(2, count=200, per_page=200), range(10))
    assert walk.wanted()[-1] == 20


def test_short_and_empty_pages_do_not_end_the_walk() -> None:
    """Only a missing `next` does."""
    walk = Walk("/a/")
    walk.wanted()
    for number, records in enumerate([range(3), [], [], range(1)], 1):
        walk.took(number, head(number + 1), records)
        assert list(walk.wanted()) == [number + 1]
    walk.took(5, head(None), [1])
    assert walk.ended
    assert list(walk.wanted()) == []


@pytest.mark.parametrize("detail", ["Invalid page.", 'Invalid page "2": That page contains no results.'])
def test_the_frameworks_404_ends_past_page_one_only(detail: str) -> None:
    """A list that shrank ends with it, resumed or not, whatever was counted; page 1 must be there."""
    resumed, walk, first = Walk("/a/", start=2), Walk("/a/"), Walk("/a/")
    resumed.missing(2, not_found(detail))
    assert resumed.ended
    walk.took(1, head(2, count=100, per_page=10), range(10))
    walk.missing(2, not_found(detail))
    assert walk.ended
    with pytest.raises(NotFound):
        first.missing(1, not_found(detail))


OTHER_WORDS = ["", "Not found.", "404 Not Found nginx", "No Invalid page.", "Invalid page. Invalid page."]


@pytest.mark.parametrize("detail", OTHER_WORDS)
@pytest.mark.parametrize(("count", "per_page"), [(100, 10), (11, 10), (20, 200), (None, 10), (0, 10)])
def test_a_404_in_other_words_is_no_end_where_more_was_counted(
    detail: str, count: int | None, per_page: int
) -> None:
    """A proxy's page, or a parent that was deleted, must not pass for the end of a list."""
    walk, error = Walk("/a/"), not_found(detail)
    walk.took(1, head(2, count=count, per_page=per_page), range(10))
    with pytest.raises(NotFound) as caught:
        walk.missing(2, error)
    assert caught.value is error
    assert not walk.ended


@pytest.mark.parametrize("detail", OTHER_WORDS)
def test_a_404_in_other_words_is_the_end_where_nothing_more_was_counted(detail: str) -> None:
    """The last answer counts, not the first: the list became shorter while it was read."""
    walk = Walk("/a/")
    walk.took(1, head(2, count=100, per_page=10), range(10))
    walk.took(2, head(3, count=20, per_page=10), range(10, 20))
    walk.missing(3, not_found(detail))
    assert walk.ended


@pytest.mark.parametrize("detail", OTHER_WORDS)
def test_a_404_in_other_words_is_no_end_of_a_resumed_list(detail: str) -> None:
    """Nothing was counted yet, so nothing says that the page is gone."""
    walk = Walk("/a/", start=7)
    with pytest.raises(NotFound):
        walk.missing(7, not_found(detail))


def test_the_same_page_twice_is_refused() -> None:
    """A server that ignores `page` must not be read for ever."""
    walk = Walk("/a/")
    walk.took(1, head(2), [1, 2])
    with pytest.raises(ListingChanged, match="same page came twice") as caught:
        walk.took(2, head(3), [1, 2])
    assert caught.value.page == 2


def test_pages_that_share_only_their_first_record_pass() -> None:
    """A record that moved to the next page is no repetition."""
    walk = Walk("/a/")
    walk.took(1, head(2), [1, 2])
    walk.took(2, head(3), [1, 3])
    assert list(walk.wanted()) == [1, 2, 3]


@given(number=st.integers(1, 10**6), following=st.integers(0, 10**6))
def test_next_must_lead_to_the_very_next_page(number: int, following: int) -> None:
    """Backwards, standing still or skipping raises; one step on passes."""
    walk = Walk("/a/")
    if following == number + 1:
        walk.took(number, head(following), [1])
        assert not walk.ended
    else:
        with pytest.raises(ListingChanged, match=f"leads to page {following}, expected {number + 1}"):
            walk.took(number, head(following), [1])


def test_next_without_a_page_number_is_refused() -> None:
    """A link that names no page cannot be followed."""
    with pytest.raises(DecodeFailed) as caught:
        Walk("/a/").took(1, Head(next="https://x/?cursor=abc"), [1])
    assert caught.value.path == "$.next"


@given(
    window=st.integers(1, 20),
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    per=st.integers(1, 9),
)
def test_every_page_is_wanted_once_and_never_too_far_ahead(window: int, sizes: list[int], per: int) -> None:
    """Whatever the server claims, pages are asked for once, in order, at most `window` not yet taken."""
    walk, asked, last = Walk("/a/", window=window), list[int](), len(sizes)
    for number, size in enumerate(sizes, 1):
        asked += walk.wanted()
        assert number in asked
        assert len(asked) - (number - 1) <= window
        records = [(number, row) for row in range(size)]
        walk.took(
            number, head(number + 1 if number < last else None, count=sum(sizes), per_page=per), records
        )
    assert walk.ended
    assert asked == list(range(1, len(asked) + 1))


@pytest.mark.parametrize(
    ("detail", "past_the_end", "no_such_record"),
    [
        ("Invalid page.", True, False),
        ('Invalid page "9": That page contains no results.', True, False),
        ("Not found.", False, True),
        ("Not found", False, True),
        ("No Attempt matches the given query.", False, True),
        ("", False, False),
        ("404 Not Found nginx", False, False),
        ("Not Found", False, False),
        ("404 page not found", False, False),
        ("Not found. Invalid page.", False, False),
    ],
)
def test_the_frameworks_own_words_are_known(detail: str, past_the_end: bool, no_such_record: bool) -> None:
    """A list without such a page, and a record that does not exist; nothing that a proxy would write."""
    error = not_found(detail)
    assert says_past_the_end(error) == past_the_end
    assert says_no_such_record(error) == no_such_record
