"""Exit codes, and one sentence with a remedy for every error."""

from __future__ import annotations

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

DONE, FAILED, USAGE, REFUSED, MISSING, UNREACHABLE, LIMITED, UNREADABLE, DISK, UNPROVEN = range(10)
INTERRUPTED = 130

MEANINGS: dict[int, str] = {
    DONE: "done",
    FAILED: "a bug here: please report it",
    USAGE: "an option, setting or address is unusable",
    REFUSED: "the login or the account's rights were refused",
    MISSING: "there is no such record",
    UNREACHABLE: "the institute could not be reached or kept failing",
    LIMITED: "the institute's request limit leaves no room",
    UNREADABLE: "answers or records not understood; see quarantine/",
    DISK: "the output could not be written or is damaged",
    UNPROVEN: "exported, but a table changed while read: run it again",
    INTERRUPTED: "stopped by Ctrl-C or SIGTERM; what was committed stays",
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


def sentence(error: Error) -> str:
    """What happened and what helps."""
    remedy = _REMEDIES.get(code_of(error), "")
    return f"{error}. {remedy}".replace("..", ".") if remedy else str(error)


def table() -> str:
    """The exit codes as text for `--help`."""
    return "\n".join(f"{code:>3}  {meaning}" for code, meaning in MEANINGS.items())
