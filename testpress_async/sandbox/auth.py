"""Logins and tokens: HS256 JSON Web Tokens, with the refusals the API words them with.

Source of the wordings: django-rest-framework-jwt, whose header form (`Authorization: JWT …`) the API uses,
https://developer.testpress.in/docs/server-api/intro
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
from collections import Counter
from dataclasses import dataclass

import msgspec

from testpress_async.sandbox.settings import Settings

_HEADER = {"typ": "JWT", "alg": "HS256"}


class Claims(msgspec.Struct, frozen=True):
    """What a token says. `exp`: seconds since the epoch."""

    username: str
    user_id: int
    email: str
    exp: int


class Refused(Exception):
    """A token was not accepted; `detail` is the server's sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class LoginAnswer:
    """Status and JSON body of a login."""

    status: int
    body: dict[str, object]


class Door:
    """Hands out tokens and looks at them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = secrets.token_bytes(32)
        self._bad_logins: Counter[str] = Counter()
        self._last_exp = 0
        self._revoked_exp = 0

    def log_in(self, fields: dict[str, str], wall_s: float) -> LoginAnswer:
        """Answer a login with *fields* `username` and `password`."""
        missing = {
            name: ["This field is required."] for name in ("username", "password") if name not in fields
        }
        if missing:
            return LoginAnswer(400, dict(missing))
        blank = {
            name: ["This field may not be blank."] for name in ("username", "password") if not fields[name]
        }
        if blank:
            return LoginAnswer(400, dict(blank))
        username = fields["username"]
        if self._bad_logins[username] >= self._settings.max_bad_logins:
            detail = "Your account is locked because of too many failed logins."
            return LoginAnswer(403, {"error_code": "max_login_exceeded", "detail": detail})
        if not self._is_right(username, fields["password"]):
            self._bad_logins[username] += 1
            return LoginAnswer(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
        self._bad_logins[username] = 0
        return LoginAnswer(200, {"token": self.token(username, wall_s)})

    def token(self, username: str, wall_s: float) -> str:
        """A fresh token; no two are equal, however quickly they are asked for."""
        self._last_exp = max(math.ceil(wall_s + self._settings.token_ttl_s), self._last_exp + 1)
        user_id = 1 if username == self._settings.username else 2
        return sign(Claims(username, user_id, f"{username}@sandbox.example", self._last_exp), self._secret)

    def revoke(self) -> None:
        """Let every token handed out so far be expired, as after "log out all devices"."""
        self._revoked_exp = self._last_exp

    def look_at(self, header: str | None, wall_s: float) -> Claims:
        """The claims in an `Authorization` header.

        Raises:
            Refused: If it is missing, malformed, forged, expired or revoked.
        """
        words = (header or "").split()
        if not words or words[0].lower() != "jwt":
            raise Refused("Authentication credentials were not provided.")
        if len(words) != 2:
            raise Refused("Invalid Authorization header. No credentials provided.")
        claims = verify(words[1], self._secret)
        if claims.exp <= wall_s or claims.exp <= self._revoked_exp:
            raise Refused("Signature has expired.")
        return claims

    def is_admin(self, claims: Claims) -> bool:
        """Whether the admin endpoints are open to this user."""
        return claims.username == self._settings.username

    def _is_right(self, username: str, password: str) -> bool:
        known = username in (self._settings.username, "student")
        return hmac.compare_digest(password.encode(), self._settings.password.encode()) and known


def sign(claims: Claims, secret: bytes) -> str:
    """A token that says *claims*."""
    signed = f"{_b64(msgspec.json.encode(_HEADER))}.{_b64(msgspec.json.encode(claims))}"
    return f"{signed}.{_b64(_digest(signed, secret))}"


def verify(token: str, secret: bytes) -> Claims:
    """The claims of *token*, its life not looked at.

    Raises:
        Refused: If it is not a token, or signed by somebody else.
    """
    try:
        signed, signature = token.rsplit(".", 1)
        _, payload = signed.split(".")
        claims = msgspec.json.decode(_unb64(payload), type=Claims)
        given = _unb64(signature)
    except (ValueError, binascii.Error, msgspec.DecodeError) as exc:
        raise Refused("Error decoding signature.") from exc
    if not hmac.compare_digest(given, _digest(signed, secret)):
        raise Refused("Invalid signature.")
    return claims


def _digest(signed: str, secret: bytes) -> bytes:
    return hmac.new(secret, signed.encode(), hashlib.sha256).digest()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
