"""The guard: fewer requests at a time for a server that cannot keep up, and soon as many as before."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.http.guard import Guard

CEILING = 16


class Load:
    """Requests one after the other, as many a second as the guard allows at that latency."""

    def __init__(self, ceiling: int = CEILING) -> None:
        self.guard, self.now_s = Guard(ceiling), 0.0
        self.lowest = ceiling

    def answers(self, count: int, latency_s: float) -> None:
        for _ in range(count):
            self.now_s += latency_s / self.guard.limit
            self.guard.answered(latency_s, self.now_s)
            self.lowest = min(self.lowest, self.guard.limit)

    def complaints(self, count: int, after_s: float = 0.1) -> None:
        for _ in range(count):
            self.now_s += after_s
            self.guard.complained(self.now_s - after_s, self.now_s)
            self.lowest = min(self.lowest, self.guard.limit)


def test_a_healthy_server_gets_all_connections() -> None:
    """From the first request on."""
    load = Load()
    load.answers(1000, 0.12)
    assert load.lowest == CEILING


@pytest.mark.parametrize("sigma", [0.35, 0.7, 1.0])
def test_jitter_is_no_overload(sigma: float) -> None:
    """Latencies that scatter widely around the same median never cost a connection."""
    dice = random.Random(5)
    load = Load()
    for _ in range(50_000):
        load.answers(1, 0.12 * dice.lognormvariate(0.0, sigma))
    assert load.lowest == CEILING


def test_a_few_very_slow_answers_are_no_overload() -> None:
    """One in ten takes twenty seconds: the median does not care."""
    load = Load()
    for _ in range(500):
        load.answers(9, 0.1)
        load.answers(1, 20.0)
    assert load.lowest == CEILING


def test_our_own_delays_are_no_overload() -> None:
    """On loopback a busy event loop makes answers ten times slower, from 1 to 10 ms: nobody notices."""
    load = Load()
    load.answers(200, 0.001)
    load.answers(2000, 0.010)
    assert load.lowest == CEILING


def test_ten_times_slower_is_overload() -> None:
    """The number falls to a quarter, not further, and comes back as soon as the server does."""
    load = Load()
    load.answers(200, 0.12)
    load.answers(80, 1.2)
    assert load.guard.limit == load.lowest == CEILING // 4
    began_s = load.now_s
    load.answers(120, 0.12)
    assert load.guard.limit == CEILING
    assert load.now_s - began_s < 10


def test_a_server_that_stays_slower_is_believed_in_the_end() -> None:
    """An export that goes on to a heavier endpoint is not throttled for ever."""
    load = Load()
    load.answers(200, 0.1)
    load.answers(1000, 1.5)
    assert load.lowest < CEILING
    assert load.guard.limit == CEILING


def test_the_servers_own_words_bring_it_down_to_one() -> None:
    """503s and timeouts halve and halve again, never below one; good answers bring all back."""
    load = Load()
    load.complaints(200)
    assert load.guard.limit == load.lowest == 1
    began_s = load.now_s
    load.answers(300, 0.12)
    assert load.guard.limit == CEILING
    assert load.now_s - began_s < 15


def test_a_single_503_is_a_mishap() -> None:
    """One in a hundred costs nothing."""
    load = Load()
    for _ in range(50):
        load.answers(99, 0.1)
        load.complaints(1)
    assert load.lowest == CEILING


def test_what_was_sent_before_a_cut_cannot_cause_another() -> None:
    """Sixteen timeouts of the same moment are one piece of news."""
    guard = Guard(CEILING)
    for _ in range(CEILING):
        guard.complained(entered_s=1.0, now_s=31.0)
    assert guard.limit == int(0.7 * CEILING)
    for _ in range(100):
        guard.answered(latency_s=20.0, now_s=31.5)
    assert guard.limit == int(0.7 * CEILING)


@given(
    st.integers(1, 100),
    st.lists(
        st.tuples(st.sampled_from(["answers", "complaints"]), st.integers(1, 40), st.floats(0, 100)),
        max_size=30,
    ),
)
def test_it_stays_between_one_and_its_ceiling_and_recovers(
    ceiling: int, history: list[tuple[str, int, float]]
) -> None:
    """Whatever happened, after enough good answers everything is allowed again."""
    load = Load(ceiling)
    for what, count, duration_s in history:
        getattr(load, what)(count, duration_s)
        assert 1 <= load.guard.limit <= ceiling
    load.now_s += 200
    load.answers(5000, 0.1)
    assert load.guard.limit == ceiling
