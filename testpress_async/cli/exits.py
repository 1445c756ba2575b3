"""Exit codes, and one sentence with a remedy for every error; of a bug of ours, a log to be sent to us."""

from __future__ import annotations

import os
import platform
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from testpress_async._version import __version__
from testpress_async.cli.settings import home_of
from testpress_async.errors import (
    AuthenticationFailed,
    BadRequest,
    BodyTooLarge,
    ConfigError,
    DatasetError,
    DecodeFailed,
    Error,
    ForeignOrigin,
    ListingChanged,
    NotFound,
    PermissionDenied,
    RateLimited,
)
from testpress_async.http.clock import SystemClock

DONE, FAILED, USAGE, REFUSED, MISSING, UNREACHABLE, LIMITED, UNREADABLE, DISK, UNPROVEN = range(10)
CRASHED = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130

MEANINGS: dict[int, str] = {
    DONE: "done",
    FAILED: "a red line of `testpress check`, or a package is missing",
    USAGE: "an option, setting or address is unusable",
    REFUSED: "the login or the account's rights were refused",
    MISSING: "there is no such record",
    UNREACHABLE: "the institute could not be reached or kept failing",
    LIMITED: "the institute's request limit leaves no room",
    UNREADABLE: "answers or records not understood; see quarantine/",
    DISK: "the output could not be written or is damaged",
    UNPROVEN: "exported, but a table changed while read: run it again",
    CRASHED: "a bug here: please report it, with the log it names",
    INTERRUPTED: "stopped by Ctrl-C, SIGTERM or a no; what was committed stays",
}

_CODES: tuple[tuple[type[Error], int], ...] = (
    (ConfigError, USAGE),
    (ForeignOrigin, USAGE),
    (BadRequest, USAGE),
    (BodyTooLarge, UNREADABLE),
    (AuthenticationFailed, REFUSED),
    (PermissionDenied, REFUSED),
    (NotFound, MISSING),
    (RateLimited, LIMITED),
    (DecodeFailed, UNREADABLE),
    (ListingChanged, UNREADABLE),
    (DatasetError, DISK),
    (Error, UNREACHABLE),
)

_REMEDIES: dict[int, str] = {
    REFUSED: "The account must be an admin of this institute; `testpress check` tells more.",
    MISSING: "Check the id.",
    UNREACHABLE: "Run `testpress check`; the same command later goes on where this one stopped.",
    LIMITED: "Run the same command later, or give the limit with --rate so that it is never passed.",
    UNREADABLE: "If the address is right, the API has changed: please report the place named above.",
}


def code_of(error: Error) -> int:
    """The exit code for *error*."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def sentence(error: Error, arguments: Sequence[str] = ()) -> str:
    """What happened and what helps."""
    if isinstance(error, ConfigError):
        error = _as_typed(error, arguments)
    helps = remedy(error)
    return f"{error}. {helps}".replace("..", ".") if helps else str(error)


def _as_typed(error: ConfigError, arguments: Sequence[str]) -> ConfigError:
    """The library names its parameter, such as `started_after`; whoever typed an option knows it by that."""
    option = "--" + error.parameter.replace("_", "-")
    typed = any(each.partition("=")[0] == option for each in arguments)
    return ConfigError(option, error.problem) if typed else error


def remedy(error: Error) -> str:
    """What helps; "" where the error says so itself."""
    return _REMEDIES.get(code_of(error), "")


# --- a bug of ours -----------------------------------------------------------------------------------

# The log holds where it happened and in which versions. Texts of foreign exceptions are left out, as they
# quote values; so are local variables and the values of options.

KEPT_LOGS = 20
_OPTION = re.compile(r"--?[a-z][a-z-]*")
_JWT = re.compile(r"eyJ[\w-]{4,}\.[\w-]+\.[\w-]*")


def crashed(error: Exception, arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """One sentence about a bug of ours, and where its log is."""
    try:
        log = f"{write_log(error, arguments, environ)} tells more, without records and passwords"
    except OSError as refused:
        log = f"No log could be written ({refused.strerror}); --debug shows more"
    return f"a bug here: {_kind_of(error)} in {_place_of(error)}. {log}. Please report it."


def write_log(error: BaseException, arguments: Sequence[str], environ: Mapping[str, str]) -> Path:
    """Describe *error* in a new file that only its owner can read. Raises OSError."""
    folder = home_of(environ, "XDG_STATE_HOME", ".local/state")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.fromtimestamp(SystemClock().wall_s(), UTC)
    path = folder / f"crash-{now:%Y%m%d-%H%M%S}-{os.getpid()}.log"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join([*_circumstances(arguments), "", *described(error), ""]))
    for old in sorted(folder.glob("crash-*.log"))[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    return path


def _circumstances(arguments: Sequence[str]) -> Iterator[str]:
    yield f"testpress-async {__version__}, Python {platform.python_version()}, {platform.system()}"
    yield ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "msgspec", "cyclopts", "rich"))
    command = arguments[0] if arguments and arguments[0].isalpha() else ""
    options = (found[0] for each in arguments[1:] if (found := _OPTION.match(each)))
    yield " ".join(["testpress", command, *options, "(values left out)"])


def described(error: BaseException, label: str = "") -> Iterator[str]:
    """*error* and what it came from, down to the lines of code; no values."""
    yield f"{label}{_kind_of(error)}{_text_of(error)}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {_shown(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line or ''}"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            yield from described(inner, "in it: ")  # pyright: ignore[reportUnknownArgumentType]
    if error.__cause__ is not None:
        yield from described(error.__cause__, "caused by: ")
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from described(error.__context__, "while handling: ")


def _kind_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _text_of(error: BaseException) -> str:
    if isinstance(error, Error):  # its text holds no secrets and no records
        return f": {error}"
    return f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""


def _shown(filename: str) -> str:
    """A path without this machine's folders."""
    _, found, rest = filename.rpartition("/testpress_async/")
    if found:
        return f"testpress_async/{rest}"
    return filename.rpartition("/site-packages/")[2] if "/site-packages/" in filename else Path(filename).name


def _place_of(error: BaseException) -> str:
    """The innermost line of ours, such as "harvest/run.py:12"."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/testpress_async/" in f.filename]
    if not frames:
        return "a place unknown"
    return f"{_shown(frames[-1].filename).removeprefix('testpress_async/')}:{frames[-1].lineno}"


def whole(error: BaseException, environ: Mapping[str, str]) -> str:
    """The traceback as Python shows it, for the user's own screen; passwords and tokens are blotted out."""
    text = "".join(traceback.format_exception(error))
    for name in ("TESTPRESS_PASSWORD", "TESTPRESS_TOKEN"):
        if secret := environ.get(name):
            text = text.replace(secret, "***")
    return _JWT.sub("***", text)
