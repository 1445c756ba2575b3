"""Where an iteration stands, as a short text bound to its listing."""

from __future__ import annotations

import base64
import hashlib

import msgspec

from testpress_async.errors import ConfigError


class Position(msgspec.Struct, frozen=True, array_like=True):
    """`offset` records of page `page` were handed out. `listing`: fingerprint of path and filters."""

    listing: str
    page: int
    offset: int = 0
    version: int = 1


def fingerprint(target: str) -> str:
    """A short name for *target* (path and filters) that reveals nothing of it."""
    return hashlib.blake2s(target.encode(), digest_size=6).hexdigest()


def write_token(position: Position) -> str:
    """*position* as text that survives URLs, shells and JSON."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_token(token: str, listing: str) -> Position:
    """The position in *token*. Raises ConfigError if it is damaged or belongs to another listing."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        position = msgspec.json.decode(raw, type=Position)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise ConfigError("token", "is not a resume token: it is damaged or cut") from None
    if position.version != 1 or position.page < 1 or position.offset < 0:
        raise ConfigError("token", "is from another version of this library")
    if position.listing != listing:
        raise ConfigError("token", "belongs to another listing: resume with the same path and filters")
    return position
