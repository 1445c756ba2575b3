"""Who may ask: logins, tokens and rate limits. HS256 JSON Web Tokens, refused in the words of the API.

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
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

import msgspec

from testpress_async.sandbox.settings import RateLimit, Settings

_HEADER = {"typ": "JWT", "alg": "HS256"}


class Claims(msgspec.Struct, frozen=True):
    """What a token says. `exp`: seconds since the epoch."""

    username: str
    user_id: int
    email: str
    exp: int


class Refused(Exception):
    """A token was not accepted: the server's sentence."""


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
        empty = [name for name in ("username", "password") if not fields.get(name)]
        if empty:
            why = {True: "This field may not be blank.", False: "This field is required."}
            return LoginAnswer(400, {name: [why[name in fields]] for name in empty})
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


class Throttle:
    """Django REST framework's rate limit, decision by decision.

    A sliding log of *accepted* requests per user. A refused request is not logged, and the wait it is told
    is the time until the oldest accepted one leaves the window. All limits are asked: a request refused by
    one still takes a slot of the others, and the longest wait is told.

    Source: `SimpleRateThrottle` and `APIView.check_throttles`,
    https://www.django-rest-framework.org/api-guide/throttling/
    """

    def __init__(self, limits: tuple[RateLimit, ...]) -> None:
        self._limits = limits
        self._logs: defaultdict[str, tuple[deque[float], ...]] = defaultdict(
            lambda: tuple(deque() for _ in self._limits)
        )

    def wait_s(self, user: str, now_s: float) -> float | None:
        """None if the request is accepted (and logged), else the seconds until another one may be.

        Args:
            user: Whose budget pays.
            now_s: Monotonic seconds.
        """
        waits = [
            wait_s
            for limit, log in zip(self._limits, self._logs[user], strict=True)
            if (wait_s := _ask(limit, log, now_s)) is not None
        ]
        return max(waits, default=None)


def _ask(limit: RateLimit, log: deque[float], now_s: float) -> float | None:
    while log and log[0] <= now_s - limit.per_s:
        log.popleft()
    if len(log) >= limit.requests:
        return limit.per_s - (now_s - log[0])
    log.append(now_s)
    return None


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
