"""The sandbox's lists, compared with a list sorted and filtered by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testpress_async.sandbox import Live, Settings
from testpress_async.sandbox.api import BadFilter, attempts_query, content_query
from testpress_async.sandbox.book import Book, LiveChanges
from testpress_async.sandbox.data import NEVER, AttemptFacts, Institute
from testpress_async.sandbox.store import Query, Table
from tests.support.clock import ManualClock

SETTINGS = Settings(attempts=400, exams=4, users=20, first_day=date(2024, 1, 1), last_day=date(2024, 1, 20))
INSTITUTE = Institute(SETTINGS)
INSTANTS = st.datetimes(datetime(2023, 12, 30), datetime(2024, 1, 22), timezones=st.just(UTC))  # noqa: DTZ001
DAYS = st.dates(date(2023, 12, 30), date(2024, 1, 22))


def book() -> Book:
    return Book(INSTITUTE, ManualClock())


def by_hand(table: Table[AttemptFacts], query: Query) -> list[int]:
    rows = [(index, facts) for index in range(table.next_index) if (facts := table.facts(index)) is not None]
    rows = [(index, facts) for index, facts in rows if query.matches(facts)]
    if query.order:
        rows.sort(key=lambda row: (getattr(row[1], query.order), row[0]))
    indexes = [index for index, _ in rows]
    return indexes[::-1] if query.descending else indexes


@st.composite
def params(draw: st.DrawFn) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if draw(st.booleans()):
        found["date_0"] = [str(draw(DAYS))]
    if draw(st.booleans()):
        found["date_1"] = [str(draw(DAYS))]
    if draw(st.booleans()):
        found["exams"] = [",".join(map(str, draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))))]
    if draw(st.booleans()):
        found["users"] = [
            str(number) for number in draw(st.lists(st.integers(1, 20), min_size=1, max_size=8))
        ]
    if draw(st.booleans()):
        found["state"] = [str(draw(st.sampled_from([0, 1, 3])))]
    orders = ["date", "-date", "id", "-id", "correct_answers_count", "-unanswered_count", "nonsense"]
    if draw(st.booleans()):
        found["ordering"] = [draw(st.sampled_from(orders))]
    return found


@given(asked=params(), start=st.integers(0, 420), size=st.integers(0, 420))
def test_lists_are_right_while_nothing_changes(asked: dict[str, list[str]], start: int, size: int) -> None:
    """Any filter, order and page is what filtering and sorting by hand gives."""
    query, table = attempts_query(asked, SETTINGS), book().table
    expected = by_hand(table, query)
    assert table.count(query) == len(expected)
    assert table.page(query, start, start + size) == expected[start : start + size]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "move", "undate", "state", "exam", "finish", "look"]),
        st.integers(0, 450),
        INSTANTS,
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(asked=params(), changes=CHANGES, cut=st.integers(0, 420))
def test_lists_are_right_whatever_changes(
    asked: dict[str, list[str]], changes: list[tuple[str, int, datetime]], cut: int
) -> None:
    """Any mix of new, changed and deleted attempts shows at once in every list, also one looked at before."""
    query, attempts = attempts_query(asked, SETTINGS), book()
    for kind, number, at in changes:
        attempt_id = number % attempts.table.next_index + 1
        exists = attempts.table.facts(attempt_id - 1) is not None
        if kind == "insert":
            attempts.insert(number % 3, at if number % 2 else None)
        elif kind == "look":
            assert attempts.table.count(query) == len(by_hand(attempts.table, query))
        elif not exists:
            with pytest.raises(LookupError):
                attempts.delete([attempt_id])
        elif kind == "delete":
            attempts.delete([attempt_id])
        elif kind == "finish":
            attempts.finish(attempt_id)
        else:
            change: dict[str, dict[str, object]] = {
                "move": {"date": at},
                "undate": {"date": None},
                "state": {"state": ("Running", "Completed", "Lost")[number % 3]},
                "exam": {"exam_id": number % 5 + 1, "score": "1.00"},
            }
            attempts.edit(attempt_id, change[kind])
    expected = by_hand(attempts.table, query)
    pages = attempts.table.page(query, 0, cut) + attempts.table.page(query, cut, 10_000)
    assert pages == expected


def test_days_tile_the_dated_attempts() -> None:
    """Counts of neighbouring windows of days add up; attempts without a date are in none."""
    table = book().table
    everything = table.count(attempts_query({}, SETTINGS))
    days = [date(2023, 12, 31) + timedelta(days=day) for day in range(30)]
    windows = [attempts_query({"date_0": [str(day)], "date_1": [str(day)]}, SETTINGS) for day in days]
    undated = sum(1 for index in range(400) if INSTITUTE.attempt(index).at_us == NEVER)
    assert sum(map(table.count, windows)) == everything - undated
    assert table.count(attempts_query({"date_0": ["2024-01-10"], "date_1": ["2024-01-05"]}, SETTINGS)) == 0


def test_days_can_mean_something_else() -> None:
    """A server whose days are UTC's, or whose last day is not included, can be rehearsed."""
    table = book().table
    asked = {"date_0": ["2024-01-03"], "date_1": ["2024-01-05"]}
    kolkata = attempts_query(asked, SETTINGS)
    utc = attempts_query(asked, Settings(utc_offset_min=0))
    open_end = attempts_query(asked, Settings(until_inclusive=False))
    assert kolkata.since_us is not None
    assert utc.since_us == kolkata.since_us + 19_800_000_000
    assert table.count(open_end) < table.count(kolkata)
    assert open_end == attempts_query({"date_0": ["2024-01-03"], "date_1": ["2024-01-04"]}, SETTINGS)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("exams", "x", "Enter a number."),
        ("users", "1,b", "Enter a number."),
        ("state", "2", "Select a valid choice. 2 is not one of the available choices."),
        ("date_0", "2024-1-1x", "Enter a valid date."),
        ("date_1", "2024-02-30", "Enter a valid date."),
    ],
)
def test_filters_that_mean_nothing_are_refused(name: str, value: str, sentence: str) -> None:
    """A bad value is refused under the parameter's name; an empty one says nothing."""
    with pytest.raises(BadFilter) as refused:
        attempts_query({name: [value]}, SETTINGS)
    assert refused.value.errors == {name: [sentence]}
    assert attempts_query({name: [""]}, SETTINGS) == Query()


CONTENT_FILTERS = {
    "user_ids": "user_id",
    "chapter_ids": "chapter_id",
    "course_ids": "course_id",
    "chapter_content_ids": "content_id",
    "exam_id": "exam_id",
    "content_type": "kind",
    "state": "state",
}


@pytest.mark.parametrize("name", CONTENT_FILTERS)
def test_content_filters_choose_by_their_field(name: str) -> None:
    """Each filter of content attempts keeps exactly the rows with that value."""
    content = Table(INSTITUTE.content_count, INSTITUTE.content, posted=("user_id", "course_id"))
    field = CONTENT_FILTERS[name]
    for value in {getattr(INSTITUTE.content(index), field) for index in range(40)} - {0, 9} | {1}:
        rows = content.page(content_query({name: [str(value)]}, SETTINGS), 0, 1_000)
        every = range(INSTITUTE.content_count)
        assert rows == [index for index in every if getattr(INSTITUTE.content(index), field) == value]


def test_completion_windows_tile_the_completed() -> None:
    """`completed_after`, `completed_before` and `completed_date` cut the completed rows by day."""
    content = Table(INSTITUTE.content_count, INSTITUTE.content)

    def count(**asked: str) -> int:
        return content.count(content_query({name: [value] for name, value in asked.items()}, SETTINGS))

    completed = sum(INSTITUTE.content(index).at_us != NEVER for index in range(INSTITUTE.content_count))
    assert count(completed_before="2024-01-09") + count(completed_after="2024-01-10") == completed
    days = [str(date(2024, 1, 1) + timedelta(days=day)) for day in range(25)]
    assert sum(count(completed_date=day) for day in days) == completed
    assert count(completed_date="2024-01-09", completed_after="2024-01-10") == 0
    assert count(completed_date="2024-01-09", completed_before="2024-01-09") == count(
        completed_date="2024-01-09"
    )


def test_live_changes_come_at_their_rate_in_order() -> None:
    """After ten seconds every kind of event has happened rate × 10 times, and the history is in order."""
    attempts = book()
    live = Live(inserts_per_s=3, deletes_per_s=2, edits_per_s=1, backdated_per_s=0.5)
    changes = LiveChanges(live, attempts, 100.0)
    changes.apply(100.0)
    assert attempts.history == []
    changes.apply(104.2)
    changes.apply(110.0)
    kinds = [change.kind for change in attempts.history]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "insert": 30,
        "delete": 20,
        "edit": 10,
        "backdate": 5,
    }
    times = [change.at_s for change in attempts.history]
    assert times == sorted(times)
    assert attempts.table.count(Query()) == 400 + 30 + 5 - 20


def test_live_changes_do_not_depend_on_who_looks() -> None:
    """Looking often or once gives the same institute."""
    live = Live(inserts_per_s=5, deletes_per_s=5, edits_per_s=5, backdated_per_s=5, seed=9)
    often, once = book(), book()
    frequent, single = LiveChanges(live, often, 0.0), LiveChanges(live, once, 0.0)
    for step in range(1, 101):
        frequent.apply(step / 10)
    single.apply(10.0)
    assert [(c.kind, c.attempt_id) for c in often.history] == [(c.kind, c.attempt_id) for c in once.history]


def test_new_attempts_are_the_newest() -> None:
    """Without a start an attempt starts now, never before one that is already there."""
    clock = ManualClock(wall_s=2_000_000_000.0)
    attempts = Book(INSTITUTE, clock)
    first, second = attempts.insert(2, None)
    order = attempts_query({"ordering": ["-date"], "date_0": ["2000-01-01"]}, SETTINGS)
    assert attempts.table.page(order, 0, 2) == [second - 1, first - 1]
    facts = attempts.table.facts(first - 1)
    assert facts is not None
    assert facts.at_us == 2_000_000_000_000_000
    early = Book(INSTITUTE, ManualClock(wall_s=1_000_000_000.0))
    third, fourth = early.insert(2, None)
    assert early.table.page(order, 0, 3) == [fourth - 1, third - 1, INSTITUTE.attempt_order[395]]


def test_nothing_left_to_change() -> None:
    """Live deletes and edits of an empty institute do nothing, nor does an institute that stands still."""
    still = book()
    LiveChanges(Live(), still, 0.0).apply(5.0)
    assert still.history == []
    empty = Book(Institute(Settings(attempts=0)), ManualClock())
    LiveChanges(Live(deletes_per_s=1, edits_per_s=1), empty, 0.0).apply(5.0)
    assert empty.history == []


def test_lists_are_forgotten_when_there_are_many() -> None:
    """A thousand different questions do not keep a thousand lists."""
    table = book().table
    for user in range(1_000):
        assert table.count(attempts_query({"users": [str(user)]}, SETTINGS)) >= 0
    assert len(table._lists) <= 256
