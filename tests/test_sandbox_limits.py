"""The sandbox's rate limit and tokens, without a socket."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.sandbox import RateLimit, Settings
from testpress_async.sandbox.auth import Claims, Door, Refused, Throttle, sign, verify

WALL_S = 1_700_000_000.0


class FrameworkThrottle:
    """`SimpleRateThrottle.allow_request` and `.wait` of Django REST framework, line by line."""

    def __init__(self, num_requests: int, duration: float) -> None:
        self.num_requests, self.duration = num_requests, duration
        self.history: list[float] = []

    def allow_request(self, now: float) -> bool:
        self.now = now
        while self.history and self.history[-1] <= self.now - self.duration:
            self.history.pop()
        if len(self.history) >= self.num_requests:
            return False
        self.history.insert(0, self.now)
        return True

    def wait(self) -> float | None:
        remaining_duration = self.duration - (self.now - self.history[-1])
        available_requests = self.num_requests - len(self.history) + 1
        if available_requests <= 0:
            return None
        return remaining_duration / float(available_requests)


@given(
    limits=st.lists(
        st.builds(RateLimit, st.integers(1, 6), st.sampled_from([0.5, 1.0, 10.0, 60.0])),
        min_size=1,
        max_size=3,
    ),
    gaps_s=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 7.0, 10.0, 61.0]), max_size=60),
)
def test_throttle_decides_as_the_framework(limits: list[RateLimit], gaps_s: list[float]) -> None:
    """Every decision and every wait is the framework's, also with several limits at once."""
    throttle = Throttle(tuple(limits))
    framework = [FrameworkThrottle(limit.requests, limit.per_s) for limit in limits]
    now_s = 1_000.0
    for gap_s in gaps_s:
        now_s += gap_s
        waits = [one.wait() for one in framework if not one.allow_request(now_s)]
        assert throttle.wait_s("admin", now_s) == max(
            (wait for wait in waits if wait is not None), default=None
        )


def test_throttle_counts_users_apart() -> None:
    """What one user spends, another still has; no limit lets everybody through."""
    throttle = Throttle((RateLimit(1, 60.0),))
    assert throttle.wait_s("a", 0.0) is None
    assert throttle.wait_s("a", 20.0) == 40.0
    assert throttle.wait_s("b", 20.0) is None
    assert throttle.wait_s("a", 60.0) is None
    assert [Throttle(()).wait_s("a", 0.0) for _ in range(3)] == [None] * 3


def test_tokens_say_what_the_real_ones_say() -> None:
    """Three parts, HS256, the documented claims, an end in seconds since the epoch."""
    door = Door(Settings(token_ttl_s=60.0))
    token = door.token("admin", WALL_S)
    assert token.count(".") == 2
    claims = door.look_at(f"JWT {token}", WALL_S)
    assert claims == Claims("admin", 1, "admin@sandbox.example", math.ceil(WALL_S + 60))
    assert door.is_admin(claims)
    assert not door.is_admin(door.look_at(f"JWT {door.token('student', WALL_S)}", WALL_S))


def test_no_two_tokens_are_equal() -> None:
    """Two logins in the same second give two tokens."""
    door = Door(Settings())
    assert len({door.token("admin", WALL_S) for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (None, "Authentication credentials were not provided."),
        ("", "Authentication credentials were not provided."),
        ("Bearer abc", "Authentication credentials were not provided."),
        ("JWT", "Invalid Authorization header. No credentials provided."),
        ("JWT a b", "Invalid Authorization header. No credentials provided."),
        ("JWT nonsense", "Error decoding signature."),
        ("JWT a.b", "Error decoding signature."),
        ("JWT a.b.c", "Error decoding signature."),
        ("JWT é.é.é", "Error decoding signature."),
        (f"JWT {sign(Claims('admin', 1, '', 2_000_000_000), b'another institute')}", "Invalid signature."),
    ],
)
def test_bad_headers_are_refused(header: str | None, detail: str) -> None:
    """Each kind of bad header gets the server's own sentence."""
    with pytest.raises(Refused) as refused:
        Door(Settings()).look_at(header, WALL_S)
    assert str(refused.value) == detail


def test_tokens_end() -> None:
    """A token is good before its `exp`, expired from then on, and expired at once when revoked."""
    door = Door(Settings(token_ttl_s=60.0))
    header = f"JWT {door.token('admin', WALL_S)}"
    door.look_at(header, WALL_S + 59.0)
    with pytest.raises(Refused, match=r"Signature has expired\."):
        door.look_at(header, WALL_S + 60.0)
    door.revoke()
    with pytest.raises(Refused, match=r"Signature has expired\."):
        door.look_at(header, WALL_S)
    door.look_at(f"JWT {door.token('admin', WALL_S)}", WALL_S)


def test_a_changed_token_is_refused() -> None:
    """Claims cannot be changed without the secret."""
    token = sign(Claims("student", 2, "", 5), b"secret")
    other = sign(Claims("admin", 1, "", 5), b"guess")
    head, _, signature = token.split(".")
    assert verify(token, b"secret").username == "student"
    with pytest.raises(Refused, match="Invalid"):
        verify(f"{head}.{other.split('.')[1]}.{signature}", b"secret")


def test_logins_are_answered_as_the_framework_does() -> None:
    """A good one with a token; a bad one, a missing and a blank field with 400 and the field's name."""
    door = Door(Settings())
    good = door.log_in({"username": "admin", "password": "sandbox"}, WALL_S)
    assert (good.status, list(good.body)) == (200, ["token"])
    bad = door.log_in({"username": "admin", "password": "x"}, WALL_S)
    assert bad.body == {"non_field_errors": ["Unable to log in with provided credentials."]}
    stranger = door.log_in({"username": "nobody", "password": "sandbox"}, WALL_S)
    missing = door.log_in({"username": "admin"}, WALL_S)
    assert missing.body == {"password": ["This field is required."]}
    blank = door.log_in({"username": "", "password": ""}, WALL_S)
    assert list(blank.body) == ["username", "password"]
    assert {answer.status for answer in (bad, stranger, missing, blank)} == {400}


def test_bad_logins_lock_the_account() -> None:
    """After the limit even the right password is refused; a good login before it starts the count anew."""
    door = Door(Settings(max_bad_logins=2))
    wrong, right = {"username": "admin", "password": "x"}, {"username": "admin", "password": "sandbox"}
    assert [door.log_in(fields, WALL_S).status for fields in (wrong, right, wrong, wrong)] == [
        400,
        200,
        400,
        400,
    ]
    locked = door.log_in(right, WALL_S)
    assert (locked.status, locked.body["error_code"]) == (403, "max_login_exceeded")
    assert door.log_in({"username": "student", "password": "sandbox"}, WALL_S).status == 200
