"""Named institutes in the user's own file, as in `EXAMPLE`. Secrets never stand there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from testpress_async.errors import ConfigError

SECRET_KEYS = ("password", "passwd", "token", "secret", "jwt")

EXAMPLE = """\
# The institute that is meant if none is named.
default = "main"

[institutes.main]
base_url = "https://institute.testpress.in"
username = "admin"
# rate = "600/min"           # a known request limit; learned from the server if not given
# max_connections = 16       # most requests on the way at once
# timeouts = { try_s = 60, read_idle_s = 30 }
# allow_http = false

# Passwords and tokens do not belong here:
#   testpress config --set-password main
# keeps one in this machine's keyring; TESTPRESS_PASSWORD and TESTPRESS_TOKEN work everywhere.
"""


class Institute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[institutes.NAME]` of the file. `timeouts` are fields of `Timeouts`."""

    base_url: str
    username: str | None = None
    rate: str | None = None
    max_connections: int | None = None
    allow_http: bool = False
    timeouts: dict[str, float] = {}


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file at `path` says; nothing if there is no such file."""

    path: Path
    exists: bool = False
    default: str | None = None
    institutes: dict[str, Institute] = {}

    def named(self, name: str | None) -> tuple[str, Institute] | None:
        """The institute called *name*; without a name the default, or the only one.

        Raises:
            ConfigError: There is none of that name.
        """
        name = name or self.default or (next(iter(self.institutes)) if len(self.institutes) == 1 else None)
        if name is None:
            return None
        if name not in self.institutes:
            known = ", ".join(self.institutes) or "none"
            raise ConfigError("--institute", f"{self.path} has no institute {name!r}; it has: {known}")
        return name, self.institutes[name]


def home_of(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Our directory below an XDG one: `$XDG_CONFIG_HOME/testpress`, `~/.config/testpress` without it."""
    base = Path(environ.get(variable, ""))
    if not base.is_absolute():  # as the XDG specification wants it
        base = Path(environ.get("HOME") or Path.home()) / default
    return base / "testpress"


def config_path(environ: Mapping[str, str]) -> Path:
    return home_of(environ, "XDG_CONFIG_HOME", ".config") / "config.toml"


def read_config(path: Path) -> ConfigFile:
    """The file at *path*; an empty one if there is none.

    Raises:
        ConfigError: It cannot be read, is not understood, or holds a secret; what it holds is not told.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ConfigFile(path=path)
    except OSError as error:
        raise ConfigError(str(path), error.strerror or "cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is not TOML{_line_of(error)}") from None
    _refuse_secrets(path, found)
    return _checked(path, found)


def _line_of(error: ValueError) -> str:
    """Where the parser stopped; its other words quote the file, which may hold a secret after all."""
    found = re.search(r"\(at [\w ,]+\)$", str(error))
    return f" {found[0]}" if found else ""


def _checked(path: Path, found: dict[str, Any]) -> ConfigFile:
    for key in found.keys() - {"default", "institutes"}:
        raise ConfigError(str(path), f"{key!r} is not known; there are: default, [institutes.NAME]")
    default, tables = found.get("default"), found.get("institutes", {})
    if not (default is None or isinstance(default, str)) or not isinstance(tables, dict):
        raise ConfigError(str(path), 'expected default = "NAME" and tables [institutes.NAME]')
    institutes: dict[str, Institute] = {}
    for name, table in cast(dict[str, object], tables).items():
        try:
            institutes[name] = msgspec.convert(table, Institute)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path}: institutes.{name}", str(error)) from None
    if default is not None and default not in institutes:
        raise ConfigError(f"{path}: default", f"there is no [institutes.{default}]")
    return ConfigFile(path=path, exists=True, default=default, institutes=institutes)


def _refuse_secrets(path: Path, found: dict[str, Any]) -> None:
    for place in _secret_places(found, ""):
        raise ConfigError(
            f"{path}: {place}",
            "secrets do not belong in this file: take it out, and keep it with "
            "`testpress config --set-password NAME`, in TESTPRESS_PASSWORD or in TESTPRESS_TOKEN",
        )


def _secret_places(table: Mapping[str, Any], above: str) -> Iterator[str]:
    for key, value in table.items():
        if any(word in key.lower() for word in SECRET_KEYS) and not isinstance(value, dict):
            yield f"{above}{key}"
        elif isinstance(value, dict):
            yield from _secret_places(cast(dict[str, Any], value), f"{above}{key}.")


# --- the keyring ---------------------------------------------------------------------------------------


def kept_password(base_url: str, username: str) -> str | None:
    """The password this machine's keyring has for exactly this account; None if it has none."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password(_service(base_url), username)
    except KeyringError:
        return None


def keep_password(base_url: str, username: str, password: str | None) -> None:
    """Keep *password* in this machine's keyring; None forgets it.

    Raises:
        ConfigError: The package is not installed, this machine has no keyring, or nothing is to be forgotten.
    """
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ConfigError("keyring", "is not installed: pip install 'testpress-async[keyring]'") from None
    try:
        if password is None:
            keyring.delete_password(_service(base_url), username)
        else:
            keyring.set_password(_service(base_url), username, password)
    except KeyringError:
        problem = "this machine's has none for the account, or cannot be used: set TESTPRESS_PASSWORD instead"
        raise ConfigError("keyring", problem) from None


def _service(base_url: str) -> str:
    return f"testpress {base_url.rstrip('/')}"
