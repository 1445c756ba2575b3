"""The odd scalars of the wire: how the server spells numbers, durations and dates, and what they mean.

A record keeps the server's text as it came (`raw_score`) and gives its meaning on access (`score`), because a
hook per field would make decoding a page four times slower, and because a spelling nobody has seen yet must
not cost the record it stands in. All functions here are pure and raise `ValueError` without naming the value.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts; spellings beyond its examples are
those of Python's `str(timedelta)` and of Django's `DurationField`, which the server is built on.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, TypeAlias

from msgspec import Meta

Id: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An id: ids beyond 2**31 exist; the bounds are those of a 64-bit column."""

Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""A point in time, always aware; the server mixes `Z` and `+05:30` inside one answer."""

WireNumber: TypeAlias = int | float | str
"""A number as sent: `0`, `83.64`, `"90.00"`, `"-2.00"`, or `"NA"`."""

WireDuration: TypeAlias = int | float | str
"""A duration as sent: `"2:47:53.076906"`, `"20 days, 3:58:48"`, `"593.0"`, `120`, or `"NA"`."""

NOTHING = frozenset({"", "NA"})
"""Texts that stand for no value: rank, score, durations and trophies are `"NA"` when there is none."""

# 30 digits hold every value a 64-bit or money column can have; without a bound, a text of a million digits
# would keep the processor busy for minutes. `Decimal` itself would also take "Infinity", "1_0" and "١".
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)

# "20 days, 3:58:48.044696" (Python), "20 03:58:48" (Django), "0:00:00". Of a negative duration both print
# a negative day and a positive rest: "-1 day, 23:59:55" is minus five seconds.
_CLOCK = re.compile(
    r"(?:(?P<days>[+-]?[0-9]{1,9})(?:\ days?,)?\ )?"
    r"(?P<sign>-)?(?P<hours>[0-9]{1,9}):(?P<minutes>[0-5]?[0-9]):(?P<seconds>[0-5]?[0-9])"
    r"(?:[.,](?P<fraction>[0-9]{1,12}))?",
    re.ASCII | re.VERBOSE,
)
_SECONDS_IN_WORDS = r"(?P<number>[^ ]+) seconds?"
_DAY = r"(?P<day>[0-9]{1,2})/(?P<month>[0-9]{1,2})/(?P<year>[0-9]{4})"
_MICROSECONDS_PER_S = 1_000_000


def exact(value: WireNumber | None) -> Decimal | None:
    """
    The number a server value stands for, digit for digit: `"90.00"` keeps its two places.

    Returns:
        None for null and for the sentinel `"NA"`.
    Raises:
        ValueError: If the text is not a number.
    """
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else repr(value)  # repr: the shortest text of a float
    if text.upper() in NOTHING:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError("expected a number or `NA`")
    return Decimal(text)


def whole(value: WireNumber | None) -> int | None:
    """
    A whole number sent as number or text, such as a rank: `4`, `"4"`; None for null and `"NA"`.

    Raises:
        ValueError: If the text is not a whole number.
    """
    number = exact(value)
    if number is None:
        return None
    if number != number.to_integral_value():
        raise ValueError("expected a whole number or `NA`")
    return int(number)


def duration(value: WireDuration | None, *, unit_s: int = 1) -> timedelta | None:
    """
    The length of time a server value stands for, in any of its spellings.

    Args:
        value: Hours, minutes and seconds, with or without days; or a plain number, as number or text.
        unit_s: What a plain number counts, in seconds: 1, or 60 for the minutes of live classes.
    Returns:
        None for null and for the sentinel `"NA"`. Fractions are cut after the microsecond.
    Raises:
        ValueError: If the text is none of the known spellings, or longer than a `timedelta` can be.
    """
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    if text.upper() in NOTHING:
        return None
    try:
        if clock := _CLOCK.fullmatch(text):
            return _from_clock(clock)
        if words := re.fullmatch(_SECONDS_IN_WORDS, text):
            return _from_number(words["number"], unit_s=1)
        return _from_number(text, unit_s=unit_s)
    except OverflowError:
        raise ValueError("expected a duration, got one longer than a timedelta can be") from None


def calendar_day(value: str | None) -> date | None:
    """
    A birth date, sent as DD/MM/YYYY (or ISO 8601); None for null and empty text.

    Raises:
        ValueError: If the text is no such day.
    """
    text = "" if value is None else value.strip()
    if text.upper() in NOTHING:
        return None
    try:
        if day := re.fullmatch(_DAY, text):
            return date(int(day["year"]), int(day["month"]), int(day["day"]))
        return date.fromisoformat(text)
    except ValueError:  # Python's own message quotes the text
        raise ValueError("expected a day as DD/MM/YYYY") from None


def _from_clock(clock: re.Match[str]) -> timedelta:
    fraction = (clock["fraction"] or "").ljust(6, "0")[:6]
    of_day = timedelta(
        hours=int(clock["hours"]),
        minutes=int(clock["minutes"]),
        seconds=int(clock["seconds"]),
        microseconds=int(fraction),
    )
    return timedelta(days=int(clock["days"] or 0)) + (-of_day if clock["sign"] else of_day)


def _from_number(text: str, *, unit_s: int) -> timedelta:
    if not _NUMBER.fullmatch(text):
        raise ValueError("expected a duration such as `2:47:53`, `20 days, 3:58:48`, seconds, or `NA`")
    return timedelta(microseconds=int(Decimal(text) * unit_s * _MICROSECONDS_PER_S))
