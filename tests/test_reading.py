"""Single shards read from an institute that misbehaves: what is called certified is whole."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.client import Client
from testpress_async.errors import DatasetError, NotFound
from testpress_async.harvest import reading
from testpress_async.harvest.reading import Outcome, Pages, Reader, Rows
from testpress_async.harvest.shard import Shard, Window
from testpress_async.harvest.survey import Piece
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.policy import RetryPolicy
from testpress_async.sandbox import Fault, Sandbox
from tests.support.exporting import ATTEMPTS, CONTENT_ATTEMPTS, EXAMS, page

ZONE = timezone(timedelta(hours=5, minutes=30))
DAY = date(2025, 6, 10)
TODAY = date(2025, 8, 1)  # of the readers, unless a test says otherwise
USERS = "/api/v2.5/admin/users/"
GONE = b'{"detail": "Not found."}'
PROXY = b"<html><head><title>404 Not Found</title></head><body>nginx</body></html>"

Before = Callable[[int, Sandbox], object]
"""Called with the number of each request just before it is sent."""


@contextlib.asynccontextmanager
async def opened(
    before: Before = lambda number, institute: None,
    change: Callable[[Request], Request] = lambda request: request,
    **options: Any,
) -> AsyncGenerator[tuple[Sandbox, Client]]:
    """A small institute, all of whose attempts are of ten days, and a client that can meddle with it."""
    small: dict[str, Any] = {
        "attempts": 40,
        "content_attempts": 0,
        "users": 9,
        "exams": 3,
        "courses": 3,
        "conferences": 2,
        "first_day": DAY,
        "last_day": DAY + timedelta(days=9),
        "per_page": 5,
        "answers_per_page": 50,
    }
    numbers = itertools.count(1)

    async def meddle(request: Request, handler: Handler) -> Response:
        before(next(numbers), institute)
        return await handler(change(request))

    async with (
        Sandbox(**(small | options)) as institute,
        Client(
            institute.url, token=institute.token(), retry=RetryPolicy(max_tries=1), middleware=(meddle,)
        ) as client,
    ):
        yield institute, client


async def read_once(client: Client, shard: Shard, *, pages: int = 0, **options: Any) -> Outcome:
    reader = Reader(client, **({"today": TODAY, "max_pages": 10} | options))
    async with asyncio.timeout(20):  # a reader that never ends fails here
        return await reader.read(Piece(shard, pages))


async def read(client: Client, shard: Shard, **options: Any) -> Outcome:
    """The same with what it is divided into, one after the other."""
    found = await read_once(client, shard, **options)
    if not found.parts:
        return found
    parts = [await read(client, part.shard, **options) for part in found.parts]
    status = {part.status for part in parts}
    return Outcome(
        status="unverified" if "unverified" in status else "open" if "open" in status else "certified",
        agrees=all(part.agrees for part in parts),
        pages=[rows for part in parts for rows in part.pages],
    )


def ids(found: Outcome) -> list[Any]:
    return [each for rows in found.pages for each in rows.ids]


def lines(found: Outcome) -> list[bytes]:
    return [line for rows in found.pages for line in rows.lines]


def whole(first: date | None = None, last: date | None = None) -> Shard:
    return Shard(table="attempts", window=Window(first, last), end_exclusive=False)


def by_date(institute: Sandbox) -> list[int]:
    """Ids of dated attempts, oldest first."""
    return institute.truth.ids("attempts", ordering="date", date_0="2000-01-01")


def wanted_of(institute: Sandbox, shard: Shard) -> list[int]:
    if shard.parent is not None:
        return institute.truth.ids("user_answers", parent=shard.parent)
    return by_date(institute)


def today_for(shard: Shard) -> date:
    return OPEN_TODAY if shard is OPEN else TODAY


ANSWERED = Shard(table="user_answers", parent=7)
CLOSED = whole(None, DAY + timedelta(days=20))
OPEN = whole(DAY - timedelta(days=1))
OPEN_TODAY = DAY


# --- parents ---------------------------------------------------------------------------------------------


@pytest.mark.row(70)
async def test_a_parent_deleted_while_its_pages_are_read_is_gone():
    """Its last page came, the others answer 404: that is the end of it, and not asked for ever."""

    def before(number: int, institute: Sandbox) -> None:
        if number == 2:
            institute.delete_attempts([7])

    async with opened(before) as (institute, client):
        found = await read(client, ANSWERED)
        assert found.gone
        assert institute.requests < 10


@pytest.mark.parametrize(
    "body", [GONE, b'{"detail":"Not found"}', b'{"detail":"No Attempt matches the given query."}']
)
@pytest.mark.parametrize("table", ["user_answers", "attempt_details"])
async def test_a_parent_is_gone_if_the_framework_says_so(table: str, body: bytes):
    """In any of the words it has for it."""
    async with opened() as (institute, client):
        institute.script(Fault(path="/api/", status=404, body=body, times=None))
        assert (await read(client, Shard(table=table, parent=7))).gone


@pytest.mark.parametrize("body", [PROXY, b"", b"404 page not found", b"{}", b'{"detail":"Invalid page."}'])
@pytest.mark.parametrize("table", ["user_answers", "attempt_details", "attempts"])
async def test_a_proxys_404_is_no_parent_that_is_gone(table: str, body: bytes):
    """Nor is it an empty list: the read fails, and can be repeated."""
    async with opened() as (institute, client):
        institute.script(Fault(path="/api/", status=404, body=body, times=None))
        shard = Shard(table=table, parent=None if table == "attempts" else 7)
        with pytest.raises(NotFound):
            await read(client, shard)


@pytest.mark.row(70)
@pytest.mark.parametrize("shard", [ANSWERED, CLOSED, OPEN], ids=["parent", "closed", "open"])
async def test_a_page_that_a_proxy_answers_is_read_again(shard: Shard):
    """A stray 404 in the middle of a list is not its end."""
    async with opened() as (institute, client):
        institute.script(Fault(query="page=2", status=404, body=PROXY))
        found = await read(client, shard, today=today_for(shard))
        assert ids(found) == wanted_of(institute, shard)
    assert found.status == ("open" if shard is OPEN else "certified")
    assert found.passes == 2


@pytest.mark.parametrize("shard", [ANSWERED, OPEN], ids=["parent", "open"])
async def test_a_page_that_a_proxy_always_answers_is_an_error(shard: Shard):
    """What cannot be read is not left out."""
    async with opened() as (institute, client):
        institute.script(Fault(query="page=2", status=404, body=PROXY, times=None))
        with pytest.raises(NotFound):
            await read(client, shard, today=today_for(shard))


# --- changes and contradictions --------------------------------------------------------------------------


@pytest.mark.row(68, 70)
@pytest.mark.parametrize("shard", [Shard(table="attempts"), CLOSED, OPEN], ids=["whole", "closed", "open"])
async def test_pages_that_vanish_with_half_the_list_cost_nothing_else(shard: Shard):
    """Page 8 is asked for when there are four: it is looked at again, and all that stayed is there."""

    def before(number: int, institute: Sandbox) -> None:
        if number == 2:
            institute.delete_attempts(by_date(institute)[3:23])

    async with opened(before) as (institute, client):
        found = await read(client, shard, today=today_for(shard))
        assert set(ids(found)) >= set(by_date(institute))
        assert found.status == ("open" if shard is OPEN else "certified")


async def test_a_list_that_shrinks_while_it_is_divided_is_read_all_the_same():
    """A page in the middle was to say where to divide it, and is not there any more."""

    def before(number: int, institute: Sandbox) -> None:
        if number == 2:
            institute.delete_attempts(by_date(institute)[:35])

    async with opened(before) as (institute, client):
        found = await read(client, CLOSED, max_pages=1)
        assert set(ids(found)) >= set(by_date(institute))


@pytest.mark.row(71)
@pytest.mark.parametrize("shard", [ANSWERED, CLOSED, OPEN], ids=["parent", "closed", "open"])
@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
async def test_an_empty_page_in_the_middle_is_not_believed(shard: Shard, times: int | None):
    """Read again, or around it; if it stays empty, the rest is there and nothing is called complete."""
    async with opened() as (institute, client):
        institute.script(Fault(query="page=2", change=_emptied, times=times))
        found = await read(client, shard, today=today_for(shard))
        wanted = wanted_of(institute, shard)
    size = 5 if shard is not ANSWERED else 50
    if times == 1 or shard is CLOSED:  # which is divided until it has no page 2
        assert found.status == ("open" if shard is OPEN else "certified")
    else:
        assert not found.agrees
    if found.status == "certified":
        size = 0
    assert set(ids(found)) >= {*wanted[:size], *wanted[2 * size :]}


def _emptied(body: bytes) -> bytes:
    decoded = msgspec.json.decode(body)
    results = decoded["results"]
    decoded["results"] = [] if isinstance(results, list) else {name: [] for name in results}
    return msgspec.json.encode(decoded)


def _changed(**head: object) -> Callable[[bytes], bytes]:
    """The page with other things said about it; what is not said is taken out."""

    def change(body: bytes) -> bytes:
        decoded = msgspec.json.decode(body) | head
        return msgspec.json.encode({name: value for name, value in decoded.items() if value != "out"})

    return change


@pytest.mark.parametrize("shard", [ANSWERED, CLOSED, OPEN], ids=["parent", "closed", "open"])
@pytest.mark.parametrize("count", [1, 12, 10**15], ids=["one", "too low", "absurd"])
async def test_a_count_that_contradicts_next_is_no_proof(shard: Shard, count: int):
    """Everything that `next` leads to is read, in few requests, and called unverified."""
    async with opened() as (institute, client):
        institute.script(Fault(path="/api/", change=_changed(count=count), times=None))
        found = await read(client, shard, today=today_for(shard))
        assert set(ids(found)) == set(wanted_of(institute, shard))
        assert institute.requests < 1_500
    assert found.status == "unverified"


@pytest.mark.parametrize("shard", [ANSWERED, CLOSED, OPEN], ids=["parent", "closed", "open"])
@pytest.mark.parametrize("count", [None, "many", -1])
async def test_a_list_without_a_count_is_read_and_not_proved(shard: Shard, count: object):
    """It is walked to its end; nothing says whether that is all."""
    async with opened() as (institute, client):
        institute.script(Fault(path="/api/", change=_changed(count=count), times=None))
        found = await read(client, shard, today=today_for(shard))
        assert set(ids(found)) == set(wanted_of(institute, shard))
    assert found.status == "unverified"


async def test_a_single_page_needs_no_count():
    """A list that has one page is what that page holds."""
    async with opened(answers_per_page=1_000) as (institute, client):
        institute.script(Fault(path="/api/", change=_changed(count=None), times=None))
        found = await read(client, ANSWERED)
        assert ids(found) == institute.truth.ids("user_answers", parent=7)
    assert (found.status, found.agrees) == ("certified", True)


@pytest.mark.parametrize("shard", [ANSWERED, CLOSED, OPEN], ids=["parent", "closed", "open"])
async def test_the_page_size_need_not_be_told(shard: Shard):
    """It is learnt from the first page, wherever the read began."""
    async with opened() as (institute, client):
        institute.script(Fault(path="/api/", change=_changed(per_page="out"), times=None))
        found = await read(client, shard, pages=8, today=today_for(shard))
        assert set(ids(found)) == set(wanted_of(institute, shard))
        assert institute.requests < 12
    assert found.agrees


async def test_a_next_that_leads_elsewhere_is_no_proof():
    """A page whose `next` skips one is asked for again; if it stays so, what came is unverified."""
    for times, status in ((1, "certified"), (None, "unverified")):
        async with opened() as (institute, client):
            strange = _changed(next="http://x/?page=7")
            institute.script(Fault(query="page=2", change=strange, times=times))
            found = await read(client, ANSWERED)
            assert found.status == status
            wanted = wanted_of(institute, ANSWERED)
            assert set(ids(found)) >= set(wanted if times == 1 else [*wanted[:50]])


async def test_a_count_that_changes_with_every_answer_ends_unverified():
    """A list that never holds still is given up after a bounded number of requests."""

    def before(number: int, institute: Sandbox) -> None:
        if number < 500:
            institute.insert_attempts(1, at=datetime(2025, 6, 10, 12, tzinfo=ZONE))

    async with opened(before, attempts=12, last_day=DAY) as (institute, client):
        stable = set(by_date(institute))
        found = await read(client, whole(DAY, DAY))
        assert institute.requests < 500
        assert set(ids(found)) >= stable
    assert found.status == "unverified"


async def test_pages_without_end_and_without_records_are_given_up(monkeypatch: pytest.MonkeyPatch):
    """A server that always names a next page and never sends a record does not hold a harvest for ever."""
    monkeypatch.setattr(reading, "MAX_EMPTY_PAGES", 30)

    def endless(number: int) -> bytes:
        return b'{"count":null,"next":"http://x/?page=%d","per_page":5,"results":[]}' % (number + 1)

    async with opened() as (institute, client):
        for number in range(60, 0, -1):
            query = "" if number == 1 else f"page={number}"
            institute.script(Fault(path=EXAMS, query=query, status=200, body=endless(number), times=None))
        found = await read(client, Shard(table="exams"))
        assert institute.requests < 60
    assert (found.status, ids(found)) == ("unverified", [])


@pytest.mark.row(65)
@pytest.mark.parametrize("shard", [CLOSED, OPEN], ids=["closed", "open"])
async def test_a_window_that_is_ignored_is_noticed_by_the_rows(shard: Shard):
    """Rows of other days: everything that came is kept, and nothing is called complete."""
    ignored = frozenset({"date_0", "date_1"})
    shard = shard.over(Window(DAY + timedelta(days=4), None if shard is OPEN else DAY + timedelta(days=5)))
    async with opened(ignored_filters=ignored) as (institute, client):
        found = await read(client, shard, today=DAY + timedelta(days=5) if shard is OPEN else TODAY)
        assert set(by_date(institute)) <= set(ids(found))
    assert found.status == "unverified"


# --- a busy day ------------------------------------------------------------------------------------------


def _busy(until: int) -> Before:
    """One more attempt of the day before each request, up to *until*."""

    def before(number: int, institute: Sandbox) -> None:
        if number < until:
            institute.insert_attempts(1, at=datetime(2025, 6, 10, 12, tzinfo=ZONE))

    return before


def _busy_until_divided(number: int, institute: Sandbox) -> None:
    """One more attempt of the day before each request, until the exams are asked for."""
    if not any(seen.path == EXAMS for seen in institute.log):
        _busy(number + 1)(number, institute)


async def test_a_busy_day_is_read_exam_by_exam():
    """What would not hold still as a whole does so in parts, which add up to it."""
    async with opened(_busy(19), last_day=DAY) as (institute, client):
        found = await read(client, whole(DAY, DAY))
        assert set(ids(found)) == set(by_date(institute))
        assert found.count == len(by_date(institute))
        assert any("exams=" in seen.query for seen in institute.log)
    assert (found.status, found.agrees) == ("certified", True)


async def test_a_busy_day_of_chosen_exams_is_read_by_these():
    """The shard's own exams are the parts."""
    async with opened(_busy(19), last_day=DAY) as (institute, client):
        shard = msgspec.structs.replace(whole(DAY, DAY), filters=(("exams", "1,2"),))
        found = await read(client, shard)
        rows = [row for row in institute.truth.records("attempts") if row["date"]]
        assert set(ids(found)) == {row["id"] for row in rows if row["exam_id"] in (1, 2)}
        assert not any(seen.path == EXAMS for seen in institute.log)
    assert found.agrees


@pytest.mark.parametrize("known", [[1], [1, 2], [*range(1, 40)]], ids=["one", "not all", "too many"])
@pytest.mark.parametrize(
    ("ignored", "parts"),
    [("", "state="), ("state", "users="), ("state,users", "")],
    ids=["state", "user", "none"],
)
async def test_a_busy_day_of_exams_nobody_knows_is_read_otherwise(known: list[int], ignored: str, parts: str):
    """The exams do not add up, or are too many: by state, by user, or as a whole until it holds still."""
    body = page(*(msgspec.json.encode({"id": each}) for each in known))
    settings = {"last_day": DAY, "ignored_filters": frozenset(filter(None, ignored.split(",")))}
    async with opened(_busy_until_divided, **settings) as (institute, client):
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        for each in by_date(institute):
            institute.edit_attempt(each, state="Running" if each % 2 else "Completed")
        stable = set(by_date(institute))
        found = await read(client, whole(DAY, DAY))
        assert set(ids(found)) >= stable
        read_in_parts = {
            name
            for name in ("exams=", "state=", "users=")
            for seen in institute.log
            if name in seen.query and "page=" in seen.query
        }
        assert read_in_parts == ({parts} if parts else set())
    assert found.status in ("certified", "open")  # the latter if some still go on


async def test_an_attempt_that_ends_between_the_parts_of_a_day_is_no_proof():
    """It came as running and as completed: the day is read another way, and holds it once."""
    moved = list[int]()

    def before(number: int, institute: Sandbox) -> None:
        _busy_until_divided(number, institute)
        if (
            not moved
            and institute.log
            and "state=0" in institute.log[-1].query
            and "page=" in institute.log[-1].query
        ):
            moved.append(
                next(row["id"] for row in institute.truth.records("attempts") if row["state"] == "Running")
            )
            institute.finish_attempt(moved[0])

    async with opened(before, last_day=DAY) as (institute, client):
        institute.script(Fault(path=EXAMS, status=200, body=page(b'{"id": 1}'), times=None))
        for each in by_date(institute):
            institute.edit_attempt(each, state="Running" if each % 2 else "Completed")
        found = await read(client, whole(DAY, DAY))
        assert moved
        assert sorted(ids(found)) == sorted(by_date(institute))
    assert found.status in ("certified", "open")


async def test_an_attempt_that_goes_to_a_state_nobody_was_in_is_not_lost():
    """None had ended when the parts were counted, and one had before the running ones were read."""
    moved = list[int]()

    def before(number: int, institute: Sandbox) -> None:
        _busy_until_divided(number, institute)
        if not any("state=" in seen.query for seen in institute.log):
            for each in by_date(institute):
                institute.edit_attempt(each, state="Running")
        counted = any("state=1" in seen.query for seen in institute.log)
        if not moved and counted and "state=" not in institute.log[-1].query:
            moved.append(by_date(institute)[0])
            institute.finish_attempt(moved[0])

    async with opened(before, last_day=DAY) as (institute, client):
        institute.script(Fault(path=EXAMS, status=200, body=page(b'{"id": 1}'), times=None))
        stable = set(by_date(institute))
        found = await read(client, whole(DAY, DAY))
        assert moved
        assert set(ids(found)) >= stable
    assert found.agrees


@pytest.mark.parametrize("status", [403, 404])
async def test_a_busy_day_is_read_all_the_same_where_users_cannot_be_listed(status: int):
    """A token that may not see the users, or a server without them, is no reason to fail."""
    async with opened(_busy_until_divided, last_day=DAY, ignored_filters=frozenset({"state"})) as (
        institute,
        client,
    ):
        refused = Fault(path=USERS, status=status, body=GONE, times=None)
        institute.script(Fault(path=EXAMS, status=status, body=GONE, times=None), refused)
        found = await read(client, whole(DAY, DAY))
        assert any(seen.path == USERS for seen in institute.log)
        assert set(ids(found)) == set(by_date(institute))
    assert found.agrees


async def test_a_busy_day_whose_exams_do_not_hold_still_either_is_unverified():
    """Given up after a bounded number of requests; every record that stayed is there."""
    calm = list[bool]()

    def before(number: int, institute: Sandbox) -> None:
        calm.append("exams=" in (institute.log[-1].query if institute.log else ""))
        if not any(calm[-2:]):  # while the exams are counted, they do add up
            _busy(400)(number, institute)

    async with opened(before, last_day=DAY) as (institute, client):
        stable = set(by_date(institute))
        found = await read(client, whole(DAY, DAY))
        assert set(ids(found)) >= stable
        assert institute.requests < 300
    assert found.status == "unverified"


async def test_a_busy_day_read_by_exams_twice_is_there_once():
    """Strict: what came can be gone through again, to be compared and to be landed."""
    async with opened(_busy(19), last_day=DAY) as (institute, client):
        found = await read(client, whole(DAY, DAY), strict=True)
        assert sorted(ids(found)) == sorted(by_date(institute))
        assert lines(found) == lines(found) != []
    assert found.status == "certified"


# --- attempts without a date -------------------------------------------------------------------------------


def _undated(institute: Sandbox, count: int) -> list[int]:
    """Take the date from so many attempts; the ids of all that have none."""
    for each in by_date(institute)[:count]:
        institute.edit_attempt(each, date=None)
    return [row["id"] for row in institute.truth.records("attempts") if not row["date"]]


def _reversed(request: Request) -> Request:
    """As a database would answer that puts what has no date at the other end."""
    target = request.target.replace("ordering=-date", "ordering=*").replace("ordering=date", "ordering=-date")
    return msgspec.structs.replace(request, target=target.replace("ordering=*", "ordering=date"))


def _same(request: Request) -> Request:
    return request


TIMELESS = Shard(table="attempts", undated=True, end_exclusive=False)
BACKWARDS = msgspec.structs.replace(TIMELESS, newest_first=True)


@pytest.mark.row(74)
@pytest.mark.parametrize("count", [0, 3, 5, 12, 40])
@pytest.mark.parametrize(
    ("shard", "change"), [(TIMELESS, _reversed), (BACKWARDS, _same)], ids=["first", "last"]
)
async def test_records_without_a_date_are_read_from_either_end(
    shard: Shard, change: Callable[[Request], Request], count: int
):
    """None, some, a page of them, several pages, or nothing else: exactly those, and proved."""
    async with opened(change=change) as (institute, client):
        wanted = _undated(institute, count)
        found = await read(client, shard)
        assert sorted(ids(found)) == sorted(wanted)
        assert all(b'"date":null' in line for line in lines(found))
    assert (found.status, found.count, found.agrees) == ("certified", len(wanted), True)


@pytest.mark.row(67, 74)
@pytest.mark.parametrize("at", range(2, 9))
async def test_a_deletion_among_records_without_a_date_costs_no_other(at: int):
    """They move up while they are read: one that has crossed to a page already read is found all the same."""

    def before(number: int, institute: Sandbox) -> None:
        if number == at:
            institute.delete_attempts([max(wanted)])  # the first of the list

    wanted: list[int] = []
    async with opened(before) as (institute, client):
        wanted += _undated(institute, 12)
        found = await read(client, BACKWARDS)
        assert set(ids(found)) >= set(wanted) - {max(wanted)}
    assert found.status == "certified"


async def test_records_without_a_date_that_never_hold_still_are_unverified():
    """Everything that was seen is kept."""

    def before(number: int, institute: Sandbox) -> None:
        institute.edit_attempt(by_date(institute)[0], date=None)

    async with opened(before, attempts=200) as (institute, client):
        wanted = _undated(institute, 12)
        found = await read(client, BACKWARDS)
        assert set(ids(found)) >= set(wanted)
    assert found.status == "unverified"


@pytest.mark.row(74)
@pytest.mark.parametrize(("undated", "requests"), [(0, 1), (3, 1), (12, 5)])
async def test_records_without_a_date_that_hold_still_are_read_once(undated: int, requests: int):
    """Five to a page: one answer proves a page of them, and two more prove several."""
    async with opened() as (institute, client):
        _undated(institute, undated)
        before = client.requests_sent
        found = await read(client, BACKWARDS)
        assert client.requests_sent - before == requests
    assert (found.status, found.passes) == ("certified", 1)


@pytest.mark.row(74)
@pytest.mark.parametrize("at", range(2, 8))
async def test_an_attempt_that_gets_its_date_meanwhile_hides_no_other(at: int):
    """The list keeps its count, but what has no date moves up by one place."""

    def before(number: int, institute: Sandbox) -> None:
        if number == at:
            institute.edit_attempt(max(wanted), date=datetime(2025, 6, 20, 10, tzinfo=ZONE))  # the first

    wanted: list[int] = []
    async with opened(before) as (institute, client):
        wanted += _undated(institute, 12)
        found = await read(client, BACKWARDS)
        assert set(ids(found)) >= set(wanted) - {max(wanted)}
    assert found.status == "certified"


async def test_a_bad_record_among_those_without_a_date_hides_none():
    """It is quarantined, and the ones after it are there."""

    def spoil(body: bytes) -> bytes:
        decoded = msgspec.json.decode(body)
        decoded["results"][1]["id"] = "x"
        return msgspec.json.encode(decoded)

    async with opened() as (institute, client):
        wanted = _undated(institute, 12)
        institute.script(
            *(Fault(query=f"page={n}", times=None) for n in range(2, 9)),
            Fault(path=ATTEMPTS, change=spoil, times=None),
        )
        found = await read(client, BACKWARDS)
        assert len(ids(found)) == len(wanted) - 1
    (bad,) = {bad.raw for rows in found.pages for bad in rows.bad}
    assert b'"id":"x"' in bad


@pytest.mark.row(65, 74)
async def test_an_ignored_order_is_noticed_by_what_has_no_date():
    """They stand anywhere: all are found by a walk, and that proves nothing."""
    async with opened(ignored_filters=frozenset({"ordering"})) as (institute, client):
        for each in (1, 3, 8, 30):
            institute.edit_attempt(each, date=None)
        found = await read(client, TIMELESS)
        assert set(ids(found)) == {1, 3, 8, 30}
    assert found.status == "unverified"


async def test_a_walk_among_records_without_a_date_that_fails_is_no_proof():
    """A server that repeats a page instead of the next ends it; what came is kept."""
    async with opened() as (institute, client):
        wanted = _undated(institute, 12)
        institute.script(Fault(query="page=2", change=_changed(next="http://x/?page=9"), times=None))
        found = await read(client, BACKWARDS)
        assert set(ids(found)) <= set(wanted)
    assert found.status == "unverified" or set(ids(found)) == set(wanted)


# --- strict ------------------------------------------------------------------------------------------------


@pytest.mark.row(72)
async def test_strict_reads_until_two_reads_brought_the_same():
    """A record that changed between the two is a difference, though its id is the same."""

    def before(number: int, institute: Sandbox) -> None:
        if number == 12:
            institute.edit_attempt(by_date(institute)[0], score="77.00")

    async with opened(before) as (institute, client):
        found = await read(client, CLOSED, strict=True)
        assert ids(found) == by_date(institute)
        assert any(b'"77.00"' in line for line in lines(found))
    assert (found.status, found.passes) == ("certified", 3)


async def test_strict_ends_where_records_always_change():
    """After a bounded number of reads: everything is there, unverified."""
    scores = itertools.count()

    def before(number: int, institute: Sandbox) -> None:
        institute.edit_attempt(by_date(institute)[0], score=f"{next(scores)}.00")

    async with opened(before, attempts=8) as (institute, client):
        found = await read(client, CLOSED, strict=True)
        assert ids(found) == by_date(institute)
    assert found.status == "unverified"


@pytest.mark.parametrize("at", [1, 12])
async def test_strict_divides_what_does_not_hold_still(at: int):
    """Whether it was the first or the second read that found it out."""

    def before(number: int, institute: Sandbox) -> None:
        if number > at:
            institute.insert_attempts(1, at=datetime(2025, 6, 12, 12, tzinfo=ZONE))

    async with opened(before) as (_institute, client):
        found = await read_once(client, CLOSED, strict=True)
    assert len(found.parts) > 1
    assert not list(found.pages)


async def test_strict_gives_up_what_turns_out_restless_in_the_second_read():
    """One perfect read, then no other: unverified, with all that stayed."""

    def before(number: int, institute: Sandbox) -> None:
        if number > 10:
            institute.insert_attempts(1, at=datetime(2025, 6, 10, 12, tzinfo=ZONE))

    async with opened(before, attempts=30, exams=1, last_day=DAY) as (institute, client):
        stable = set(by_date(institute))
        found = await read(client, whole(DAY, DAY), strict=True)
        assert set(ids(found)) >= stable
    assert found.status == "unverified"


# --- large shards ---


@pytest.mark.parametrize("strict", [False, True])
async def test_a_large_shard_goes_to_a_file(strict: bool, monkeypatch: pytest.MonkeyPatch):
    """The same records, whole and in order, side-loads included, whether they fit into memory or not."""
    shard = Shard(table="content_attempts")
    async with opened(content_attempts=60) as (_, client):
        near = await read(client, shard)
        monkeypatch.setattr(reading, "NEAR_BYTES", 5_000)
        far = await read(client, shard, strict=strict)
        assert [(rows.lines, rows.ids, rows.sides) for rows in far.pages] == [
            (rows.lines, rows.ids, rows.sides) for rows in near.pages
        ]
        assert lines(far) == lines(near)  # again
    assert len(lines(near)) == 60
    assert far.status == near.status == "certified"


async def test_what_earlier_passes_saw_is_kept_in_a_file_too(monkeypatch: pytest.MonkeyPatch):
    """Of a shard that cannot be proved; each record once if it has an id, in its newest version."""
    monkeypatch.setattr(reading, "NEAR_BYTES", 0)

    def before(number: int, institute: Sandbox) -> None:
        ids = institute.truth.ids("content_attempts")
        if number % 2:
            institute.insert_content_attempts(1)
        else:
            institute.delete_content_attempts(ids[-1:])

    async with opened(before, content_attempts=23) as (institute, client):
        first = set(institute.truth.ids("content_attempts"))
        found = await read(client, Shard(table="content_attempts"))
        assert set(ids(found)) >= first & set(institute.truth.ids("content_attempts"))
    assert found.status == "unverified"
    assert len(ids(found)) == len(set(ids(found)))


def rows_of(number: int) -> Rows:
    return Rows([b"%d" % number * 100], [number], [], {"users": [b"u" * 50]})


def test_pages_in_a_file_do_not_come_back_into_memory(monkeypatch: pytest.MonkeyPatch):
    """Going through them holds one at a time."""
    monkeypatch.setattr(reading, "NEAR_BYTES", 1_000)
    pages = Pages()
    for number in range(1, 50):
        pages.put(number, rows_of(number))
    for _ in range(2):
        assert [rows.lines for rows in pages.all()] == [rows_of(number).lines for number in range(1, 50)]
    kept = sum(rows.data_bytes for rows in pages._rows.values())  # pyright: ignore[reportPrivateUsage]
    assert kept <= 1_000


def test_a_page_that_is_replaced_is_given_back_whole(monkeypatch: pytest.MonkeyPatch):
    """From memory or from the file; and counts no longer."""
    monkeypatch.setattr(reading, "NEAR_BYTES", 400)
    pages = Pages()
    for round_ in range(30):
        for number in (1, 2):
            before = pages.put(number, rows_of(number + round_))
            assert (before is None) if round_ == 0 else before == rows_of(number + round_ - 1)
    assert [rows.ids for rows in pages.all()] == [[30], [31]]


def test_no_room_for_the_file_is_told(monkeypatch: pytest.MonkeyPatch):
    """As an error of the disk, with its place."""
    monkeypatch.setattr(reading, "NEAR_BYTES", 0)

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading, "TemporaryFile", full)
    with pytest.raises(DatasetError):
        Pages().put(1, rows_of(1))


# --- bad records ---


async def test_a_bad_side_load_is_not_taken_for_a_record():
    """It is quarantined as what it is, and the shard that brought it is proved."""

    def spoil(body: bytes) -> bytes:
        return body.replace(b'"users":[{"id":', b'"users":[{"bad":"\xff"},{"id":', 1)

    async with opened(content_attempts=12) as (institute, client):
        institute.script(Fault(path=CONTENT_ATTEMPTS, change=spoil, times=None))
        found = await read(client, Shard(table="content_attempts"))
        assert ids(found) == institute.truth.ids("content_attempts")
    assert {bad.table for rows in found.pages for bad in rows.bad} == {"users"}
    assert (found.status, found.agrees) == ("certified", True)


async def test_a_list_nobody_knows_names_no_file():
    """Bad records in it are not kept: nothing is landed of that list, and its name is the server's."""

    def spoil(body: bytes) -> bytes:
        return body.replace(b'"users":', b'"../../evil":[{"bad":"\xff"}],"users":', 1)

    async with opened(content_attempts=12) as (institute, client):
        institute.script(Fault(path=CONTENT_ATTEMPTS, change=spoil, times=None))
        found = await read(client, Shard(table="content_attempts"))
    assert [bad for rows in found.pages for bad in rows.bad] == []
    assert found.agrees


ROWS = [
    b'{"id":1,"date":"2024-05-01T10:00:00Z","state":"Running"}',
    b'{"id":2,"date":"2024-05-02T10:00:00Z","state":"Completed"}',
    b'{"id":3,"date":null}',
    b'{"id":4,"date":"soon","state":"Running"}',
    b'{\n"id": 5,\r"date": 7}',
    b'{"id":"6"}',
    b'{"id":true}',
    b'{"name":"nobody"}',
    b"17",
    b"[1,2]",
    b"null",
]


@given(st.lists(st.sampled_from(ROWS), max_size=5), st.sampled_from(["attempts", "exams"]), st.booleans())
def test_rows_read_together_are_as_those_read_alone(rows: list[bytes], table: str, dated: bool):
    """Reading a whole page in one go, as it is done where nothing is odd, changes nothing."""
    together = reading.rows_of(table, rows, dated=dated)
    alone = [reading.rows_of(table, [row], dated=dated) for row in rows]
    assert together.lines == [line for one in alone for line in one.lines]
    assert together.ids == [known for one in alone for known in one.ids]
    assert together.bad == [bad for one in alone for bad in one.bad]
    assert together.days == tuple(day for one in alone for day in one.days)
    assert together.running == tuple(day for one in alone for day in one.running)
