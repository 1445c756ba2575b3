"""How the server spells numbers, durations and days, and what they mean."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.models.scalars import calendar_day, duration, exact, whole

durations = st.timedeltas(min_value=timedelta(days=-400), max_value=timedelta(days=100_000))


def as_django_prints_it(value: timedelta) -> str:
    """`django.utils.duration.duration_string`, on which the server's `DurationField` is built."""
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days = f"{value.days} " if value.days else ""
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"{days}{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}"


def as_seconds(value: timedelta) -> str:
    total_us = value // timedelta(microseconds=1)
    sign = "-" if total_us < 0 else ""
    return f"{sign}{abs(total_us) // 1_000_000}.{abs(total_us) % 1_000_000:06d}"


@pytest.mark.parametrize(
    ("wire", "meaning"),
    [
        ("0:00:00", timedelta(0)),
        ("2:47:53.076906", timedelta(hours=2, minutes=47, seconds=53, microseconds=76906)),
        ("17:15:12", timedelta(hours=17, minutes=15, seconds=12)),
        ("0:00:01.5", timedelta(seconds=1.5)),
        ("100:00:00", timedelta(hours=100)),
        ("-0:00:05", timedelta(seconds=-5)),
        ("1 day, 0:00:01", timedelta(days=1, seconds=1)),
        (
            "20 days, 3:58:48.044696",
            timedelta(days=20, hours=3, minutes=58, seconds=48, microseconds=44696),
        ),
        ("-1 day, 23:59:55", timedelta(seconds=-5)),
        ("20 03:58:48", timedelta(days=20, hours=3, minutes=58, seconds=48)),
        ("-1 23:59:55", timedelta(seconds=-5)),
        ("0.00", timedelta(0)),
        ("1171.627827", timedelta(seconds=1171, microseconds=627827)),
        ("593.0", timedelta(seconds=593)),
        ("152", timedelta(seconds=152)),
        (152, timedelta(seconds=152)),
        (-5, timedelta(seconds=-5)),
        (0.1, timedelta(milliseconds=100)),
        ("18 seconds", timedelta(seconds=18)),
        ("1 second", timedelta(seconds=1)),
        ("18.25 seconds", timedelta(seconds=18.25)),
        (" 593.0 ", timedelta(seconds=593)),
        ("999999999 days, 23:59:59.999999", timedelta.max),
        ("0.0000009", timedelta(0)),
        ("NA", None),
        ("na", None),
        ("", None),
        (None, None),
    ],
)
def test_every_known_spelling_of_a_duration_is_read(
    wire: str | int | float | None, meaning: timedelta | None
) -> None:
    """Clock, days and clock, seconds as text or number, and the sentinel for none."""
    assert duration(wire) == meaning


@given(durations)
def test_a_duration_survives_every_spelling(value: timedelta) -> None:
    """Python's, Django's and the plain seconds' text of a duration all mean it, to the microsecond."""
    assert duration(str(value)) == value
    assert duration(as_django_prints_it(value)) == value
    assert duration(as_seconds(value)) == value
    assert duration(f"{as_seconds(value)} seconds") == value


@given(st.integers(min_value=-(10**6), max_value=10**6))
def test_a_plain_number_counts_the_unit_it_was_sent_in(count: int) -> None:
    """Seconds by default, minutes for live classes, as number or text; a clock is a clock in either unit."""
    assert duration(count) == duration(str(count)) == timedelta(seconds=count)
    assert duration(count, unit_s=60) == duration(str(count), unit_s=60) == timedelta(minutes=count)
    assert duration("0:15:00", unit_s=60) == timedelta(minutes=15)
    assert duration("18 seconds", unit_s=60) == timedelta(seconds=18)


@pytest.mark.parametrize(
    "wire",
    [
        "4:56",
        "0:60:00",
        "0:00:60",
        "1 day",
        "1 day,0:00:00",
        "0:00:00\n0:00:00",
        "two hours",
        "18 minutes",
        "x seconds",
        "٣:٠٠:٠٠",
        "inf",
        "nan",
        "1e999",
        "9" * 5000,
        "999999999999:00:00",
        float("inf"),
        float("nan"),
        1e300,
        10**25,
    ],
)
def test_an_unknown_spelling_of_a_duration_is_refused_without_repeating_it(wire: str | float) -> None:
    """ValueError says what was expected; the value could be anything, so it is not repeated."""
    with pytest.raises(ValueError, match="expected a duration") as caught:
        duration(wire)
    assert str(wire) not in str(caught.value)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("90.00", "90.00"),
        ("-2.00", "-2.00"),
        ("15.0000", "15.0000"),
        (0, "0"),
        (83.64, "83.64"),
        (100.0, "100.0"),
        ("0.1", "0.1"),
        (0.1, "0.1"),
        ("12", "12"),
        (1e300, "1E+300"),
        (" 7 ", "7"),
    ],
)
def test_numbers_keep_the_digits_they_were_sent_with(wire: str | float, text: str) -> None:
    """A `Decimal` with the server's digits: places are kept, floats do not grow a tail."""
    assert str(exact(wire)) == text


@pytest.mark.parametrize("wire", [None, "NA", "na", "", " "])
def test_no_number_is_none(wire: str | None) -> None:
    """Null, the sentinel and empty text are no number."""
    assert exact(wire) is None
    assert whole(wire) is None


@pytest.mark.parametrize(
    "wire", ["Infinity", "NaN", "sNaN", "1_000", "1,5", "٣", "0x1", "--1", "9" * 5000, "1e9999"]
)
def test_texts_that_are_no_plain_number_are_refused(wire: str) -> None:
    """What `Decimal` would take beyond plain numbers is refused, and so is what would take minutes."""
    with pytest.raises(ValueError, match="expected a number or `NA`") as caught:
        exact(wire)
    assert wire not in str(caught.value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**20), max_value=10**20))
def test_money_like_numbers_are_read_exactly(value: Decimal) -> None:
    """Every number of two places comes out of its text as it went in."""
    assert str(exact(str(value))) == str(value)


@pytest.mark.parametrize(("wire", "meaning"), [(4, 4), ("4", 4), ("4.0", 4), (165, 165), (-1, -1), (4.0, 4)])
def test_ranks_are_whole_numbers(wire: str | float, meaning: int) -> None:
    """A rank is an int, sent as number or text."""
    assert whole(wire) == meaning
    assert type(whole(wire)) is int


@pytest.mark.parametrize("wire", ["4.5", 4.5])
def test_half_a_rank_is_refused(wire: str | float) -> None:
    """A rank with a fraction is an error, not a rounded rank."""
    with pytest.raises(ValueError, match="expected a whole number"):
        whole(wire)


@pytest.mark.parametrize(
    ("wire", "meaning"),
    [
        ("03/07/2016", date(2016, 7, 3)),
        ("23/07/2000", date(2000, 7, 23)),
        ("2016-07-03", date(2016, 7, 3)),
        ("", None),
        (None, None),
    ],
)
def test_birth_dates_have_the_day_first(wire: str | None, meaning: date | None) -> None:
    """DD/MM/YYYY, as documented; ISO 8601 too."""
    assert calendar_day(wire) == meaning


@pytest.mark.parametrize("wire", ["31/02/2016", "07/23/2000", "yesterday"])
def test_a_day_that_does_not_exist_is_refused_without_repeating_it(wire: str) -> None:
    """ValueError names the form, not the value."""
    with pytest.raises(ValueError, match="DD/MM/YYYY") as caught:
        calendar_day(wire)
    assert wire not in str(caught.value)
