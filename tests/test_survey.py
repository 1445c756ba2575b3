"""Cutting lists into shards: the parts are the whole, whatever the server makes of the filters."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.client import Client
from testpress_async.errors import BadRequest, NotFound
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.plan import Plan, plan
from testpress_async.harvest.report import Report
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Window
from testpress_async.harvest.survey import IGNORED, UNORDERED, sampled_pages
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.policy import RetryPolicy
from testpress_async.models.enums import AttemptState
from testpress_async.sandbox import Fault, Sandbox
from tests.support.drift import Landed, landed
from tests.support.exporting import ATTEMPTS, CONTENT_ATTEMPTS, rows

FIRST = date(2025, 3, 1)
LAST = date(2025, 6, 30)
INDIA = 330


def _nothing(number: int, institute: Sandbox) -> None: ...


def _same(request: Request) -> Request:
    return request


@contextlib.asynccontextmanager
async def opened(
    before: Callable[[int, Sandbox], None] = _nothing,
    change: Callable[[Request], Request] = _same,
    **options: Any,
) -> AsyncGenerator[tuple[Sandbox, Client]]:
    """An institute with 300 attempts of four months, and a client that can meddle with it."""
    small: dict[str, Any] = {
        "attempts": 300,
        "content_attempts": 0,
        "exams": 2,
        "users": 20,
        "per_page": 5,
        "answers_per_page": 10,
        "first_day": FIRST,
        "last_day": LAST,
    }
    sent = 0

    async def meddle(request: Request, handler: Handler) -> Response:
        nonlocal sent
        sent += 1
        before(sent, institute)
        return await handler(change(request))

    async with (
        Sandbox(**(small | options)) as institute,
        Client(
            institute.url, token=institute.token(), retry=RetryPolicy(max_tries=1), middleware=(meddle,)
        ) as client,
    ):
        yield institute, client


async def planned(client: Client, table: str = "attempts", max_pages: int = 3, **filters: Any) -> Plan:
    return await plan(client, [table], max_pages=max_pages, **filters)


async def exported(client: Client, path: Path, **options: Any) -> tuple[Plan, Report]:
    reads = await planned(client, **options)
    return reads, await harvest(client, reads, into=Dataset(path), max_pages=3)


def windows(found: Plan | Landed) -> list[Window]:
    """Those of attempts with a date, in order."""
    shards = found.shards if isinstance(found, Plan) else ()
    return [shard.window for shard in shards if not shard.undated]


def require_partition(found: list[Window], first: date | None = None, last: date | None = None) -> None:
    """Every day from *first* to *last*, once."""
    assert (found[0].first, found[-1].last) == (first, last)
    for one, other in itertools.pairwise(found):
        assert one.last is not None
        assert other.first == one.last + timedelta(days=1)


def complete(institute: Sandbox, path: Path) -> bool:
    found = [row["id"] for row in rows(path / "attempts.jsonl")]
    return sorted(found) == sorted(institute.truth.ids("attempts"))


# --- calibration ---


@pytest.mark.row(65)
@pytest.mark.parametrize("inclusive", [True, False], ids=["until included", "until excluded"])
@pytest.mark.parametrize("offset_min", [INDIA, 0, -720, 840])
async def test_windows_follow_the_servers_days(inclusive: bool, offset_min: int, tmp_path: Path):
    """Whatever its zone, and whether or not the last day counts: each record lies in one window, its own."""
    async with opened(until_inclusive=inclusive, utc_offset_min=offset_min) as (institute, client):
        reads, report = await exported(client, tmp_path)
        assert complete(institute, tmp_path)
        assert (report.unproven, reads.notes) == ((), ())
        days = {row["id"]: row["date"] for row in institute.truth.records("attempts")}
    assert len(windows(reads)) > 10
    require_partition(windows(reads))
    assert {shard.end_exclusive for shard in reads.shards} == {not inclusive}
    zone = timezone(timedelta(minutes=offset_min))
    came: list[int] = []
    for window, proved, ids in landed(tmp_path):
        assert proved or window == windows(reads)[-1]  # that one is open
        came += ids
        for each in ids if window is not None else ():
            day = datetime.fromisoformat(days[each]).astimezone(zone).date()
            assert not window.meet(Window(day, day)).is_empty
    assert len(came) == len(set(came)) == 300


@pytest.mark.row(65)
@pytest.mark.parametrize("ignored", [("date_0",), ("date_1",), ("date_0", "date_1")], ids="+".join)
async def test_ignored_day_filters_are_noticed(ignored: tuple[str, ...], tmp_path: Path):
    """The list is read as a whole, and nothing is called complete that might not be."""
    async with opened(ignored_filters=frozenset(ignored)) as (institute, client):
        reads, report = await exported(client, tmp_path)
        assert complete(institute, tmp_path)
    assert reads.notes == (f"attempts: {IGNORED}",)
    assert windows(reads) == [Window()]
    assert report.notes == reads.notes
    assert report.unproven == ("attempts",)


@pytest.mark.row(65)
async def test_an_ignored_order_is_noticed(tmp_path: Path):
    """Attempts without a date may then stand anywhere: the list is read as a whole."""
    async with opened(ignored_filters=frozenset({"ordering"})) as (institute, client):
        reads, _ = await exported(client, tmp_path)
        assert complete(institute, tmp_path)
    assert reads.notes == (f"attempts: {UNORDERED}",)


@pytest.mark.row(65)
@pytest.mark.parametrize("inclusive", [True, False], ids=["until included", "until excluded"])
async def test_a_first_day_that_is_not_included_is_noticed(inclusive: bool, tmp_path: Path):
    """Where windows would leave out a day between each two, such filters are not used."""

    def later(request: Request) -> Request:
        def next_day(found: re.Match[str]) -> str:
            return f"date_0={date.fromisoformat(found[1]) + timedelta(days=1)}"

        return msgspec.structs.replace(request, target=re.sub(r"date_0=([0-9-]+)", next_day, request.target))

    async with opened(change=later, until_inclusive=inclusive) as (institute, client):
        reads, report = await exported(client, tmp_path)
        assert complete(institute, tmp_path)
    # With a last day that is included every window means the days after its own: together they are whole.
    assert reads.notes == (() if inclusive else (f"attempts: {IGNORED}",))
    assert report.unproven == (() if inclusive else ("attempts",))


async def test_a_list_of_attempts_without_dates_has_no_windows():
    """Nothing to try the filters with: it is read as a whole."""
    async with opened(attempts=40) as (institute, client):
        for each in institute.truth.ids("attempts"):
            institute.edit_attempt(each, date=None)
        reads = await planned(client)
    assert windows(reads) == [Window()]


@pytest.mark.parametrize("at", range(2, 8))
async def test_a_list_that_shrinks_while_it_is_cut_is_cut_all_the_same(at: int):
    """Pages that were to be looked at are gone; what is left is planned, and harvested whole."""

    def before(number: int, institute: Sandbox) -> None:
        if number == at:
            institute.delete_attempts(institute.truth.ids("attempts")[10:])

    async with opened(before) as (_, client):
        reads = await planned(client)
    if len(windows(reads)) > 1:
        require_partition(windows(reads))


# --- windows ---


async def test_a_closed_and_an_open_window_are_kept_apart(tmp_path: Path):
    """The last days still grow; they are read once and called open."""
    today = datetime.now(UTC).date()
    async with opened(first_day=today - timedelta(days=90), last_day=today) as (institute, client):
        reads, report = await exported(client, tmp_path)
        assert complete(institute, tmp_path)
    require_partition(windows(reads))
    assert windows(reads)[-1] == Window(today - timedelta(days=1), None)
    assert report.tables[0].open >= 1


@pytest.mark.parametrize(
    ("after", "before"),
    [(None, date(2025, 5, 1)), (date(2025, 4, 1), None), (date(2025, 4, 1), date(2025, 5, 1))],
)
async def test_days_that_were_asked_for_are_the_windows(after: date | None, before: date | None):
    """No window reaches beyond them, and attempts without a date are not asked for."""
    async with opened() as (_, client):
        reads = await planned(client, started_after=after, started_before=before)
    require_partition(windows(reads), after, before)
    assert not any(shard.undated for shard in reads.shards)


async def test_windows_of_filtered_attempts_keep_the_filters():
    """Every one of them, and what has no date."""
    async with opened() as (_, client):
        reads = await planned(client, exams=[1, 2], state=AttemptState.COMPLETED)
    assert {shard.filters for shard in reads.shards} == {(("exams", "1,2"), ("state", "1"))}
    assert len(windows(reads)) > 5


@pytest.mark.parametrize("count", [10**9, 10**15])
async def test_an_absurd_count_costs_a_bounded_number_of_requests(count: int):
    """Pages that are not there are not looked for one by one."""

    def absurd(body: bytes) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(body) | {"count": count})

    async with opened() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, change=absurd, times=None))
        reads = await planned(client)
        assert institute.requests < 60
    assert windows(reads)[0].first is None


async def test_without_a_count_nothing_is_cut():
    """Nobody knows whether there is anything to cut."""

    def silent(body: bytes) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(body) | {"count": None})

    async with opened() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, change=silent, times=None))
        reads = await planned(client)
    assert windows(reads) == [Window()]


async def test_a_failure_while_pages_are_sampled_is_raised_as_itself():
    """Several are asked for at once; the caller gets one plain error."""
    async with opened() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, query="page=13", status=400, body=b"{}", times=None))
        with pytest.raises(BadRequest):
            await planned(client)


async def test_a_proxys_404_while_pages_are_sampled_is_no_end():
    """Only the framework says that a list ends."""
    async with opened() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, query="page=13", status=404, body=b"<html>", times=None))
        with pytest.raises(NotFound):
            await planned(client)


@given(st.integers(1, 3_000), st.integers(1, 30))
def test_sampled_pages_are_few_and_cover_the_list(pages: int, max_pages: int):
    """About one in four times the largest shard, rising, and one near the end."""
    found = list(sampled_pages(pages, max_pages))
    assert found == sorted(set(found))
    assert all(1 < page <= pages for page in found)
    assert len(found) <= pages / (4 * max_pages) + 1
    gaps = [later - earlier for earlier, later in zip([1, *found], [*found, pages], strict=True)]
    assert max(gaps) <= 4 * max_pages


# --- content attempts ---


async def test_content_attempts_are_cut_by_what_adds_up(tmp_path: Path):
    """Too many for one shard: parts by kind, course or state, each small, none overlapping."""
    async with opened(attempts=0, content_attempts=300, courses=3) as (institute, client):
        reads = await planned(client, "content_attempts")
        await harvest(client, reads, into=Dataset(tmp_path))
        wanted = sorted(institute.truth.ids("content_attempts"))
    assert len(reads.shards) > 3
    assert sum(reads.records.values()) == 300
    assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == wanted


@pytest.mark.row(65)
@pytest.mark.parametrize(
    "ignored",
    [
        ("content_type",),
        ("course_ids",),
        ("state",),
        ("content_type", "course_ids", "state", "completed_after"),
    ],
    ids="+".join,
)
async def test_content_attempts_are_not_cut_by_what_does_not(ignored: tuple[str, ...], tmp_path: Path):
    """Parts that together are not the whole are not used; all is read, once."""
    async with opened(attempts=0, content_attempts=300, courses=3, ignored_filters=frozenset(ignored)) as (
        institute,
        client,
    ):
        reads = await planned(client, "content_attempts")
        report = await harvest(client, reads, into=Dataset(tmp_path))
        wanted = sorted(institute.truth.ids("content_attempts"))
        assert report.unproven == ()
    assert sorted(row["id"] for row in rows(tmp_path / "content_attempts.jsonl")) == wanted
    assert report.tables[0].records == 300
    used = {name for shard in reads.shards for name, _ in shard.filters}
    assert used.isdisjoint(ignored)


async def test_a_kind_that_nobody_knows_is_not_left_out():
    """Of content attempts of an unknown kind there are some: then kinds are no way to cut."""

    def lied(body: bytes) -> bytes:
        page = msgspec.json.decode(body)
        return msgspec.json.encode(page | {"count": page["count"] - 1})

    async with opened(attempts=0, content_attempts=300, courses=1) as (institute, client):
        institute.script(Fault(path=CONTENT_ATTEMPTS, query="content_type=1", change=lied, times=None))
        reads = await planned(client, "content_attempts")
    assert not any(name == "content_type" for shard in reads.shards for name, _ in shard.filters)
