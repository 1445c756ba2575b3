"""The real client against a server that fails by the dice, for thousands of simulated hours.

One seed is one story in two phases. Faults on: what is delivered is the truth from its beginning, in its
order, nothing lost, repeated or invented; after an error it goes on from the error's `resume_token`, often
in a new process. Faults off: it finishes, with exactly the truth. A seed that fails says how to repeat it;
`--seeds 10000` tells more stories.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import msgspec
import pytest

import testpress_async as tp
from testpress_async.listing.listing import Listing
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.faults.simulated import FaultyServer, true_ids
from tests.support.virtual_time import DAY_S, run

MOST_ERRORS = 6  # then the faults end
MOST_ROUNDS = 40  # without faults; more than one, because a learned limit may have to be waited for
RECOVERY_S = 600.0  # so long after the last fault a client may still need to get a new token
CUT_OFF_S = 4 * DAY_S  # a learned pause is a day at most


class Broken(AssertionError):
    """A promise was not kept."""


class Row(msgspec.Struct):
    id: int


class Reading:
    """What was delivered of one list, and where to go on.

    Args:
        ids: The truth, in order.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids
        self.taken = 0
        self.token: str | None = None
        self.finished = False

    def take(self, record_id: int) -> None:
        expected = self._ids[self.taken] if self.taken < len(self._ids) else None
        if record_id != expected:
            known = "out of place" if record_id in self._ids else "invented"
            raise Broken(f"record {self.taken} is {record_id} ({known}), expected {expected}")
        self.taken += 1

    def end(self) -> None:
        if self.taken != len(self._ids):
            raise Broken(f"the list ended after {self.taken} of {len(self._ids)} records")
        self.finished = True

    def failed(self, error: tp.Error) -> None:
        if error.resume_token is None:
            raise Broken(f"no resume_token on {error!r}") from error
        self.token = error.resume_token


# --- ways to read ------------------------------------------------------------------------------------


async def by_record(listing: Listing[tp.Attempt], reading: Reading, dice: Random) -> None:
    window, slow = dice.choice((1, 1, 2, 8)), dice.random() < 0.2
    records = listing.prefetch(window) if window > 1 else aiter(listing)
    async with contextlib.aclosing(records):
        async for record in records:
            reading.take(record.id)
            if slow:
                await asyncio.sleep(dice.expovariate(0.1))
    reading.end()


async def by_page(listing: Listing[tp.Attempt], reading: Reading, dice: Random) -> None:
    """Now and then it breaks off, or is cancelled, and goes on from the last page it got."""
    stop_at = dice.choice((99, 99, 1, 3))
    patience_s = dice.choice((None, None, 1.0, 30.0, 600.0))
    pages = listing.pages(dice.choice((1, 2, 4, 16)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s), contextlib.aclosing(pages):
            async for page in pages:
                for record in page.items:
                    reading.take(record.id)
                reading.token = page.token
                if (stop_at := stop_at - 1) == 0:
                    return
        reading.end()


async def by_raw_page(listing: Listing[tp.Attempt], reading: Reading, dice: Random) -> None:
    async with contextlib.aclosing(listing.raw_pages(dice.choice((1, 3)))) as pages:
        async for page in pages:
            for row in page.rows["attempts"]:
                reading.take(msgspec.json.decode(row, type=Row).id)
            reading.token = page.token
    reading.end()


class AttemptList:
    """Reads the list of attempts, each time in another way."""

    def __init__(self) -> None:
        self._reading = Reading(true_ids("attempts"))

    @property
    def finished(self) -> bool:
        return self._reading.finished

    async def go_on(self, client: tp.Client, dice: Random) -> None:
        reading, listing = self._reading, client.attempts.list()
        if reading.token is not None:
            listing = listing.resume(reading.token)
        elif reading.taken:
            raise Broken("records came, and nothing to go on from")
        try:
            await dice.choice((by_record, by_page, by_raw_page))(listing, reading, dice)
        except tp.Error as error:
            reading.failed(error)
            raise


class AnswersOfMany:
    """Fans out over the answers of some attempts; what failed goes on in the next round."""

    def __init__(self) -> None:
        self._readings = {parent: Reading(true_ids("user_answers", parent)) for parent in (1, 3, 4, 6)}

    @property
    def finished(self) -> bool:
        return all(reading.finished for reading in self._readings.values())

    async def go_on(self, client: tp.Client, dice: Random) -> None:
        def call(parent: int) -> Listing[tp.UserAnswer]:
            listing, token = client.attempts.user_answers(parent), self._readings[parent].token
            return listing if token is None else listing.resume(token)

        todo = [parent for parent, reading in self._readings.items() if not reading.finished]
        concurrency, ordered = dice.randint(1, 4), dice.random() < 0.5
        async with client.fan_out(
            todo, call, concurrency=concurrency, on_error="collect", ordered=ordered
        ) as results:
            async for parent, answer in results:
                self._readings[parent].take(answer.id)
        for parent, error in results.errors:
            self._readings[parent].failed(error)
        failed = {parent for parent, _ in results.errors}
        for parent in todo:
            if parent not in failed:
                self._readings[parent].end()
        if results.errors:
            raise min((error for _, error in results.errors), key=only_waits)


def only_waits(error: tp.Error) -> bool:
    """Whether it only says that our own limiter makes it wait longer than this call may take."""
    if isinstance(error, tp.TimedOut):
        return error.limit == "total_s"
    return isinstance(error, tp.RateLimited) and not error.sent


# --- a story ---------------------------------------------------------------------------------------


@dataclass
class Story:
    """What happened with one seed. `seconds`: virtual; `trace`: the requests; `errors`: names."""

    seconds: float
    trace: list[tuple[float, str, str, str]]
    errors: list[str]


class Teller:
    """Lets one story happen."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)
        self._reader = self._dice.choice((AttemptList, AttemptList, AnswersOfMany))()
        self._server = FaultyServer(Random(self._dice.random()))
        self._errors: list[str] = []
        self._healthy_rounds = 0
        self._healthy_since_s = 0.0

    async def tell(self) -> Story:
        async with self._server:
            while not self._reader.finished:
                async with client_of(self._server, self._dice) as client:
                    for _ in range(self._dice.randint(1, 4)):  # then a new process
                        if not await self._round(client):
                            break
                    require_idle(client)
                await require_nothing_left(self._server)
            return Story(loop_s(), self._server.trace, self._errors)

    async def _round(self, client: tp.Client) -> bool:
        """Read on until the end or an error; whether there is more to do for this client."""
        self._calm_down()
        try:
            await self._reader.go_on(client, self._dice)
        except tp.Error as error:
            self._errors.append(type(error).__name__)
            return await self._after(error)
        return not self._reader.finished

    def _calm_down(self) -> None:
        """End the faults when there were enough, and the story when that does not help."""
        if self._server.faulty and len(self._errors) >= MOST_ERRORS:
            self._server.faulty, self._healthy_since_s = False, loop_s()
        self._healthy_rounds += not self._server.faulty
        if self._healthy_rounds > MOST_ROUNDS:
            raise Broken("does not finish, though nothing fails any more")

    async def _after(self, error: tp.Error) -> bool:
        """Wait as a sensible user would; whether the client can be used on."""
        if isinstance(error, tp.RateLimited) and not error.sent:
            await asyncio.sleep(error.retry_after_s or 1.0)
        elif self._server.faulty:
            await asyncio.sleep(self._dice.choice((0, 1, 60)))
        elif only_waits(error):
            await asyncio.sleep(1)
        elif isinstance(error, tp.AuthenticationFailed) and loop_s() < self._healthy_since_s + RECOVERY_S:
            await asyncio.sleep(60)  # a new token was refused just before: it takes care not to hammer
        else:
            raise Broken(f"nothing fails any more, but: {error!r}") from error
        return True


def loop_s() -> float:
    return asyncio.get_running_loop().time()


def client_of(server: FaultyServer, dice: Random) -> tp.Client:
    return tp.Client(
        server.origin,
        username="admin",
        password="secret",
        retry=tp.RetryPolicy(max_tries=dice.choice((1, 3, 5)), quota=dice.choice((30, 500))),
        timeouts=tp.Timeouts(total_s=dice.choice((60, 300, 3_600))),
        max_connections=dice.choice((1, 2, 16)),
        on_event=dice.choice((None, lambda event: None)),
    )


def require_idle(client: tp.Client) -> None:
    """Nobody reads now, so no request is on the way and nobody waits for the limiter."""
    gate = client._session.gate  # pyright: ignore[reportPrivateUsage]
    if gate.in_flight or gate.waiting:
        raise Broken(f"nobody reads, but {gate.in_flight} requests are in flight and {gate.waiting} wait")


async def require_nothing_left(server: FaultyServer) -> None:
    """After the client is closed no task of it runs and no connection is open."""
    await asyncio.sleep(0.001)  # the server sees the ends of connections
    mine = {asyncio.current_task(), *server.open}
    if left := [task for task in asyncio.all_tasks() if task not in mine]:
        raise Broken(f"the client is closed, but these run: {left}")


def story_of(seed: int) -> Story:
    """The story of *seed*. A failure says how to repeat it."""
    try:
        return run(Teller(seed).tell(), seed=seed, limit_s=CUT_OFF_S)
    except BaseException as error:
        error.add_note(f"To repeat it: pytest tests/faults/test_simulation.py --seed {seed}")
        raise


def test_nothing_is_lost_repeated_or_invented_and_it_always_finishes(
    seeds: range,
) -> None:
    """Whatever fails, what came is the truth from its beginning; when nothing fails, all of it comes."""
    stories = [story_of(seed) for seed in seeds]
    if len(stories) == 1:
        for entry in stories[0].trace:
            print(*entry)
    else:
        assert sum(story.seconds for story in stories) > 3_600, "the clock was not virtual"


@pytest.mark.parametrize("seed", range(15))
def test_the_same_seed_tells_the_same_story(seed: int) -> None:
    """Every request comes at the same moment and meets the same fault."""
    assert story_of(seed) == story_of(seed)


# --- found by stories, and mended since -------------------------------------------------------------


def test_errors_of_a_shared_login_resume_their_own_lists() -> None:
    """When one failed login ends several lists, each error's token belongs to its own list."""

    async def scenario() -> None:
        async with Sandbox(attempts=20, exams=2) as institute, client_of_sandbox(institute) as client:
            institute.script(Fault(method="POST", status=503))
            async with client.fan_out([1, 2, 3], client.attempts.user_answers, on_error="collect") as results:
                assert [each async for each in results] == []
            assert len(results.errors) == 3
            for parent, error in results.errors:
                assert error.resume_token is not None
                client.attempts.user_answers(parent).resume(error.resume_token)

    run(scenario())


def test_a_client_recovers_from_a_token_revoked_before_its_first_use() -> None:
    """A new token that is refused ends that call; an hour later the client logs in again."""

    async def scenario() -> None:
        async with Sandbox(attempts=20, exams=2) as institute, client_of_sandbox(institute) as client:
            institute.script(Fault(method="GET", status=500))
            for _ in range(2):
                with pytest.raises(tp.StatusError):
                    await client.attempts.list()
                institute.revoke_tokens()
            await asyncio.sleep(3_000)
            await client.attempts.list()

    run(scenario())


def test_tokens_that_expire_while_requests_wait_for_the_limiter_cost_nothing() -> None:
    """A token that lives shorter than the limiter makes requests wait never ends a list."""

    async def scenario() -> None:
        limit = RateLimit(5, 3_600)
        institute = Sandbox(attempts=200, exams=2, per_page=10, rate=limit, token_ttl_s=300, latency_ms=100)
        async with institute, client_of_sandbox(institute) as client:
            ids = [attempt.id async for attempt in client.attempts.list().prefetch(8)]
            assert ids == institute.truth.ids("attempts")

    run(scenario())


def test_a_proxys_404_in_the_middle_of_a_list_is_not_its_end() -> None:
    """Only the framework's own "Invalid page." says so; from the error it goes on, and nothing is lost."""

    async def scenario() -> None:
        async with (
            Sandbox(attempts=60, exams=2, per_page=10) as institute,
            client_of_sandbox(institute) as client,
        ):
            institute.script(Fault(query="page=3", status=404, body=b"<html>no such upstream</html>"))
            listing, seen = client.attempts.list(), list[int]()

            async def read() -> None:
                async for attempt in listing:
                    seen.append(attempt.id)

            with pytest.raises(tp.NotFound) as caught:
                await read()
            assert caught.value.resume_token is not None
            seen += [attempt.id async for attempt in listing.resume(caught.value.resume_token)]
            assert seen == institute.truth.ids("attempts")

    run(scenario())


def client_of_sandbox(institute: Sandbox) -> tp.Client:
    return tp.Client(
        institute.url,
        username=institute.username,
        password=institute.password,
        retry=tp.RetryPolicy(max_tries=1),
        timeouts=tp.Timeouts(total_s=DAY_S),
    )
