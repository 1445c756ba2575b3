"""Which records: options of `export` and `stream`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, TypedDict

from cyclopts import Parameter

from testpress_async.cli.output import READ
from testpress_async.errors import ConfigError

_OF_ATTEMPTS = ("exams", "users", "state", "started_after", "started_before")
_FILTERS_OF: Mapping[str, tuple[str, ...]] = {
    "attempts": _OF_ATTEMPTS,
    "content_attempts": ("users", "course_ids", "content_state"),
}


@Parameter(name="*", group=READ)
@dataclass(frozen=True)
class Filters:
    """Which records."""

    exams: Annotated[str | None, Parameter(metavar="IDS")] = None
    """Only attempts of these exams: 5 or 5,6,7."""
    users: Annotated[str | None, Parameter(metavar="IDS")] = None
    """Only records of these users."""
    state: Annotated[int | None, Parameter(metavar="CODE")] = None
    """Only attempts in this state: 0 running, 1 completed, 3 not started."""
    started_after: Annotated[str | None, Parameter(metavar="DAY")] = None
    """Only attempts started on this day or later, YYYY-MM-DD."""
    started_before: Annotated[str | None, Parameter(metavar="DAY")] = None
    """Only attempts started on this day or earlier."""
    course_ids: Annotated[str | None, Parameter(metavar="IDS")] = None
    """Only content attempts of these courses."""
    content_state: Annotated[int | None, Parameter(metavar="CODE")] = None
    """Only content attempts in this state: 0 started, 1 completed, 2 and 3 evaluation pending, completed."""

    def require_meaning(self, tables: Sequence[str]) -> None:
        """Raise ConfigError for a filter that none of *tables* knows: it would silently widen the result."""
        known = {name for table in tables for name in _FILTERS_OF.get(table, ())}
        for each in fields(self):
            if getattr(self, each.name) is not None and each.name not in known:
                option = "--" + each.name.replace("_", "-")
                raise ConfigError(option, f"means nothing for {', '.join(tables)}")

    def miss(self, table: str) -> str | None:
        """What to tell of a *table* of which nothing came, if that may be due to a filter."""
        given = [
            f"--{name.replace('_', '-')} {value}"
            for name in _FILTERS_OF.get(table, ())
            if (value := getattr(self, name)) is not None
        ]
        return f"No {table.replace('_', ' ')} match {' '.join(given)}." if given else None

    def of_attempts(self) -> AttemptFilters:
        return {
            "exams": id_list("--exams", self.exams),
            "users": id_list("--users", self.users),
            "state": self.state,
            "started_after": self.started_after,
            "started_before": self.started_before,
        }

    def of_content_attempts(self) -> ContentFilters:
        return {
            "course_ids": id_list("--course-ids", self.course_ids),
            "content_state": self.content_state,
        }


class AttemptFilters(TypedDict):
    """Keywords of `attempts.list` and `plan`."""

    exams: list[int] | None
    users: list[int] | None
    state: int | None
    started_after: str | None
    started_before: str | None


class ContentFilters(TypedDict):
    """Keywords of `plan` about content attempts."""

    course_ids: list[int] | None
    content_state: int | None


def id_list(parameter: str, text: str | None) -> list[int] | None:
    """Ids in "3" or "3,4,5"."""
    if text is None:
        return None
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise ConfigError(parameter, "expected an id, or several with commas between") from None


def chosen(tables: Sequence[str], all_tables: Sequence[str]) -> tuple[str, ...]:
    """The tables named, or all."""
    return tuple(tables) or tuple(all_tables)
