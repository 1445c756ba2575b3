"""From options, environment, a file or a prompt to a client."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from testpress_async.cli.output import CONNECT
from testpress_async.cli.settings import ConfigFile, Institute, config_path, kept_password, read_config
from testpress_async.client import Client
from testpress_async.errors import ConfigError
from testpress_async.http.policy import Timeouts
from testpress_async.http.window import RatePolicy
from testpress_async.sandbox import Sandbox

T = TypeVar("T")

NOT_SET = "not set"

CALL_DEADLINE_S = 2 * 3600.0  # a bulk call may sit out a whole hour's limit window

_RATE = re.compile(r"([0-9]+)(?:/(s|min|h))?")
_PERIOD_S = {None: 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


def institutes(_: object) -> list[str]:
    """Names for the shell's completion."""
    return list(read_config(config_path(environment())).institutes)


@Parameter(name="*", group=CONNECT)
@dataclass(frozen=True)
class Connection:
    """Where to connect, and as whom: flags only; `target` adds the environment and the config file.

    The password is never an argument: other users of the machine could read it.
    """

    institute: Annotated[
        str | None, Parameter(name=["--institute", "-i"], metavar="NAME", completer=institutes)
    ] = None
    """Institute of the config file; its default if not given. [env: TESTPRESS_INSTITUTE]"""
    base_url: Annotated[str | None, Parameter(metavar="URL")] = None
    """Its address, such as https://institute.testpress.in. [env: TESTPRESS_BASE_URL]"""
    username: Annotated[str | None, Parameter(metavar="NAME")] = None
    """Admin account. Its password comes from --password-file, TESTPRESS_PASSWORD, the keyring or a prompt;
    TESTPRESS_TOKEN does without. [env: TESTPRESS_USERNAME]"""
    password_file: Path | None = None
    """File whose first line is the password."""
    rate: Annotated[str | None, Parameter(metavar="N/UNIT")] = None
    """Known request limit, such as 600/min or 10/s; learned from the server's refusals if not given."""
    allow_http: bool = False
    """Accept plain http to other machines: password and token travel readable."""


# --- what is in effect ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """The institute that is meant and how to log in. `origins` tells where each value came from."""

    base_url: str | None = None
    username: str | None = None
    rate: str | None = None
    allow_http: bool = False
    max_connections: int | None = None
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(total_s=CALL_DEADLINE_S))
    institute: str | None = None
    password_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict[str, str])


def target(options: Connection, environ: Mapping[str, str], file: ConfigFile | None = None) -> Target:
    """What is in effect: flag before environment before file.

    The file's default institute counts only while nobody names another address; its name with another
    address is an error, as one institute's account must not go to another.

    Raises:
        ConfigError: The file, or a value in it, is unusable; or it and the environment contradict.
    """
    file = read_config(config_path(environ)) if file is None else file
    origins: dict[str, str] = {}

    def first(name: str, *candidates: tuple[T | None, str]) -> T | None:
        value, origins[name] = next(((v, where) for v, where in candidates if v), (None, NOT_SET))
        return value

    def known(variable: str) -> tuple[str | None, str]:
        return environ.get(variable) or None, variable

    wanted = first("institute", (options.institute, "--institute"), known("TESTPRESS_INSTITUTE"))
    address = first("base_url", (options.base_url, "--base-url"), known("TESTPRESS_BASE_URL"))
    name, kept = _meant(file, wanted, address, origins["base_url"])
    if kept is not None:
        origins["institute"] = origins["institute"] if wanted else "the file's default"
    place = "the file"
    kept = kept or Institute(base_url="")
    return Target(
        institute=name,
        base_url=first("base_url", (address, origins["base_url"]), (kept.base_url, place)),
        username=first(
            "username",
            (options.username, "--username"),
            known("TESTPRESS_USERNAME"),
            (kept.username, place),
        ),
        token=first("token", known("TESTPRESS_TOKEN")),
        password=first("password", known("TESTPRESS_PASSWORD")),
        password_file=options.password_file,
        rate=first("rate", (options.rate, "--rate"), (kept.rate, place)),
        allow_http=bool(first("allow_http", (options.allow_http, "--allow-http"), (kept.allow_http, place))),
        max_connections=kept.max_connections,
        timeouts=_timeouts(str(file.path), name, kept.timeouts),
        origins=origins,
    )


def _meant(
    file: ConfigFile, wanted: str | None, address: str | None, where: str
) -> tuple[str | None, Institute | None]:
    """The institute of the file that counts, with its name."""
    found = file.named(wanted)
    if found is None or address is None or address.rstrip("/") == found[1].base_url.rstrip("/"):
        return found or (None, None)
    if wanted is None:
        return None, None
    raise ConfigError(
        "--institute", f"{wanted} is at {found[1].base_url}, but {where} names {address}: give one of them"
    )


def _timeouts(place: str, name: str | None, given: Mapping[str, float]) -> Timeouts:
    for each in given.keys() - set(Timeouts.__struct_fields__):
        known = ", ".join(Timeouts.__struct_fields__)
        raise ConfigError(f"{place}: institutes.{name}.timeouts", f"there is no {each!r}; there are: {known}")
    return Timeouts(**{"total_s": CALL_DEADLINE_S, **given})


# --- from there to a client ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def reached(connection: Connection | None, *, sandbox: bool) -> AsyncGenerator[Target]:
    """What is in effect, or a sandbox that lives as long as this context."""
    options = connection or Connection()
    if not sandbox:
        yield target(options, environment())
        return
    async with Sandbox() as institute:
        yield Target(
            base_url=institute.url,
            username=institute.username,
            password=institute.password,
            rate=options.rate,
            origins={"base_url": "--sandbox", "username": "--sandbox", "password": "--sandbox"},
        )


@contextlib.asynccontextmanager
async def connected(connection: Connection | None, *, sandbox: bool, **more: Any) -> AsyncGenerator[Client]:
    """An open client of the institute that was asked for."""
    async with reached(connection, sandbox=sandbox) as found, client_for(found, **more) as client:
        yield client


def client_for(found: Target, **more: Any) -> Client:
    """A client as the user asked for it.

    Raises:
        ConfigError: Something is missing; names the option and the variable.
    """
    if found.base_url is None:
        raise ConfigError(
            "--base-url",
            "is missing: pass it, set TESTPRESS_BASE_URL, name an institute in the file that "
            "`testpress config` shows, or try --sandbox",
        )
    username, password = account(found)
    if found.max_connections is not None:
        more["max_connections"] = found.max_connections
    return Client(
        found.base_url,
        token=found.token,
        username=username,
        password=password,
        rate=rate_policy(found.rate),
        timeouts=found.timeouts,
        allow_http=found.allow_http,
        **more,
    )


def account(found: Target) -> tuple[str | None, str | None]:
    """Username and password; neither where a token is all there is."""
    if found.username is None:
        if found.token is None:
            raise ConfigError(
                "--username", "is missing: pass it, or set TESTPRESS_USERNAME or TESTPRESS_TOKEN"
            )
        return None, None
    password = _password(found)
    if password is None and found.token is not None and found.origins.get("username") != "--username":
        return None, None  # a token goes before an account that merely stands in a file
    return found.username, password or _asked_for(found.username)


def _password(found: Target) -> str | None:
    if found.password_file is not None:
        try:
            return found.password_file.read_text().partition("\n")[0].strip()
        except OSError as error:
            raise ConfigError("--password-file", error.strerror or "cannot be read") from None
    if found.password or not (found.base_url and found.username):
        return found.password
    return kept_password(found.base_url, found.username)


def _asked_for(username: str) -> str:
    if sys.stdin.isatty() and sys.stderr.isatty():
        return typed_password(username)
    raise ConfigError("TESTPRESS_PASSWORD", "is not set, and there is no terminal to ask on")


def typed_password(of: str) -> str:
    return getpass.getpass(f"Password of {of}: ", stream=sys.stderr)


def rate_policy(text: str | None) -> RatePolicy:
    """The policy in "600/min", "10/s", "1000/h" or "10" (a second)."""
    if text is None:
        return RatePolicy()
    found = _RATE.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise ConfigError("--rate", "expected something like 600/min, 10/s or 1000/h")
    return RatePolicy(requests=int(found[1]), per_s=_PERIOD_S[found[2]])


def environment() -> Mapping[str, str]:
    """The process's environment; read only here and by the options above."""
    return os.environ
