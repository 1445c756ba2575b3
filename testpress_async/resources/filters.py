"""Typed keyword filters become query parameters; a bad value raises before anything is sent.

Several values of one filter are comma-joined; the API documents only single values, and both styles exist in
it. Dates become YYYY-MM-DD, the only form the documentation shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from enum import Enum
from typing import Protocol, runtime_checkable

from testpress_async.errors import ConfigError
from testpress_async.http.wire import query_string

Ids = int | Iterable[int]
Day = date | datetime | str

MAX_ID = 2**63 - 1
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@runtime_checkable
class Coded(Protocol):
    """An enum whose members have a number in the API's filters."""

    @property
    def code(self) -> int | None: ...


def one_id(parameter: str, value: object) -> str:
    """*value* as a path segment or filter: a whole number from 0 to 2**63 - 1, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise ConfigError(parameter, f"expected an id, a whole number of at least 0, got {_kind(value)}")
    return str(int(value))


def ids(parameter: str, value: Ids | None) -> str | None:
    """One id or several; an empty iterable is an error, as it would mean "all" to the server."""
    if value is None:
        return None
    if isinstance(value, int):
        return one_id(parameter, value)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(parameter, f"expected an id or several ids, got {_kind(value)}")
    listed = [one_id(parameter, each) for each in value]
    if not listed:
        raise ConfigError(parameter, "expected at least one id; leave the filter out to get everything")
    return ",".join(listed)


def day(parameter: str, value: Day | None) -> str | None:
    """A date, the day of a datetime in its own zone, or "YYYY-MM-DD"."""
    if value is None:
        return None
    if isinstance(value, str):
        if not _DAY.fullmatch(value):
            raise ConfigError(parameter, "expected a date as YYYY-MM-DD")
        try:
            value = date.fromisoformat(value)
        except ValueError:
            raise ConfigError(parameter, "expected a date as YYYY-MM-DD that exists") from None
    if isinstance(value, datetime):
        value = value.date()
    if not isinstance(value, date):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(parameter, f"expected a date, a datetime or YYYY-MM-DD, got {_kind(value)}")
    return value.isoformat()


def code(parameter: str, value: Coded | int | None, kind: type[Enum]) -> str | None:
    """The number of a member of *kind*, or a number the documentation does not list (yet).

    The same number means different states of attempts and of content attempts, so the wrong enum is refused.
    """
    if value is None:
        return None
    if isinstance(value, Enum) and not isinstance(value, kind):
        raise ConfigError(parameter, f"expected a {kind.__name__} or a number, got a {type(value).__name__}")
    if isinstance(value, Coded):
        number = value.code
        if number is None:
            raise ConfigError(parameter, "this value has no number in the API's filters; pass the number")
        return str(number)
    return one_id(parameter, value)


def text(parameter: str, value: str | None) -> str | None:
    """Free text, such as a search."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(parameter, "expected some text")
    return value


def target(path: str, **params: str | None) -> str:
    """Path and query, without the filters that are None."""
    query = query_string({name: value for name, value in params.items() if value is not None})
    return f"{path}?{query}" if query else path


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" if not isinstance(value, int) else "a number out of range"
