"""Query parameters → `Query`, refused as Django REST framework refuses them.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts. What the documentation leaves
open was decided as django-filter does: days are days of Asia/Kolkata, both ends included; several ids may
be given with commas or by repeating the parameter; an empty value and an unknown parameter say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TypeAlias

from testpress_async.sandbox.data import CONTENT_STATES, DAY_US, ZONE_OFFSET_US, day_start_us
from testpress_async.sandbox.settings import Settings
from testpress_async.sandbox.store import Query

Params: TypeAlias = Mapping[str, Sequence[str]]
"""Values by parameter, in the order they were given."""

ATTEMPT_ORDERS = {
    "date": "at_us",
    "id": "",
    "correct_answers_count": "correct",
    "incorrect_answers_count": "incorrect",
    "unanswered_count": "unanswered",
    # As the documentation prints them.
    "correctanswers_count": "correct",
    "correct answers_count": "correct",
    "incorrectanswers_count": "incorrect",
    "incorrectLanswers_count": "incorrect",
}
_ATTEMPT_STATES = (0, 1, 3)
_CONTENT_TYPES = (1, 2, 3, 4, 5, 7, 8)


class BadFilter(Exception):
    """A filter's value means nothing; `errors` is the body of the 400: parameter → sentences."""

    def __init__(self, parameter: str, sentence: str) -> None:
        super().__init__(f"{parameter}: {sentence}")
        self.errors = {parameter: [sentence]}


def attempts_query(params: Params, settings: Settings) -> Query:
    """What the list of attempts is asked for.

    Raises:
        BadFilter: If a value cannot be understood.
    """
    since_us, until_us = _window(_day(params, "date_0"), _day(params, "date_1"), settings)
    order, descending = _ordering(params)
    return Query(
        _where(
            exam_id=_ids(params, "exams"),
            user_id=_ids(params, "users"),
            state=_choice(params, "state", _ATTEMPT_STATES),
        ),
        since_us,
        until_us,
        order,
        descending,
    )


def content_query(params: Params, settings: Settings) -> Query:
    """What the list of content attempts is asked for.

    Raises:
        BadFilter: If a value cannot be understood.
    """
    since_us, until_us = _window(_day(params, "completed_after"), _day(params, "completed_before"), settings)
    day = _day(params, "completed_date")
    if day is not None:
        start_us, stop_us = _window(day, day, replace(settings, until_inclusive=True))
        since_us = max(filter(None, (since_us, start_us)))
        until_us = min(filter(None, (until_us, stop_us)))
    return Query(
        _where(
            user_id=_ids(params, "user_ids"),
            chapter_id=_ids(params, "chapter_ids"),
            course_id=_ids(params, "course_ids"),
            content_id=_ids(params, "chapter_content_ids"),
            exam_id=_ids(params, "exam_id"),
            kind=_choice(params, "content_type", _CONTENT_TYPES),
            state=_choice(params, "state", [code for code in CONTENT_STATES if code < 4]),
        ),
        since_us,
        until_us,
    )


def _window(since: date | None, until: date | None, settings: Settings) -> tuple[int | None, int | None]:
    """Microseconds since the epoch at which the first day begins and the last one is over."""
    shift_us = ZONE_OFFSET_US - settings.utc_offset_min * 60_000_000
    until_us = None if until is None else day_start_us(until) + shift_us + DAY_US * settings.until_inclusive
    return None if since is None else day_start_us(since) + shift_us, until_us


def _where(**fields: frozenset[int] | None) -> tuple[tuple[str, frozenset[int]], ...]:
    return tuple((field, values) for field, values in sorted(fields.items()) if values is not None)


def _ids(params: Params, name: str) -> frozenset[int] | None:
    texts = [text.strip() for value in params.get(name, ()) for text in value.split(",") if text.strip()]
    try:
        return frozenset(int(text) for text in texts) or None
    except ValueError:
        raise BadFilter(name, "Enter a number.") from None


def _choice(params: Params, name: str, choices: Sequence[int]) -> frozenset[int] | None:
    values = _ids(params, name)
    for value in sorted((values or frozenset()).difference(choices)):
        raise BadFilter(name, f"Select a valid choice. {value} is not one of the available choices.")
    return values


def _day(params: Params, name: str) -> date | None:
    text = (params.get(name) or ("",))[-1].strip()
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise BadFilter(name, "Enter a valid date.") from None


def _ordering(params: Params) -> tuple[str, bool]:
    """Field and direction; an unknown name leaves the order as it is, as `OrderingFilter` does."""
    text = (params.get("ordering") or ("",))[-1].split(",")[0].strip()
    order = ATTEMPT_ORDERS.get(text.removeprefix("-"))
    return ("", False) if order is None else (order, text.startswith("-"))
