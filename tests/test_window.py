"""The mirror of the server's windows: what it counts, what it learns, how much of a budget it uses."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import ConfigError
from testpress_async.http.window import (
    CLOCK_DRIFT,
    MAX_PAUSE_S,
    RESOLUTION,
    USUAL_PERIODS_S,
    History,
    Limit,
    RatePolicy,
    Window,
)
from tests.rate_simulator import (
    DRFServer,
    FixedWindowServer,
    GateLimiter,
    NginxServer,
    Server,
    SimulatedClient,
    SimulatedClock,
    Simulation,
)

WORKERS = 16


# --- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"requests": 5}, "RatePolicy"),
        ({"per_s": 5.0}, "RatePolicy"),
        ({"requests": 0, "per_s": 1.0}, "RatePolicy(requests)"),
        ({"limits": ((5, 1.0), (0, 60.0))}, "RatePolicy(requests)"),
        ({"requests": 5, "per_s": 0.0}, "RatePolicy(per_s)"),
        ({"requests": 5, "per_s": math.nan}, "RatePolicy(per_s)"),
        ({"limits": ((5, math.inf),)}, "RatePolicy(per_s)"),
        ({"max_wait_s": -1.0}, "RatePolicy(max_wait_s)"),
        ({"max_wait_s": math.nan}, "RatePolicy(max_wait_s)"),
        ({"probe_after": 0}, "RatePolicy(probe_after)"),
    ],
)
def test_an_unusable_policy_is_refused_when_it_is_built(settings: dict[str, object], parameter: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError) as caught:
        RatePolicy(**settings)  # type: ignore[arg-type]
    assert caught.value.parameter == parameter


def test_all_given_limits_count() -> None:
    """The short form and the list add up, and are in force from the start, shortest period first."""
    policy = RatePolicy(requests=1000, per_s=3600, limits=((60, 60), (4, 7.5)))
    assert policy.known == (Limit(1000, 3600), Limit(60, 60), Limit(4, 7.5))
    assert Window(policy).learned == (Limit(4, 7.5), Limit(60, 60), Limit(1000, 3600))


# --- history -----------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 400).map(lambda gap_s: gap_s**2 / 100), min_size=1, max_size=200),
    st.sampled_from([(1.0, 60.0, 3600.0), (0.5, 60.0, 300.0), (7.0,)]),
    st.randoms(use_true_random=False),
)
def test_the_history_never_counts_too_few_and_hardly_too_many(
    gaps_s: list[float], periods_s: tuple[float, ...], dice: random.Random
) -> None:
    """For every period: all that are in it, and else only such as left it a hair ago."""
    history, now_s, times_s = History(periods_s), 0.0, list[float]()
    for gap_s in gaps_s:
        now_s += gap_s
        history.add(now_s)
        times_s.append(now_s)
        if dice.random() < 0.3:
            now_s += dice.random() * periods_s[0]
        history.advance(now_s)
        for index, period_s in enumerate(periods_s):
            slack_s = period_s * (CLOCK_DRIFT + RESOLUTION) + 1e-6
            fewest = sum(time_s > now_s - period_s for time_s in times_s)
            most = sum(time_s > now_s - period_s - slack_s for time_s in times_s)
            assert fewest <= history.count(index) <= most


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.integers(0, 2))
def test_the_history_foresees_when_each_request_leaves(gaps_s: list[float], index: int) -> None:
    """Until that moment the period holds it; a hair later, when entries have merged, no longer."""
    history, now_s = History((1.0, 60.0, 3600.0)), 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        history.add(now_s)
    history.advance(now_s)
    held = history.count(index)
    assert history.leaves_s(index, held + 1) is None
    leaves_s = [history.leaves_s(index, nth) for nth in range(1, held + 1)]
    hair_s = 2 * RESOLUTION * history.ages[index].period_s
    for at_s in leaves_s:
        assert at_s is not None
        now_s = max(now_s, at_s - 1e-6)
        history.advance(now_s)
        assert history.count(index) >= sum(other_s is not None and other_s > now_s for other_s in leaves_s)
        now_s = max(now_s, at_s + hair_s)
        history.advance(now_s)
        assert history.count(index) <= sum(
            other_s is not None and other_s > now_s - hair_s for other_s in leaves_s
        )


def test_the_history_is_bounded() -> None:
    """200,000 requests in two hours take at most 10,000 entries for each period."""
    history = History(USUAL_PERIODS_S)
    for number in range(200_000):
        history.add(number * 0.036)
    for age in history.ages:
        assert len(age.times_s) == len(age.counts) <= 1.3 / RESOLUTION
    assert sum(sum(age.counts) for age in history.ages) == 200_000


def test_the_history_finds_requests_by_time() -> None:
    """However old they are, as long as the longest period remembers them."""
    history = History((1.0, 60.0))
    for time_s in (10.0, 40.0, 50.0, 50.5):
        history.add(time_s)
    history.advance(51.0)
    assert history.any_between(39.9, 40.1)
    assert history.any_between(50.4, 50.6)
    assert not history.any_between(41.0, 49.0)
    assert not history.any_between(51.0, 99.0)
    history.advance(75.0)
    assert not history.any_between(9.0, 11.0)


# --- what one 429 teaches ----------------------------------------------------------------------------


class Script:
    """A window, driven by hand."""

    def __init__(self, policy: RatePolicy | None = None) -> None:
        self.window, self.now_s = Window(policy or RatePolicy()), 1000.0

    def wait(self, duration_s: float) -> None:
        self.now_s += duration_s

    def wait_for_room(self) -> None:
        while not self.window.has_room(self.now_s):  # entries that merge may leave a hair later than foreseen
            self.wait(max(self.opens_in_s or 0.0, 1e-6))

    def accept(self, count: int = 1, *, rtt_s: float = 0.1, gap_s: float = 0.0) -> None:
        for _ in range(count):
            assert self.window.has_room(self.now_s)
            self.window.in_flight += 1
            entered_s, self.now_s = self.now_s, self.now_s + rtt_s
            self.window.accepted(self.now_s, entered_s)
            self.now_s += gap_s

    def refuse(self, retry_after_s: float | None, *, rtt_s: float = 0.1) -> None:
        self.window.in_flight += 1
        entered_s, self.now_s = self.now_s, self.now_s + rtt_s
        self.window.throttled(self.now_s, entered_s, retry_after_s)

    @property
    def opens_in_s(self) -> float | None:
        at_s = self.window.opens_s(self.now_s)
        return None if at_s is None else at_s - self.now_s


@pytest.mark.parametrize(("period_s", "requests"), [(1.0, 5), (60.0, 30), (3600.0, 500), (86400.0, 400)])
def test_a_429_teaches_period_and_number(period_s: float, requests: int) -> None:
    """The period is the one for which the server can be waiting for a request of ours."""
    script = Script()
    script.accept(requests, rtt_s=0.01, gap_s=period_s / requests / 2)
    used_s = script.now_s - 1000.0
    script.refuse(math.ceil(period_s - used_s))
    assert script.window.learned == (Limit(requests, period_s),)


def test_answers_that_were_on_their_way_still_count() -> None:
    """The limit is what the server accepted, whether we knew already or not."""
    script = Script()
    script.accept(10, rtt_s=0.01)
    script.window.in_flight += 3
    entered_s = script.now_s
    script.refuse(60.0)
    assert script.window.learned == (Limit(10, 60.0),)
    script.window.accepted(script.now_s, entered_s)
    script.window.accepted(script.now_s, entered_s)
    script.window.throttled(script.now_s, entered_s, 60.0)
    assert script.window.learned == (Limit(12, 60.0),)


def test_a_second_longer_limit_gets_a_mirror_of_its_own() -> None:
    """60 a minute was learned; then the server asks for more than a minute."""
    script = Script()
    script.accept(60, rtt_s=0.01)
    script.refuse(60.0)
    for _ in range(3):
        script.wait(61)
        script.accept(60, rtt_s=0.01)
    script.wait(61)
    script.refuse(math.ceil(3600 - (script.now_s - 1000.0)))
    assert script.window.learned == (Limit(60, 60.0), Limit(240, 3600.0))


def test_one_429_that_nothing_explains_only_pauses() -> None:
    """A firewall's whim is no limit: three requests ago is not what the server waits for."""
    script = Script()
    script.accept(3)
    script.refuse(30.0)
    assert script.window.learned == ()
    assert script.opens_in_s == pytest.approx(30.0)
    script.wait(30.0)
    script.accept(5)


def test_after_an_unexplained_429_one_goes_first() -> None:
    """When the pause ends a single request shows whether it is over; each answer admits one more."""
    script = Script()
    script.accept(3)
    script.refuse(30.0)
    script.wait(30.0)
    window = script.window
    window.in_flight += 1
    assert not window.has_room(script.now_s)
    assert script.opens_in_s is None
    window.accepted(script.now_s + 0.1, script.now_s)
    window.in_flight += 1
    assert window.has_room(script.now_s)
    window.in_flight += 1
    assert not window.has_room(script.now_s)


@pytest.mark.parametrize("nonsense", [None, 0.0, -1.0, math.nan, math.inf, -math.inf])
def test_429s_without_a_usable_time_pause_longer_and_longer(nonsense: float | None) -> None:
    """1, 2, 4 … at most 60 seconds; never none at all, never for ever; success begins anew."""
    script = Script()
    pauses_s = list[float]()
    for _ in range(8):
        script.refuse(nonsense)
        assert script.opens_in_s is not None
        pauses_s.append(script.opens_in_s)
        script.wait(pauses_s[-1])
    assert pauses_s == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    script.accept()
    script.refuse(nonsense)
    assert script.opens_in_s == pytest.approx(1)


def test_an_absurd_time_is_cut() -> None:
    """Nobody sleeps for years."""
    script = Script()
    script.refuse(1e20)
    assert script.opens_in_s == MAX_PAUSE_S


def test_waiting_as_asked_in_vain_waits_longer() -> None:
    """When others grab every slot that frees, we knock less and less often."""
    script = Script()
    pauses_s = list[float]()
    for _ in range(6):
        script.refuse(1.0)
        assert script.opens_in_s is not None
        pauses_s.append(script.opens_in_s)
        script.wait(pauses_s[-1])
    assert pauses_s == pytest.approx([1, 1, 2, 4, 8, 16])
    assert script.window.learned == ()


@pytest.mark.parametrize(("used", "limits"), [(28, {28, 40}), (38, {38, 39, 40})])
def test_a_given_limit_that_a_429_lowered_comes_back_and_is_never_passed(used: int, limits: set[int]) -> None:
    """Somebody else used a part once. The old limit is tried again: at once if much was lost, else slowly."""
    script = Script(RatePolicy(requests=40, per_s=60.0, probe_after=40))
    script.accept(used, rtt_s=0.01, gap_s=1.0)
    script.refuse(math.ceil(60 - used * 1.01))
    seen = {script.window.learned[0].requests}
    for _ in range(400):
        script.wait_for_room()
        script.accept(rtt_s=0.1)
        seen.add(script.window.learned[0].requests)
    assert seen == limits


def test_a_guess_does_not_last() -> None:
    """A process that starts when the budget is used up sees 429s it cannot explain; it takes what it got
    for the limit, for one window, and learns again, even if it sends one request after the other."""
    simulation, (old,) = simulate(DRFServer((600, 60.0)))
    simulation.run_for(200.0)
    old.stopped = True
    simulation.run_for(1.0)
    new = simulation.add_client(GateLimiter(simulation.clock), workers=1)
    simulation.run_for(240.0)
    assert simulation.measure(60.0).accepted >= 400
    assert all(limit.requests >= 400 for limit in new.limiter.gate.learned)


def test_a_burst_of_strangers_halves_the_limit_at_most() -> None:
    """A single 429 with nearly nothing of ours in the window does not ruin us for hours."""
    script = Script()
    script.accept(100, rtt_s=0.001)
    script.refuse(60.0)
    script.wait(100.0)
    script.accept(3)
    script.refuse(40.0)
    assert script.window.learned[-1] == Limit(50, 60.0)


def test_unsent_and_lost_count_as_what_they_are() -> None:
    """What never left takes nothing; what may have arrived takes a place."""
    window = Window(RatePolicy(requests=1, per_s=60.0))
    window.in_flight += 1
    window.unsent()
    assert window.has_room(1000.0)
    window.in_flight += 1
    window.lost(1000.0)
    assert not window.has_room(1000.0)


@given(st.integers(1, 6), st.lists(st.floats(0.0, 30.0), max_size=6), st.integers(0, 3), st.integers(0, 25))
def test_a_wait_in_a_long_queue_is_foreseen(
    limit: int, gaps_s: list[float], in_flight: int, ahead: int
) -> None:
    """As it happens when all those ahead send as soon as they may and their answers come at once."""
    script = Script(RatePolicy(requests=limit, per_s=60.0))
    window = script.window
    for gap_s in gaps_s:
        if window.has_room(script.now_s):
            script.accept(rtt_s=0.0, gap_s=gap_s)
    while window.in_flight < in_flight and window.has_room(script.now_s):
        window.in_flight += 1
    began_s, foreseen_s = script.now_s, window.opens_s(script.now_s, ahead)
    for _ in range(window.in_flight):
        window.accepted(began_s, began_s)
    for _ in range(ahead):
        script.wait_for_room()
        script.accept(rtt_s=0.0)
    script.wait_for_room()
    if foreseen_s is None:
        assert (window.learned[0].requests, ahead) <= (in_flight, 0)  # the answers decide, not time
    else:
        assert foreseen_s == pytest.approx(script.now_s, abs=0.1)


# --- how well it does: the real gate against simulated servers ---------------------------------------


def simulate(
    server: Server, *, clients: int = 1, policy: RatePolicy | None = None, seed: int = 1
) -> tuple[Simulation, list[SimulatedClient]]:
    simulation = Simulation(server, seed=seed)
    return simulation, [
        simulation.add_client(
            GateLimiter(simulation.clock, policy, workers=WORKERS), workers=WORKERS, start_s=0.3 * number
        )
        for number in range(clients)
    ]


@pytest.mark.parametrize(("requests", "per_s"), [(600, 60.0), (60, 60.0), (1000, 3600.0)])
def test_a_sole_client_uses_the_budget_it_has_learned(requests: int, per_s: float) -> None:
    """At least 99 % of it, at most 0.05 % 429s, and finding out costs at most one 429 a worker."""
    simulation, clients = simulate(DRFServer((requests, per_s)))
    simulation.run_for(5 * per_s)
    assert simulation.counts.refused <= WORKERS
    assert clients[0].limiter.gate.learned == (Limit(requests, per_s),)
    counts = simulation.measure(40 * per_s)
    assert counts.accepted >= 0.99 * 40 * requests
    assert counts.refused_share <= 0.0005


@pytest.mark.parametrize(
    "limits", [((600, 60.0),), ((60, 60.0),), ((1000, 3600.0),), ((10, 1.0),), ((60, 60.0), (1000, 3600.0))]
)
def test_a_given_limit_is_never_exceeded(limits: tuple[tuple[int, float], ...]) -> None:
    """A sole client that is told the limits gets no 429 at all, and loses no more than the way takes."""
    simulation, _ = simulate(DRFServer(*limits), policy=RatePolicy(limits=limits))
    duration_s = 25 * limits[-1][1]
    counts = simulation.measure(duration_s)
    assert counts.refused == 0
    share = 0.99 if limits[-1][1] >= 60 else 0.85
    assert counts.accepted >= share * duration_s * limits[-1][0] / limits[-1][1]


def test_ten_a_second() -> None:
    """At 120 ms there and back at least 85 % of the budget, at most 0.05 % 429s."""
    simulation, _ = simulate(DRFServer((10, 1.0)))
    simulation.run_for(30.0)
    assert simulation.counts.refused <= WORKERS
    counts = simulation.measure(1000.0)
    assert counts.accepted >= 0.85 * 10_000
    assert counts.refused_share <= 0.0005


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("requests", "per_s", "settled"), [(600, 60.0, 20), (60, 60.0, 60), (1000, 3600.0, 10)]
)
def test_eight_clients_that_do_not_know_each_other(
    requests: int, per_s: float, settled: int, seed: int
) -> None:
    """Once everybody has a share: at least 97 % of the budget, at most 0.25 % 429s."""
    simulation, _ = simulate(DRFServer((requests, per_s)), clients=8, seed=seed)
    simulation.run_for(settled * per_s)
    counts = simulation.measure(40 * per_s)
    assert counts.accepted >= 0.97 * 40 * requests
    assert counts.refused_share <= 0.0025


@pytest.mark.parametrize(("requests", "per_s"), [(600, 60.0), (60, 60.0), (1000, 3600.0)])
def test_a_stranger_eats_thirty_percent(requests: int, per_s: float) -> None:
    """At most 0.5 % 429s, and together at least 97 % of the budget."""
    simulation, _ = simulate(DRFServer((requests, per_s)))
    simulation.add_stranger(0.3 * requests / per_s)
    simulation.run_for(10 * per_s)
    counts = simulation.measure(40 * per_s)
    assert counts.accepted + simulation.strangers.accepted >= 0.97 * 40 * requests
    assert counts.refused_share <= 0.005


@pytest.mark.parametrize(
    "limits", [((60, 60.0), (1000, 3600.0)), ((10, 1.0), (2000, 3600.0)), ((100, 60.0), (2000, 86400.0))]
)
def test_two_limits_at_once(limits: tuple[tuple[int, float], tuple[int, float]]) -> None:
    """Both are learned: at least 97 % of the tighter budget, at most 0.05 % 429s."""
    simulation, clients = simulate(DRFServer(*limits))
    requests, per_s = limits[1]
    simulation.run_for(5 * per_s)
    counts = simulation.measure(12 * per_s)
    assert counts.accepted >= 0.97 * 12 * requests
    assert counts.refused_share <= 0.0005
    assert [limit.per_s for limit in clients[0].limiter.gate.learned] == [per_s for _, per_s in limits]


def test_a_leaky_bucket_without_retry_after() -> None:
    """nginx, ten a second with bursts of 20, names no time: 95 % of it, at most 0.2 % 429s."""
    simulation, _ = simulate(NginxServer(10.0, 20))
    simulation.run_for(120.0)
    counts = simulation.measure(1000.0)
    assert counts.accepted >= 0.95 * 10_000
    assert counts.refused_share <= 0.002


def test_calendar_windows() -> None:
    """A server that counts by the minute of its clock: 97 % of it, at most 0.2 % 429s."""
    simulation, _ = simulate(FixedWindowServer(600, 60.0))
    simulation.run_for(600.0)
    counts = simulation.measure(40 * 60.0)
    assert counts.accepted >= 0.97 * 40 * 600
    assert counts.refused_share <= 0.002


@pytest.mark.parametrize("lived_s", [20.3, 200.0])
def test_a_new_process_inherits_a_used_budget(lived_s: float) -> None:
    """Its first 429s are about requests it never sent; two windows later it has the whole budget."""
    simulation, (old,) = simulate(DRFServer((600, 60.0)))
    simulation.run_for(lived_s)
    old.stopped = True
    simulation.run_for(1.0)
    new = simulation.add_client(GateLimiter(simulation.clock))
    assert simulation.measure(120.0).refused <= 3 * WORKERS
    assert simulation.measure(300.0).accepted >= 0.99 * 5 * 600
    assert new.limiter.gate.learned == (Limit(600, 60.0),)


def test_a_lowered_limit_is_found_at_once() -> None:
    """From 600 to 200 a minute: within two windows all of it is used, and hardly more asked."""
    server = DRFServer((600, 60.0))
    simulation, (client,) = simulate(server)
    simulation.run_for(300.0)
    server.limits[0][0] = 200
    simulation.run_for(600.0)
    assert client.limiter.gate.learned == (Limit(200, 60.0),)
    counts = simulation.measure(600.0)
    assert counts.accepted >= 0.99 * 2000
    assert counts.refused_share <= 0.002


def test_a_raised_limit_is_found_in_time() -> None:
    """From 600 to 1200 a minute: within an hour and a half nearly all of it is used."""
    server = DRFServer((600, 60.0))
    simulation, _ = simulate(server)
    simulation.run_for(300.0)
    server.limits[0][0] = 1200
    simulation.run_for(5400.0)
    counts = simulation.measure(600.0)
    assert counts.accepted >= 0.97 * 12_000
    assert counts.refused_share <= 0.005


def test_a_long_silence_changes_nothing() -> None:
    """After a day without a request the learned limit still holds, and all of it is free."""
    simulation, (client,) = simulate(DRFServer((60, 60.0)))
    simulation.run_for(300.0)
    client.stopped = True
    simulation.run_for(90_000.0)
    client.stopped = False
    simulation.at(simulation.clock.time_s, client.ask)
    counts = simulation.measure(59.0)
    assert (counts.accepted, counts.refused) == (60, 0)


def test_simulated_servers_keep_their_rules() -> None:
    """DRF: a sliding log, the wait rounded up, a refused request still counted by the other throttle."""
    server = DRFServer((2, 60.0), (3, 3600.0))
    answers = [server.refusal(at_s) for at_s in (0.0, 10.0, 20.0, 60.0, 70.5, 3600.0)]
    assert answers == [None, None, 40, 3540, 3530, None]
    nginx = NginxServer(1.0, 1)
    assert [nginx.refusal(at_s) is None for at_s in (0.0, 0.0, 0.0, 1.0, 1.0)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    calendar = FixedWindowServer(1, 60.0)
    assert [calendar.refusal(at_s) for at_s in (59.0, 59.5, 60.0)] == [None, 1, None]


async def test_nothing_sleeps_in_a_simulation() -> None:
    """The simulated clock cannot be slept on: a wait there would be a mistake of the simulation."""
    clock = SimulatedClock()
    assert clock.wall_s() == clock.now_s()
    with pytest.raises(AssertionError):
        await clock.sleep(1.0)
