"""Settings are frozen and checked when they are built."""

from __future__ import annotations

import math

import pytest

from testpress_async.errors import ConfigError
from testpress_async.http.policy import RetryPolicy, Timeouts, positive
from testpress_async.http.window import RatePolicy


@pytest.mark.parametrize("name", ["total_s", "try_s", "connect_s", "read_idle_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_timeouts_must_be_finite_and_above_zero(name: str, value: float) -> None:
    """No limit means "for ever", and the refusal names the field."""
    with pytest.raises(ConfigError, match="finite number") as caught:
        Timeouts(**{name: value})
    assert caught.value.parameter == f"Timeouts({name})"


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_slowest_body_must_be_a_finite_rate(value: float) -> None:
    """A rate below nothing or without end is refused."""
    with pytest.raises(ConfigError, match="min_bytes_per_s"):
        Timeouts(min_bytes_per_s=value)


def test_slowest_body_can_be_switched_off() -> None:
    """0 bytes per second is how the check is switched off."""
    assert Timeouts(min_bytes_per_s=0).min_bytes_per_s == 0


def test_no_try_at_all_is_refused() -> None:
    """The first try counts, so there is always one."""
    with pytest.raises(ConfigError, match="max_tries"):
        RetryPolicy(max_tries=0)
    assert RetryPolicy(max_tries=1).max_tries == 1


@pytest.mark.parametrize("name", ["first_s", "max_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_waits_must_be_finite_and_above_zero(name: str, value: float) -> None:
    """Bounds of waits are real durations."""
    with pytest.raises(ConfigError, match=name):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("name", ["max_throttles", "quota", "cost", "throttle_cost"])
def test_counts_must_not_be_negative(name: str) -> None:
    """Counts start at 0."""
    with pytest.raises(ConfigError, match=name):
        RetryPolicy(**{name: -1})
    assert getattr(RetryPolicy(**{name: 0}), name) == 0


@pytest.mark.parametrize("settings", [{"requests": 5}, {"per_s": 1.0}])
def test_half_a_limit_is_refused(settings: dict[str, float]) -> None:
    """A limit is a number of requests and a span, never one of them."""
    with pytest.raises(ConfigError, match="come together"):
        RatePolicy(**settings)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"requests": 0, "per_s": 1.0}, "requests"),
        ({"requests": 1, "per_s": 0.0}, "per_s"),
        ({"requests": 1, "per_s": math.inf}, "per_s"),
        ({"requests": 1, "per_s": math.nan}, "per_s"),
        ({"max_wait_s": -1.0}, "max_wait_s"),
        ({"max_wait_s": math.nan}, "max_wait_s"),
    ],
)
def test_unusable_limits_are_refused_by_name(settings: dict[str, float], field: str) -> None:
    """The refusal names the field that is wrong."""
    with pytest.raises(ConfigError) as caught:
        RatePolicy(**settings)
    assert caught.value.parameter == f"RatePolicy({field})"


@pytest.mark.parametrize("settings", [Timeouts(), RetryPolicy(), RatePolicy()])
def test_settings_are_frozen(settings: object) -> None:
    """A client's settings cannot change under it."""
    with pytest.raises(AttributeError):
        settings.max_tries = 3  # type: ignore[attr-defined]
    assert hash(settings) == hash(type(settings)())


def test_positive_accepts_whole_seconds() -> None:
    """An int is a number of seconds like any other."""
    positive("timeout_s", 3)
