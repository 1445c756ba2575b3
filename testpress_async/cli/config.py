"""`testpress config`: what is in effect and where it came from; passwords in and out of the keyring."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from testpress_async.cli import exits
from testpress_async.cli.connect import (
    NOT_SET,
    Connection,
    Target,
    environment,
    institutes,
    target,
    typed_password,
)
from testpress_async.cli.output import Debug, err, out, wrote
from testpress_async.cli.settings import (
    EXAMPLE,
    ConfigFile,
    config_path,
    keep_password,
    kept_password,
    read_config,
)
from testpress_async.errors import ConfigError


def config(
    *,
    example: bool = False,
    set_password: Annotated[str | None, Parameter(metavar="NAME", completer=institutes)] = None,
    forget_password: Annotated[str | None, Parameter(metavar="NAME", completer=institutes)] = None,
    connection: Connection | None = None,
    debug: Debug | None = None,
) -> int:
    """Show what is in effect and where each value comes from.

    The file names institutes; it never holds secrets. A flag goes before the environment, the environment
    before the file.

    Parameters
    ----------
    example
        Print a file to begin with.
    set_password
        Ask for the password of this institute, or read it from stdin, and keep it in this machine's keyring.
    forget_password
        Take the password of this institute out of the keyring.
    """
    if example:
        wrote(EXAMPLE.encode())
        return exits.DONE
    file = read_config(config_path(environment()))
    if set_password is not None:
        keep_password(*_account(file, set_password), _typed(set_password))
        err.print(f"Kept in the keyring: the password of {set_password}.")
    elif forget_password is not None:
        keep_password(*_account(file, forget_password), None)
        err.print(f"Forgotten: the password of {forget_password}.")
    else:
        _print(file, target(connection or Connection(), environment(), file))
    return exits.DONE


def _account(file: ConfigFile, name: str) -> tuple[str, str]:
    """Address and username of an institute of the file."""
    found = file.named(name)
    if found is None or found[1].username is None:
        raise ConfigError(f"{file.path}: institutes.{name}", "has no username to keep a password for")
    return found[1].base_url, found[1].username


def _typed(name: str) -> str:
    password = typed_password(name) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise ConfigError("--set-password", "got no password; nothing was changed")
    return password


def _print(file: ConfigFile, found: Target) -> None:
    names = ", ".join(file.institutes) or "no institutes"
    out.print(f"{file.path}: {names if file.exists else 'there is no such file'}", markup=False)
    grid = Table.grid(padding=(0, 3))
    for name, value, origin in _rows(found):
        grid.add_row(Text(f"  {name}", style="bold"), Text(value), Text(origin, style="dim"))
    out.print(grid)


def _rows(found: Target) -> Iterator[tuple[str, str, str]]:
    for name in ("institute", "base_url", "username", "rate"):
        yield name, getattr(found, name) or "–", found.origins[name]
    usual = Target().timeouts
    given = {
        n: value
        for n in usual.__struct_fields__
        if (value := getattr(found.timeouts, n)) != getattr(usual, n)
    }
    if given:
        yield "timeouts", ", ".join(f"{name} = {value:g}" for name, value in given.items()), "the file"
    for name, origin in (("password", password_origin(found)), ("token", found.origins["token"])):
        yield name, "–" if origin == NOT_SET else "set", origin


def password_origin(found: Target) -> str:
    """Where the password would be taken from."""
    if found.password_file is not None:
        return "--password-file"
    if found.password or not (found.base_url and found.username):
        return found.origins["password"]
    return "the keyring" if kept_password(found.base_url, found.username) else NOT_SET
