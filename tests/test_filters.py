"""Keyword filters become query parameters, or an error that names the parameter."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import testpress_async as tp
from testpress_async.resources import filters
from tests.support.pages import Pages, book

IDS = st.integers(0, 2**63 - 1)


@given(IDS)
def test_one_id_is_sent_as_it_is(value: int) -> None:
    """Ids are 64-bit numbers."""
    assert filters.ids("exams", value) == filters.one_id("exams", value) == str(value)


@given(st.lists(IDS, min_size=1, max_size=20))
def test_several_ids_are_joined_in_order(values: list[int]) -> None:
    """Any iterable will do: a list, a generator, a tuple."""
    expected = ",".join(map(str, values))
    assert filters.ids("exams", values) == expected
    assert filters.ids("exams", (value for value in values)) == expected


@pytest.mark.parametrize("value", [True, False, -1, 2**63, 1.0, "5", b"5", None, [1]])
def test_what_is_no_id_is_refused(value: object) -> None:
    """The error names the parameter; a bool or a text is a mistake, not an id."""
    with pytest.raises(tp.ConfigError) as caught:
        filters.one_id("attempt_id", value)
    assert caught.value.parameter == "attempt_id"


@pytest.mark.parametrize(
    "value", ["5", b"5", [], (), iter([]), [1, "2"], [True], [-1], 1.5, object(), [None]]
)
def test_what_are_no_ids_is_refused(value: Any) -> None:
    """No id at all is refused too: to the server it would mean all of them."""
    with pytest.raises(tp.ConfigError) as caught:
        filters.ids("exams", value)
    assert caught.value.parameter == "exams"


@given(st.dates())
def test_days_are_iso_dates(value: date) -> None:
    """As a date or as its text."""
    assert filters.day("d", value) == filters.day("d", value.isoformat()) == value.isoformat()


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_a_datetime_stands_for_its_own_day(value: datetime, offset_min: int) -> None:
    """The day is taken in the datetime's own zone; nothing is converted."""
    zoned = value.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    assert filters.day("d", value) == filters.day("d", zoned) == value.date().isoformat()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2024",
        "2024-1-1",
        "20240101",
        "2024-02-30",
        "2024-01-01T00:00:00",
        "२०२४-०१-०१",
        20240101,
        1.5,
        b"x",
    ],
)
def test_what_is_no_day_is_refused(value: Any) -> None:
    """A day the server would misread is not sent."""
    with pytest.raises(tp.ConfigError) as caught:
        filters.day("started_after", value)
    assert caught.value.parameter == "started_after"


@given(st.sampled_from([*tp.AttemptState, *tp.ContentAttemptState]))
def test_states_are_sent_as_their_number(state: tp.AttemptState | tp.ContentAttemptState) -> None:
    """The filters take numbers, the records hold words."""
    assert filters.code("state", state, type(state)) == str(state.code)


@given(st.sampled_from(list(tp.ContentType)) | st.integers(0, 99))
def test_content_types_and_plain_numbers_are_sent_as_they_are(value: int) -> None:
    """A number that is not documented yet can be asked for."""
    assert filters.code("content_type", value, tp.ContentType) == str(int(value))


@pytest.mark.parametrize("value", [tp.AttemptState("Expired"), "Completed", True, -1, 1.0])
def test_what_has_no_number_is_refused(value: Any) -> None:
    """A word without a number cannot be filtered by."""
    with pytest.raises(tp.ConfigError) as caught:
        filters.code("state", value, tp.AttemptState)
    assert caught.value.parameter == "state"


@pytest.mark.parametrize("value", [tp.ContentAttemptState.STARTED, tp.ContentType.EXAM])
def test_the_wrong_vocabulary_is_refused(value: Any) -> None:
    """0 is "running" for an attempt and "started" for a content attempt: numbers are not mixed up."""
    with pytest.raises(tp.ConfigError, match="expected a AttemptState"):
        filters.code("state", value, tp.AttemptState)


@pytest.mark.parametrize("value", ["", "  ", 5, b"x"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    """An empty search would find everything."""
    with pytest.raises(tp.ConfigError) as caught:
        filters.text("q", value)
    assert caught.value.parameter == "q"


@pytest.mark.parametrize("kind", [filters.ids, filters.day, filters.text])
def test_none_leaves_a_filter_out(kind: Any) -> None:
    """None is no filter."""
    assert kind("x", None) is None
    assert filters.code("x", None, tp.AttemptState) is None


@given(st.dictionaries(st.sampled_from("abc"), st.none() | st.text(min_size=1), max_size=3))
def test_every_text_survives_the_query(params: dict[str, str | None]) -> None:
    """Whatever a search text holds, the server reads the same."""
    target = filters.target("/p/", **params)
    sent = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True, strict_parsing="?" in target))
    assert sent == {name: value for name, value in params.items() if value is not None}
    assert target.isascii()
    assert "?" in target or not sent


BAD = [
    ("attempts", "list", {"exams": "5"}, "exams"),
    ("attempts", "list", {"users": []}, "users"),
    ("attempts", "list", {"state": "Completed"}, "state"),
    ("attempts", "list", {"started_after": "yesterday"}, "started_after"),
    ("attempts", "list", {"started_before": 5}, "started_before"),
    ("attempts", "list", {"ordering": ""}, "ordering"),
    ("attempts", "list", {"bad_records": "drop"}, "bad_records"),
    ("attempts", "user_answers", {"attempt_id": "5"}, "attempt_id"),
    ("video_conferences", "attendees", {"conference_id": -1}, "conference_id"),
    ("users", "list", {"q": ""}, "q"),
    ("users", "list", {"email": 5}, "email"),
    ("courses", "list", {"q": 5}, "q"),
    *[("content_attempts", "list", {name: "5"}, name) for name in ("user_ids", "course_ids", "chapter_ids")],
    *[("content_attempts", "list", {name: [-1]}, name) for name in ("chapter_content_ids", "exam_id")],
    *[("content_attempts", "list", {name: True}, name) for name in ("content_type", "state")],
    *[
        ("content_attempts", "list", {name: "2024-13-01"}, name)
        for name in ("completed_date", "completed_before", "completed_after")
    ],
    *[
        ("exams", "list", {name: 1}, name)
        for name in ("status", "start_date", "end_date", "subject", "batch")
    ],
    *[("exams", "list", {name: " "}, name) for name in ("exam_type", "ordering")],
]


@pytest.mark.parametrize(("resource", "method", "given", "parameter"), BAD)
async def test_a_bad_value_is_refused_before_anything_is_sent(
    resource: str, method: str, given: dict[str, object], parameter: str
) -> None:
    """The error comes at the call, without an await, and names the parameter."""
    pages = Pages(book([1]))
    async with pages.client() as client:
        with pytest.raises(tp.ConfigError) as caught:
            getattr(getattr(client, resource), method)(**given)
        assert caught.value.parameter == parameter
        with pytest.raises(tp.ConfigError, match="attempt_id"):
            await client.attempts.get("5")  # type: ignore[arg-type]
    assert pages.targets == []


def test_days_keep_the_datetime_of_utc() -> None:
    """Late in the evening UTC is already tomorrow in India: the caller's zone decides."""
    assert filters.day("d", datetime(2024, 1, 1, 23, 59, tzinfo=UTC)) == "2024-01-01"
