"""How the institute spells its values: every spelling the API is known to use, spread over the records."""

from __future__ import annotations

from datetime import datetime, timedelta

from testpress_async.sandbox.data import NEVER, ZONE_OFFSET_US

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone is appended as text

FIRST_NAMES = (
    "Asha",
    "विद्या",
    "தமிழ்ச்செல்வி",
    "José",
    "O'Brien 🎓",
    "Zoë",
    "Nguyễn",
    "علي",
    "Ravi",
    "李",
    "Anu",
    "Ben",
)
LAST_NAMES = ("Kumar", "शर्मा", "முருகன்", "d'Souza", "Müller", "", "Iyer", "Singh-Rathore", "N", "Das")
TITLES = (
    "UPSC Prelims Mock Test",
    "भौतिकी परीक्षा",
    "கணிதம் தேர்வு",
    "Why You Should Say “Hi”",
    "NEET <Grand> & Final",
    'Quotes "inside", commas, \\ and\ttabs',
    "Line\nbreak 🚀",
)


def moment(at_us: int, utc: int) -> str | None:
    """ISO 8601 with `Z` (*utc* true) or `+05:30`, and 0, 3 or 6 digits of fraction; None for NEVER."""
    if at_us == NEVER:
        return None
    text = (_EPOCH + timedelta(microseconds=at_us if utc else at_us + ZONE_OFFSET_US)).isoformat()
    if at_us % 1_000 == 0 and at_us % 1_000_000:
        text = text[:-3]
    return text + ("Z" if utc else "+05:30")


def duration(duration_us: int, spelling: int) -> str:
    """`2:47:53.076906`; from a day on `1 day, 2:47:53` or, with *spelling* 1, `1 02:47:53`."""
    if spelling != 1 or abs(duration_us) < 86_400_000_000:
        return str(timedelta(microseconds=duration_us))
    days, rest_us = divmod(duration_us, 86_400_000_000)
    clock, _, fraction = str(timedelta(microseconds=rest_us)).partition(".")
    return f"{days} {clock:0>8}" + (f".{fraction}" if fraction else "")


def hundredths(value: int) -> str:
    """*value* hundredths as a decimal with two places, such as `-2.00`."""
    return f"{value / 100:.2f}"
