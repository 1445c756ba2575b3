"""Which tries are repeated, after which wait, and what ends it."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    BadRequest,
    BodyTooLarge,
    ConfigError,
    ConnectionFailed,
    DecodeFailed,
    Error,
    ForeignOrigin,
    NotFound,
    NotJSON,
    PermissionDenied,
    RateLimited,
    ServerFault,
    TimedOut,
)
from testpress_async.http.events import Event, TryFailed
from testpress_async.http.message import Request, Response
from testpress_async.http.policy import RetryPolicy
from testpress_async.http.retry import Retry, RetryQuota, repeatable, wait_bound_s, worth_retrying
from testpress_async.http.session import Session
from testpress_async.http.window import MAX_PAUSE_S
from tests.support.clock import AutoClock, ManualClock, settle
from tests.support.handlers import Scripted, Step, reply

AT = ("GET", "/a")
GET = Request(target="/a")
POST = Request(target="/a", method="POST", repeatable=False)
OK = reply()

fault = partial(ServerFault, *AT, 503)
throttle = partial(RateLimited, *AT, 429)
lost = partial(AnswerLost, *AT, "cut")
page = partial(NotJSON, "$", "expected JSON, got an HTML page")


def retry_over(
    clock: ManualClock | None = None,
    *,
    policy: RetryPolicy | None = None,
    quota: RetryQuota | None = None,
    jitter: Callable[[], float] = lambda: 1.0,
    emit: Callable[[Event], object] | None = None,
) -> Retry:
    policy = policy or RetryPolicy()
    return Retry(policy, quota or RetryQuota(policy.quota), clock or AutoClock(), jitter, emit)


async def failing(retry: Retry, steps: Sequence[Step], request: Request = GET) -> tuple[Error, Scripted]:
    """The error a call ends with, and the handler that was asked."""
    handler = Scripted(steps)
    with pytest.raises(Error) as caught:
        await retry(request, handler)
    return caught.value, handler


# --- what is repeated --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (ConnectionFailed(*AT, "refused"), True),
        (ConnectionFailed(*AT, "TLS", permanent=True), False),
        (lost(), True),
        (lost(permanent=True), False),
        (TimedOut(*AT, "connect_s", 1), True),
        (TimedOut(*AT, "read_idle_s", 1), True),
        (TimedOut(*AT, "try_s", 1), True),
        (TimedOut(*AT, "total_s", 1), False),
        (throttle(), True),
        (throttle(sent=False), False),
        (page(), True),
        (DecodeFailed("$", "expected a list"), False),
        *((ServerFault(*AT, status), True) for status in (500, 502, 503, 504)),
        *((ServerFault(*AT, status), False) for status in (501, 505, 507)),
        (BadRequest(*AT, 408), True),
        (BadRequest(*AT, 400), False),
        (BadRequest(*AT, 409), False),
        (AuthenticationFailed(*AT, 401), False),
        (PermissionDenied(*AT, 403), False),
        (NotFound(*AT, 404), False),
        (ForeignOrigin(*AT, "https://b:443"), False),
        (BodyTooLarge(*AT, 1), False),
        (ConfigError("a", "b"), False),
        (ValueError(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_only_what_can_pass_is_worth_another_try(error: BaseException, worth: bool) -> None:
    """Transient failures are repeated, answers that will not change are not."""
    assert worth_retrying(error) is worth
    assert repeatable(GET, error) is worth


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionFailed(*AT, "refused"), True),
        (throttle(), True),
        (lost(), False),
        (fault(), False),
        (TimedOut(*AT, "try_s", 1), False),
        (page(), False),
    ],
)
def test_an_unrepeatable_request_goes_again_only_if_it_was_not_served(error: Error, again: bool) -> None:
    """A request that may have had its effect is not sent twice."""
    assert repeatable(POST, error) is again


async def test_a_transient_failure_is_overcome() -> None:
    """The answer of the second try is the answer of the call."""
    handler = Scripted([fault(), OK])
    assert await retry_over()(GET, handler) is OK
    assert handler.requests == [GET, GET]


@pytest.mark.parametrize("error", [NotFound(*AT, 404), lost(permanent=True), throttle(sent=False)])
async def test_a_final_answer_is_not_repeated(error: Error) -> None:
    """One try, no wait, the error itself."""
    clock = AutoClock()
    caught, handler = await failing(retry_over(clock), [error])
    assert caught is error
    assert len(handler.requests) == 1
    assert clock.slept_s == []


@pytest.mark.parametrize(
    ("errors", "tries"), [([throttle(sent=False)], 0), ([fault(), throttle(sent=False)], 1)]
)
async def test_what_our_limiter_refused_is_no_try(errors: list[Error], tries: int) -> None:
    """Nothing was sent, so it does not count among the requests sent."""
    caught, _ = await failing(retry_over(), errors)
    assert caught.tries == tries


async def test_a_final_answer_ends_a_row_of_tries() -> None:
    """A 404 after a 503 is the outcome, told with both tries."""
    caught, handler = await failing(retry_over(), [fault(), NotFound(*AT, 404)])
    assert isinstance(caught, NotFound)
    assert caught.tries == len(handler.requests) == 2


async def test_errors_of_others_pass_unchanged() -> None:
    """What is no `Error` of ours is never repeated, at the first try or later."""
    with pytest.raises(ZeroDivisionError):
        await retry_over()(GET, Scripted([ZeroDivisionError()]))
    handler = Scripted([fault(), ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        await retry_over()(GET, handler)
    assert len(handler.requests) == 2


# --- waits -------------------------------------------------------------------------------------------


async def test_waits_double_up_to_the_bound_with_full_jitter() -> None:
    """Wait n is jitter x min(max_s, first_s x 2^(n-1)), the first wait included."""
    clock = AutoClock()
    shares = iter([1.0, 0.5, 0.25, 0.0, 1.0])
    retry = retry_over(
        clock, policy=RetryPolicy(max_tries=6, first_s=1, max_s=6), jitter=lambda: next(shares)
    )
    await failing(retry, [fault() for _ in range(6)])
    assert clock.slept_s == [1.0, 0.5 * 2, 0.25 * 4, 0.0, 6.0]


@given(try_no=st.integers(1, 10_000), first_s=st.floats(1e-3, 1e3), max_s=st.floats(1e-3, 1e3))
def test_bounds_of_waits_never_overflow_or_shrink(try_no: int, first_s: float, max_s: float) -> None:
    """The bound is positive, at most max_s, and grows with the tries however many there are."""
    bound_s = wait_bound_s(try_no, first_s=first_s, max_s=max_s)
    assert 0 < bound_s <= max_s
    assert bound_s <= wait_bound_s(try_no + 1, first_s=first_s, max_s=max_s)
    assert wait_bound_s(1, first_s=first_s, max_s=max_s) == min(first_s, max_s)


@pytest.mark.parametrize(
    ("asked_s", "waited_s"), [(7.0, 7.5), (0.1, 0.6), (0.0, 0.5), (None, 0.5), (1e12, MAX_PAUSE_S + 0.5)]
)
async def test_retry_after_of_a_fault_is_waited_out_and_jittered(
    asked_s: float | None, waited_s: float
) -> None:
    """Never earlier than asked, spread beyond that so that nobody comes in a herd, and never for years."""
    clock = AutoClock()
    await retry_over(clock)(GET, Scripted([fault(retry_after_s=asked_s), OK]))
    assert clock.slept_s == [waited_s]


async def test_a_429_waits_at_the_gate_not_here() -> None:
    """After a 429 the shared gate holds everybody; waiting here too would double it."""
    clock = AutoClock()
    await retry_over(clock)(GET, Scripted([throttle(retry_after_s=30.0), throttle(), OK]))
    assert clock.slept_s == [0.0, 0.0]


async def test_429s_do_not_lengthen_the_waits_after_faults() -> None:
    """Only failures count as failures in the formula."""
    clock = AutoClock()
    await retry_over(clock)(GET, Scripted([throttle(), fault(), throttle(), fault(), OK]))
    assert clock.slept_s == [0.0, 0.5, 0.0, 1.0]


# --- ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tries", [1, 2, 5])
async def test_tries_end_and_the_last_error_tells_how_many(max_tries: int) -> None:
    """max_tries counts the first try; the error raised is the last one."""
    steps = [fault(detail=f"no {n}") for n in range(max_tries)]
    caught, handler = await failing(retry_over(policy=RetryPolicy(max_tries=max_tries)), steps)
    assert caught is steps[-1]
    assert caught.tries == len(handler.requests) == max_tries
    assert ("after" in str(caught)) == (max_tries > 1)


@pytest.mark.parametrize(("max_tries", "sent"), [(5, 3), (2, 2)])
async def test_what_is_not_json_gets_three_tries_at_most(max_tries: int, sent: int) -> None:
    """A proxy's page may pass soon, a wrong address never does."""
    policy = RetryPolicy(max_tries=max_tries)
    caught, handler = await failing(retry_over(policy=policy), [page() for _ in range(sent)])
    assert isinstance(caught, NotJSON)
    assert caught.tries == len(handler.requests) == sent


@pytest.mark.parametrize("max_throttles", [0, 1, 20])
async def test_429s_are_bounded_by_their_own_number(max_throttles: int) -> None:
    """429s do not use up max_tries, but they end."""
    policy = RetryPolicy(max_tries=2, max_throttles=max_throttles)
    caught, handler = await failing(retry_over(policy=policy), [throttle() for _ in range(max_throttles + 1)])
    assert isinstance(caught, RateLimited)
    assert caught.tries == len(handler.requests) == max_throttles + 1


async def test_no_wait_is_begun_that_passes_the_deadline() -> None:
    """A call whose next try would come too late fails at once with what it has."""
    clock = AutoClock(start_s=100.0)
    request = Request(target="/a", deadline_s=102.0)
    caught, handler = await failing(
        retry_over(clock, jitter=lambda: 1.0), [fault(), fault(), fault()], request
    )
    assert clock.slept_s == [0.5, 1.0]
    assert caught.tries == len(handler.requests) == 3


async def test_a_wait_that_ends_with_the_deadline_is_not_begun() -> None:
    """A try that begins at its deadline cannot succeed."""
    clock = AutoClock(start_s=100.0)
    caught, _ = await failing(retry_over(clock), [fault()], Request(target="/a", deadline_s=100.5))
    assert caught.tries == 1
    assert clock.slept_s == []


async def test_cancelling_a_call_that_waits_cancels_it() -> None:
    """Cancellation passes through a retry's wait; no further try is sent."""
    clock = ManualClock()
    handler = Scripted([fault()])
    call = asyncio.ensure_future(retry_over(clock)(GET, handler))
    await settle()
    assert clock.sleepers == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await clock.advance(60)
    assert len(handler.requests) == 1


# --- budget ------------------------------------------------------------------------------------------


async def test_a_retry_costs_and_its_success_pays_back() -> None:
    """500, 486 while the second try runs, 500 after it succeeded."""
    quota, seen = RetryQuota(500), []

    def look(request: Request) -> Response:
        seen.append(quota.available)
        return OK

    await retry_over(quota=quota)(GET, Scripted([fault(), look]))
    assert seen == [486]
    assert quota.available == 500


async def test_only_the_last_cost_comes_back() -> None:
    """A call that needed two retries costs the budget one."""
    quota = RetryQuota(500)
    await retry_over(quota=quota)(GET, Scripted([fault(), fault(), OK]))
    assert quota.available == 486


async def test_a_failed_call_pays_nothing_back() -> None:
    """What did not help is spent."""
    quota = RetryQuota(500)
    await failing(retry_over(quota=quota, policy=RetryPolicy(max_tries=3)), [fault(), fault(), fault()])
    assert quota.available == 500 - 2 * 14


async def test_a_retry_after_429_is_cheaper() -> None:
    """A throttled server works; its retries cost 5."""
    quota = RetryQuota(500)
    await failing(retry_over(quota=quota), [throttle(), NotFound(*AT, 404)])
    assert quota.available == 495


async def test_an_empty_budget_allows_no_retry() -> None:
    """When too much fails, a failure is reported after its first try; nothing is taken."""
    quota, clock = RetryQuota(13), AutoClock()
    caught, handler = await failing(retry_over(clock, quota=quota), [fault()])
    assert caught.tries == len(handler.requests) == 1
    assert quota.available == 13
    assert clock.slept_s == []


async def test_clean_successes_fill_the_budget_slowly_up_to_its_size() -> None:
    """Each puts back one, and never more than fits."""
    quota = RetryQuota(15)
    assert quota.take(15)
    retry = retry_over(quota=quota)
    await retry(GET, Scripted([OK]))
    assert quota.available == 1
    for _ in range(20):
        await retry(GET, Scripted([OK]))
    assert quota.available == 15


# --- the published vectors of the AWS SDKs' standard mode, 2026 revision -----------------------------


def test_delays_of_the_published_table() -> None:
    """With a draw of 1 and their base of 50 ms: .05 .1 .2 … 12.8, then 20 s for ever."""
    bounds_s = [wait_bound_s(try_no, first_s=0.05, max_s=20) for try_no in range(1, 12)]
    assert bounds_s == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20])


async def test_delays_of_the_published_table_are_slept() -> None:
    """The same through the middleware."""
    clock, policy = AutoClock(), RetryPolicy(max_tries=12, first_s=0.05, max_s=20)
    await failing(retry_over(clock, policy=policy), [fault() for _ in range(12)])
    assert clock.slept_s == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20])


async def test_a_budget_of_14_allows_one_retry_then_none() -> None:
    """Three tries are allowed, the budget pays for one: two requests, nothing left, then one a call."""
    quota, policy = RetryQuota(14), RetryPolicy(max_tries=3)
    for requests, left in ((2, 0), (1, 0)):
        caught, handler = await failing(retry_over(policy=policy, quota=quota), [fault()] * requests)
        assert caught.tries == len(handler.requests) == requests
        assert quota.available == left


async def test_the_budget_from_500_over_486_to_500() -> None:
    """Success after one retry pays it back; after two, the first stays spent: 500 486 472 → 486 → 487."""
    quota, seen = RetryQuota(500), list[int]()

    def failed(request: Request) -> Response:
        seen.append(quota.available)
        raise fault()

    def well(request: Request) -> Response:
        seen.append(quota.available)
        return OK

    for steps in ([failed, well], [failed, failed, well], [well]):
        await retry_over(quota=quota)(GET, Scripted(steps))
        seen.append(quota.available)
    assert seen == [500, 486, 500, 500, 486, 472, 486, 486, 487]


async def test_draws_are_uniform() -> None:
    """Ten thousand waits with the jitter a client has: every tenth of the range gets its share ±20 %."""
    clock = AutoClock()
    jitter = inspect.signature(Session).parameters["jitter"].default
    retry = retry_over(clock, policy=RetryPolicy(first_s=1.0), jitter=jitter)
    for _ in range(10_000):
        await retry(GET, Scripted([fault(), OK]))
    shares = Counter(int(10 * wait_s) for wait_s in clock.slept_s)
    assert set(shares) == set(range(10))
    assert all(800 <= share <= 1_200 for share in shares.values())


# --- cost and reports --------------------------------------------------------------------------------


async def test_success_never_enters_tenacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting tenacity up costs half a request, so a call that works does not."""

    def entered(*args: object, **kwargs: object) -> None:
        raise AssertionError("tenacity was set up")

    monkeypatch.setattr(tenacity, "AsyncRetrying", entered)
    assert await retry_over()(GET, Scripted([OK])) is OK
    with pytest.raises(AssertionError, match="set up"):
        await retry_over()(GET, Scripted([fault()]))


async def test_every_repeat_is_reported_with_its_wait() -> None:
    """Observers learn which try failed, why, and the wait that follows; the final failure is no repeat."""
    events: list[Event] = []
    retry = retry_over(policy=RetryPolicy(max_tries=3), emit=events.append)
    await failing(retry, [fault(), lost(), fault()], Request(target="/a?search=asha"))
    assert events == [
        TryFailed(method="GET", url="/a?search=…", try_no=1, error="ServerFault", wait_s=0.5),
        TryFailed(method="GET", url="/a?search=…", try_no=2, error="AnswerLost", wait_s=1.0),
    ]
