"""Every try passes one gate: in order, within the limits, and no slot is ever lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testpress_async.errors import (
    AnswerLost,
    ConnectionFailed,
    Error,
    NotFound,
    RateLimited,
    TimedOut,
)
from testpress_async.http.events import Event, RateWaited, RateWaiting, Throttled
from testpress_async.http.gate import SOON_S, Gate, GateBusy, Ticket
from testpress_async.http.message import Lane, Request, Response
from testpress_async.http.ratelimit import RateLimit
from testpress_async.http.window import Limit, RatePolicy
from tests.support.clock import ManualClock, settle
from tests.support.handlers import Scripted, Step, reply

GET = Request(target="/api/a/")
AT = ("GET", "/api/a/")


def gate_with(clock: ManualClock, *, max_in_flight: int = 1, **limits: float) -> Gate:
    return Gate(RatePolicy(**limits), clock, max_in_flight=max_in_flight)


def now(ticket: Ticket | None) -> Ticket:
    """A ticket that must be there at once."""
    assert ticket is not None
    return ticket


class Crowd:
    """Tasks that wait at a gate and write down the order in which they get in."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.order = gate, list[str]()
        self.tickets: dict[str, Ticket] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self, name: str, lane: Lane = "bulk", max_wait_s: float | None = None) -> None:
        self.tasks[name] = asyncio.create_task(self._enter(name, lane, max_wait_s))
        await settle()

    async def _enter(self, name: str, lane: Lane, max_wait_s: float | None) -> None:
        self.tickets[name] = await self.gate.enter(lane, max_wait_s=max_wait_s)
        self.order.append(name)

    async def done(self, name: str) -> None:
        self.tickets.pop(name).accepted()
        await settle()


# --- order -------------------------------------------------------------------------------------------


async def test_first_come_first_served() -> None:
    """Slots go to those who wait, one by one, in the order in which they came."""
    gate = gate_with(ManualClock())
    crowd = Crowd(gate)
    for name in "abcd":
        await crowd.join(name)
    assert crowd.order == ["a"]
    assert (gate.in_flight, gate.waiting) == (1, 3)
    for name in "abcd":
        await crowd.done(name)
    assert crowd.order == ["a", "b", "c", "d"]
    assert (gate.in_flight, gate.waiting, gate.granted) == (0, 0, 4)


async def test_interactive_calls_pass_waiting_bulk_ones() -> None:
    """A person does not wait behind an export."""
    crowd = Crowd(gate_with(ManualClock()))
    await crowd.join("a")
    await crowd.join("bulk 1")
    await crowd.join("bulk 2")
    await crowd.join("person 1", "interactive")
    await crowd.join("person 2", "interactive")
    for name in ("a", "person 1", "person 2", "bulk 1", "bulk 2"):
        await crowd.done(name)
    assert crowd.order == ["a", "person 1", "person 2", "bulk 1", "bulk 2"]


async def test_nobody_slips_past_those_who_wait() -> None:
    """The fast way in is closed while somebody waits."""
    gate = gate_with(ManualClock())
    ticket = now(gate.try_enter("bulk"))
    crowd = Crowd(gate)
    await crowd.join("a")
    ticket.accepted()
    assert gate.try_enter("bulk") is None
    await settle()
    assert crowd.order == ["a"]


async def test_no_more_in_flight_than_connections() -> None:
    """The gate counts what is on the way."""
    gate = gate_with(ManualClock(), max_in_flight=3)
    tickets = [now(gate.try_enter("bulk")) for _ in range(3)]
    assert gate.try_enter("interactive") is None
    tickets[1].accepted()
    assert gate.try_enter("bulk") is not None
    assert gate.in_flight == 3


@pytest.mark.parametrize("word", ["accepted", "lost", "unsent"])
async def test_a_ticket_counts_once(word: str) -> None:
    """Later words of a ticket are ignored: no slot appears out of nothing."""
    gate = gate_with(ManualClock(), max_in_flight=2)
    ticket = now(gate.try_enter("bulk"))
    now(gate.try_enter("bulk"))
    for _ in range(3):
        getattr(ticket, word)()
        ticket.accepted()
    assert gate.in_flight == 1


# --- cancelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["b", "c", "d"])
async def test_a_cancelled_waiter_loses_no_slot(gone: str) -> None:
    """Whoever goes, those who stay are served."""
    gate = gate_with(ManualClock())
    crowd = Crowd(gate)
    for name in "abcd":
        await crowd.join(name)
    crowd.tasks[gone].cancel()
    await settle()
    assert gate.waiting == 2
    for name in "abcd":
        if name != gone:
            await crowd.done(name)
    assert crowd.order == [name for name in "abcd" if name != gone]
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_cancelled_in_the_moment_of_its_turn() -> None:
    """A slot given to a task that is cancelled before it runs goes to the next."""
    gate = gate_with(ManualClock())
    crowd = Crowd(gate)
    for name in "abc":
        await crowd.join(name)
    crowd.tickets.pop("a").accepted()
    crowd.tasks["b"].cancel()
    await settle()
    assert crowd.order == ["a", "c"]
    assert gate.in_flight == 1


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["join", "person", "finish", "cancel"]), st.integers(0, 7)), max_size=40
    )
)
def test_no_history_of_joining_leaving_and_cancelling_loses_a_slot(history: list[tuple[str, int]]) -> None:
    """After anything that can happen the gate is as free as at first."""

    async def run() -> None:
        gate = gate_with(ManualClock(), max_in_flight=2)
        crowd = Crowd(gate)
        for number, (what, which) in enumerate(history):
            if what in ("join", "person"):
                await crowd.join(f"{number}", "bulk" if what == "join" else "interactive")
            elif what == "finish" and crowd.tickets:
                crowd.tickets.pop(sorted(crowd.tickets)[which % len(crowd.tickets)]).accepted()
            elif what == "cancel" and crowd.tasks:
                crowd.tasks[sorted(crowd.tasks)[which % len(crowd.tasks)]].cancel()
            assert gate.in_flight <= 2
        for _ in history:
            await settle()
            for name in list(crowd.tickets):
                await crowd.done(name)
        assert (gate.in_flight, gate.waiting) == (0, 0)
        assert all(task.done() for task in crowd.tasks.values())
        assert now(gate.try_enter("bulk"))
        assert now(gate.try_enter("bulk"))

    asyncio.run(run())


# --- limits ------------------------------------------------------------------------------------------


async def test_a_used_up_window_opens_when_its_oldest_request_leaves() -> None:
    """Two in ten seconds: the third goes ten seconds after the first was answered."""
    clock = ManualClock()
    crowd = Crowd(gate_with(clock, max_in_flight=9, requests=2, per_s=10))
    await crowd.join("a")
    await crowd.done("a")
    await clock.advance(4)
    await crowd.join("b")
    await crowd.done("b")
    await crowd.join("c")
    await crowd.join("d")
    await clock.advance(5.9)
    assert crowd.order == ["a", "b"]
    await clock.advance(0.2)
    assert crowd.order == ["a", "b", "c"]
    assert crowd.tickets["c"].waited_s == pytest.approx(6, abs=0.05)
    await crowd.done("c")
    await clock.advance(4)
    assert crowd.order == ["a", "b", "c", "d"]


async def test_what_is_in_flight_counts() -> None:
    """The server may have counted it already."""
    clock = ManualClock()
    crowd = Crowd(gate_with(clock, max_in_flight=9, requests=2, per_s=10))
    for name in "abc":
        await crowd.join(name)
    await clock.advance(100)
    assert crowd.order == ["a", "b"]
    crowd.tickets["a"].unsent()
    await settle()
    assert crowd.order == ["a", "b", "c"]


@settings(deadline=None, max_examples=60)
@given(
    requests=st.integers(1, 5),
    per_s=st.sampled_from([0.5, 1.0, 7.3, 60.0]),
    connections=st.integers(1, 6),
    calls=st.lists(
        st.tuples(st.floats(0, 30), st.floats(0, 3), st.floats(0, 3), st.sampled_from(["accepted", "lost"])),
        max_size=14,
    ),
)
def test_a_known_window_is_never_exceeded(
    requests: int, per_s: float, connections: int, calls: list[tuple[float, float, float, str]]
) -> None:
    """A server that keeps a sliding log refuses none, whenever it counts, and everybody gets through."""

    async def run() -> None:
        clock = ManualClock()
        gate = gate_with(clock, max_in_flight=connections, requests=requests, per_s=per_s)
        log: list[float] = []
        refused, served = 0, 0

        async def call(start_s: float, there_s: float, back_s: float, word: str) -> None:
            nonlocal refused, served
            await clock.sleep(start_s)
            ticket = await gate.enter("bulk", max_wait_s=None)
            await clock.sleep(there_s)
            log[:] = [at_s for at_s in log if at_s > clock.now_s() - per_s]
            refused += len(log) >= requests
            log.append(clock.now_s())
            await clock.sleep(back_s)
            getattr(ticket, word)()
            served += 1

        tasks = [asyncio.create_task(call(*each)) for each in calls]
        await clock.advance(30 + len(calls) * (6 + per_s * 1.01) + 1)
        assert refused == 0
        assert served == len(calls)
        await asyncio.gather(*tasks)

    asyncio.run(run())


# --- pauses ------------------------------------------------------------------------------------------


async def test_a_429_pauses_everybody_for_as_long_as_it_asks() -> None:
    """Neither the refused call nor any other goes before the time is over."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=4)
    now(gate.try_enter("bulk")).throttled(30.0)
    assert gate.try_enter("interactive") is None
    crowd = Crowd(gate)
    await crowd.join("bulk")
    await crowd.join("person", "interactive")
    await clock.advance(29.9)
    assert crowd.order == []
    await clock.advance(5)
    assert crowd.order[:1] == ["person"]


async def test_a_429_without_a_time_pauses_too() -> None:
    """A refusal is never answered by sending on, and the pause ends."""
    clock = ManualClock()
    gate = gate_with(clock)
    now(gate.try_enter("bulk")).throttled(None)
    assert gate.try_enter("bulk") is None
    crowd = Crowd(gate)
    await crowd.join("a")
    await clock.advance(120)
    assert crowd.order == ["a"]


# --- patience ----------------------------------------------------------------------------------------


async def test_a_wait_that_is_too_long_is_refused_at_once() -> None:
    """Nobody waits for what can be foreseen to come too late; the refusal tells when to ask again."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=4, requests=1, per_s=60)
    now(gate.try_enter("bulk")).accepted()
    with pytest.raises(GateBusy) as caught:
        await gate.enter("interactive", max_wait_s=5)
    assert caught.value.retry_after_s == pytest.approx(60, rel=0.01)
    assert clock.slept_s == []
    assert gate.waiting == 0


async def test_a_wait_within_patience_is_waited() -> None:
    """A limit is a limit, not a reason to refuse."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=4, requests=1, per_s=4)
    now(gate.try_enter("bulk")).accepted()
    crowd = Crowd(gate)
    await crowd.join("person", "interactive", 5)
    await clock.advance(4.5)
    assert crowd.order == ["person"]


async def test_a_429_meanwhile_ends_patience_at_once() -> None:
    """Who cannot be served in time any more hears it now, not when patience runs out; others stay."""
    clock = ManualClock()
    gate = gate_with(clock)
    ticket = now(gate.try_enter("bulk"))
    hasty = asyncio.create_task(gate.enter("interactive", max_wait_s=5))
    patient = asyncio.create_task(gate.enter("interactive", max_wait_s=50))
    await settle()
    ticket.throttled(30.0)
    await settle()
    with pytest.raises(GateBusy) as caught:
        await hasty
    assert caught.value.retry_after_s == pytest.approx(30)
    assert (gate.waiting, patient.done()) == (1, False)
    await clock.advance(31)
    (await patient).accepted()
    assert gate.waiting == 0


async def test_patience_ends_even_if_nobody_can_foresee_it() -> None:
    """All connections are busy with slow answers: a call waits as long as it may, then asks later."""
    clock = ManualClock()
    gate = gate_with(clock)
    now(gate.try_enter("bulk"))
    call = asyncio.create_task(gate.enter("interactive", max_wait_s=5))
    await clock.advance(4.9)
    assert not call.done()
    await clock.advance(0.2)
    with pytest.raises(GateBusy) as caught:
        await call
    assert caught.value.retry_after_s == SOON_S
    assert gate.waiting == 0


async def test_those_ahead_are_part_of_the_wait() -> None:
    """Behind a long queue of exports an export is refused, but a person passes them all."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=9, requests=1, per_s=10)
    now(gate.try_enter("bulk")).accepted()
    crowd = Crowd(gate)
    for name in "abc":
        await crowd.join(name)
    with pytest.raises(GateBusy) as caught:
        await gate.enter("bulk", max_wait_s=15)
    assert caught.value.retry_after_s == pytest.approx(40, rel=0.01)
    await crowd.join("person", "interactive", 15)
    await clock.advance(10.1)
    assert crowd.order == ["person"]


# --- nothing runs for nothing ------------------------------------------------------------------------


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[operator]


async def test_an_idle_gate_has_neither_task_nor_timer() -> None:
    """Used, then idle, in any state of its limits: nothing is left that would have to be closed."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=4, requests=2, per_s=60)
    now(gate.try_enter("bulk")).accepted()
    now(gate.try_enter("bulk")).throttled(60.0)
    assert others() == set()
    assert clock.sleepers == 0


async def test_a_crowd_shares_one_alarm_and_takes_it_away() -> None:
    """However many wait, one sleeps; when the last of them has gone, none."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=4, requests=1, per_s=60)
    now(gate.try_enter("bulk")).accepted()
    tasks = [asyncio.create_task(gate.enter("bulk", max_wait_s=1000)) for _ in range(2)]
    tasks += [asyncio.create_task(gate.enter("bulk", max_wait_s=None)) for _ in range(500)]
    await settle()
    assert gate.waiting == 502
    assert clock.sleepers == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settle()
    assert gate.waiting == 0
    assert clock.sleepers == 0
    assert others() == set()


async def test_no_alarm_while_only_an_answer_can_help() -> None:
    """Waiting for a connection takes no timer: the end of a request wakes the next."""
    clock = ManualClock()
    crowd = Crowd(gate_with(clock))
    for name in "abc":
        await crowd.join(name)
    assert clock.slept_s == []
    await crowd.done("a")
    assert crowd.order == ["a", "b"]


async def test_an_alarm_that_rings_early_is_set_again_but_does_not_spin() -> None:
    """Timers are not exact; the gate sleeps again, at least a millisecond."""

    class EarlyClock(ManualClock):
        async def sleep(self, duration_s: float) -> None:
            await super().sleep(duration_s - 0.0001)

    clock = EarlyClock()
    crowd = Crowd(gate_with(clock, max_in_flight=4, requests=1, per_s=10))
    await crowd.join("a")
    await crowd.done("a")
    await crowd.join("b")
    await clock.advance(11)
    assert crowd.order == ["a", "b"]
    assert len(clock.slept_s) <= 3


async def test_the_end_of_a_pause_is_no_stampede() -> None:
    """Twenty wait for a window of four: they go as its slots free themselves, not all at once."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=20)
    for _ in range(4):
        now(gate.try_enter("bulk")).accepted()
        await clock.advance(1)
    now(gate.try_enter("bulk")).throttled(56.0)
    assert gate.learned == (Limit(4, 60.0),)
    crowd = Crowd(gate)
    for number in range(20):
        await crowd.join(f"{number}")
    counts = list[int]()
    await clock.advance(55.9)
    for _ in range(5):
        counts.append(len(crowd.order))
        await clock.advance(1)
    assert counts == [0, 1, 2, 3, 4]


async def test_cancelled_in_the_moment_of_being_sent_away() -> None:
    """Both at once leaves nothing behind."""
    clock = ManualClock()
    gate = gate_with(clock)
    ticket = now(gate.try_enter("bulk"))
    call = asyncio.create_task(gate.enter("interactive", max_wait_s=5))
    await settle()
    ticket.throttled(30.0)
    call.cancel()
    with pytest.raises((GateBusy, asyncio.CancelledError)):
        await call
    assert (gate.in_flight, gate.waiting, others()) == (0, 0, set())


# --- an overloaded server ----------------------------------------------------------------------------


async def test_a_server_in_trouble_gets_fewer_requests_at_a_time() -> None:
    """503s lower what may be in flight, to one in the end; good answers raise it again."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=8)
    for _ in range(60):
        ticket = now(gate.try_enter("bulk"))
        await clock.advance(0.1)
        ticket.overloaded()
    assert gate.max_in_flight == 1
    crowd = Crowd(gate)
    await crowd.join("a")
    await crowd.join("b")
    assert crowd.order == ["a"]
    await clock.advance(0.1)
    await crowd.done("a")
    await crowd.done("b")
    for _ in range(200):
        ticket = now(gate.try_enter("bulk"))
        await clock.advance(0.1)
        ticket.accepted()
    assert gate.max_in_flight == 8


@pytest.mark.parametrize(
    "words", [("overloaded",), ("overloaded", "accepted"), ("accepted", "overloaded"), ("lost", "overloaded")]
)
async def test_overload_may_be_said_beside_the_rest(words: tuple[str, ...]) -> None:
    """In any order the request counts once, and the complaint once."""
    clock = ManualClock()
    gate = gate_with(clock, max_in_flight=2, requests=2, per_s=60)
    ticket = now(gate.try_enter("bulk"))
    await clock.advance(1)
    for word in words * 3:
        getattr(ticket, word)()
    assert (gate.in_flight, gate.max_in_flight) == (0, 2)
    assert gate.try_enter("bulk") is not None
    assert gate.try_enter("bulk") is None


# --- the middleware over it --------------------------------------------------------------------------


async def once(limiter: RateLimit, step: Step, request: Request = GET) -> Response | Error:
    try:
        return await limiter(request, Scripted([step]))
    except Error as error:
        return error


@pytest.mark.parametrize(
    ("step", "counted"),
    [
        (reply(), True),
        (NotFound(*AT, 404), True),
        (AnswerLost(*AT, "cut"), True),
        (TimedOut(*AT, "try_s", 1), True),
        (ConnectionFailed(*AT, "refused"), False),
        (TimedOut(*AT, "connect_s", 1, sent=False), False),
    ],
)
async def test_only_what_may_have_reached_the_server_counts(step: Step, counted: bool) -> None:
    """A try that never left takes nothing from the limit."""
    gate = gate_with(ManualClock(), max_in_flight=4, requests=1, per_s=60)
    outcome = await once(RateLimit(gate, ManualClock()), step)
    assert outcome is step
    assert gate.in_flight == 0
    assert (gate.try_enter("bulk") is None) == counted


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError()])
async def test_a_try_that_breaks_counts_and_leaves(error: BaseException) -> None:
    """Nobody knows how far it came, but its place is free."""
    gate = gate_with(ManualClock(), max_in_flight=4, requests=1, per_s=60)
    with pytest.raises(type(error)):
        await RateLimit(gate, ManualClock())(GET, Scripted([error]))
    assert gate.in_flight == 0
    assert gate.try_enter("bulk") is None


async def test_a_429_is_told_and_holds_the_next_try() -> None:
    """Observers hear of the refusal and of the wait it causes."""
    clock, events = ManualClock(), list[Event]()
    gate = gate_with(clock, max_in_flight=4)
    limiter = RateLimit(gate, clock, events.append)
    error = RateLimited(*AT, 429, retry_after_s=3.0)
    assert await once(limiter, error) is error
    call = asyncio.ensure_future(once(limiter, reply()))
    await clock.advance(10)
    assert isinstance(await call, Response)
    throttled, waiting, waited = events
    assert throttled == Throttled(url="/api/a/", retry_after_s=3.0)
    assert waiting == RateWaiting(url="/api/a/", expected_s=3.0)
    assert isinstance(waited, RateWaited)
    assert waited.waited_s >= 3.0


@pytest.mark.parametrize(
    ("request_", "patient"),
    [
        (Request(target="/a"), True),
        (Request(target="/a", max_wait_s=1), False),
        (Request(target="/a", lane="interactive"), False),
        (Request(target="/a", lane="interactive", max_wait_s=90), True),
        (Request(target="/a", deadline_s=1_010.0), False),
        (Request(target="/a", deadline_s=1_100.0), True),
        (Request(target="/a", deadline_s=1_100.0, max_wait_s=1), False),
    ],
)
async def test_patience_is_the_callers_own_or_what_its_deadline_leaves(
    request_: Request, patient: bool
) -> None:
    """A call is refused by our own limiter, as such, when its wait would be too long for it."""
    clock = ManualClock(start_s=1_000.0)
    gate = gate_with(clock, max_in_flight=4, requests=1, per_s=60)
    now(gate.try_enter("bulk")).accepted()
    call = asyncio.ensure_future(once(RateLimit(gate, clock), reply(), request_))
    await settle()
    assert call.done() is not patient
    if not patient:
        error = await call
        assert isinstance(error, RateLimited)
        assert not error.sent
        assert error.retry_after_s == pytest.approx(60, rel=0.01)
        assert "our own limiter" in error.detail
    await clock.advance(61)
    assert isinstance(await call, Response) is patient
