"""From options, environment, a file or a prompt to a client."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

from cyclopts import Parameter

from testpress_async.client import Client
from testpress_async.errors import ConfigError
from testpress_async.http.policy import Timeouts
from testpress_async.http.window import RatePolicy

CALL_DEADLINE_S = 2 * 3600.0  # a bulk call may sit out a whole hour's limit window

_RATE = re.compile(r"([0-9]+)(?:/(s|min|h))?")
_PERIOD_S = {None: 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


@Parameter(name="*")
@dataclass(frozen=True)
class Connection:
    """Where to connect, and as whom. The password is never an argument: other users could read it."""

    base_url: Annotated[str | None, Parameter(env_var="TESTPRESS_BASE_URL")] = None
    """Address of the institute, such as https://institute.testpress.in."""
    username: Annotated[str | None, Parameter(env_var="TESTPRESS_USERNAME")] = None
    """Admin account. The password comes from TESTPRESS_PASSWORD, --password-file or a prompt."""
    password_file: Path | None = None
    """File whose first line is the password."""
    rate: str | None = None
    """Known request limit, such as 600/min or 10/s; learned from the server's refusals if not given."""
    allow_http: bool = False
    """Accept plain http to other machines."""


_OF_ATTEMPTS = ("exams", "users", "state", "started_after", "started_before")
_FILTERS_OF: Mapping[str, tuple[str, ...]] = {
    "attempts": _OF_ATTEMPTS,
    "content_attempts": ("users", "course_ids", "content_state"),
}


@Parameter(name="*")
@dataclass(frozen=True)
class Filters:
    """Which records."""

    exams: str | None = None
    """Only attempts of these exams: 5 or 5,6,7."""
    users: str | None = None
    """Only records of these users."""
    state: int | None = None
    """Only attempts in this state: 0 running, 1 completed, 3 not started."""
    started_after: str | None = None
    """Only attempts started on this day or later, YYYY-MM-DD."""
    started_before: str | None = None
    """Only attempts started on this day or earlier."""
    course_ids: str | None = None
    """Only content attempts of these courses."""
    content_state: int | None = None
    """Only content attempts in this state: 0 started, 1 completed, 2 and 3 evaluation pending, completed."""

    def require_meaning(self, tables: Sequence[str]) -> None:
        """Raise ConfigError for a filter that none of *tables* knows: it would silently widen the result."""
        known = {name for table in tables for name in _FILTERS_OF.get(table, ())}
        for each in fields(self):
            if getattr(self, each.name) is not None and each.name not in known:
                option = "--" + each.name.replace("_", "-")
                raise ConfigError(option, f"means nothing for {', '.join(tables)}")

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


def client_for(options: Connection, environ: Mapping[str, str], **more: Any) -> Client:
    """A client as the user asked for it.

    Raises:
        ConfigError: Something is missing; names the option and the variable.
    """
    if options.base_url is None:
        raise ConfigError("--base-url", "is missing: pass it, set TESTPRESS_BASE_URL, or try --sandbox")
    token = environ.get("TESTPRESS_TOKEN") or None
    password = None
    if options.username is not None:
        password = _password(options, environ)
    elif token is None:
        raise ConfigError("--username", "is missing: pass it, or set TESTPRESS_USERNAME or TESTPRESS_TOKEN")
    return Client(
        options.base_url,
        token=token,
        username=options.username,
        password=password,
        rate=rate_policy(options.rate),
        timeouts=Timeouts(total_s=CALL_DEADLINE_S),
        allow_http=options.allow_http,
        **more,
    )


def _password(options: Connection, environ: Mapping[str, str]) -> str:
    if options.password_file is not None:
        try:
            return options.password_file.read_text().partition("\n")[0].strip()
        except OSError as error:
            raise ConfigError("--password-file", error.strerror or "cannot be read") from None
    if password := environ.get("TESTPRESS_PASSWORD"):
        return password
    if sys.stdin.isatty() and sys.stderr.isatty():
        return getpass.getpass(f"Password of {options.username}: ", stream=sys.stderr)
    raise ConfigError("TESTPRESS_PASSWORD", "is not set, and there is no terminal to ask on")


def rate_policy(text: str | None) -> RatePolicy:
    """The policy in "600/min", "10/s", "1000/h" or "10" (a second)."""
    if text is None:
        return RatePolicy()
    found = _RATE.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise ConfigError("--rate", "expected something like 600/min, 10/s or 1000/h")
    return RatePolicy(requests=int(found[1]), per_s=_PERIOD_S[found[2]])


def id_list(parameter: str, text: str | None) -> list[int] | None:
    """Ids in "3" or "3,4,5"."""
    if text is None:
        return None
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise ConfigError(parameter, "expected an id, or several with commas between") from None


def environment() -> Mapping[str, str]:
    """The process's environment; read only here and by the options above."""
    return os.environ


def chosen(tables: Sequence[str], all_tables: Sequence[str]) -> tuple[str, ...]:
    """The tables named, or all."""
    return tuple(tables) or tuple(all_tables)
