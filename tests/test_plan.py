"""Plans: what a harvest will read and what it costs, one request per list."""

from __future__ import annotations

from datetime import date
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from testpress_async.client import Client
from testpress_async.errors import ConfigError
from testpress_async.harvest.plan import Plan, TablePlan, plan
from testpress_async.harvest.shard import READABLE, Shard
from testpress_async.harvest.survey import listing_of
from testpress_async.models.enums import AttemptState, ContentAttemptState
from testpress_async.sandbox import Fault
from tests.support.exporting import ATTEMPTS, CONTENT_ATTEMPTS, EXAMS, opened, page


async def test_costs_follow_from_counts_and_page_sizes():
    """Lists cost their pages, tables of attempts one request per attempt; one request per list is sent."""
    async with opened(per_page=25) as (institute, client):
        made = await plan(client)
        paths = [seen.path for seen in institute.log if seen.method == "GET"]
    assert sorted(paths) == sorted([EXAMS, ATTEMPTS, CONTENT_ATTEMPTS])
    assert made.tables == READABLE
    assert [(cost.table, cost.records, cost.requests) for cost in made.costs] == [
        ("exams", 3, 1),
        ("attempts", 60, 3),
        ("content_attempts", 30, 1),
        ("attempt_details", 60, 60),
        ("user_answers", None, 60),
        ("attendance", None, None),
    ]
    assert made.derived == ("attempt_details", "user_answers", "attendance")
    assert made.requests == 125
    assert made.eta_s(10) == 12.5
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


async def test_parents_are_added():
    """Asking for answers alone plans the attempts they belong to."""
    async with opened() as (_, client):
        made = await plan(client, ("user_answers",))
    assert made.shards == (Shard(table="attempts"),)
    assert made.tables == ("attempts", "user_answers")


async def test_an_empty_list_still_costs_its_request():
    """Finding out that there is nothing takes one request."""
    async with opened(attempts=0) as (_, client):
        made = await plan(client, ("attempts",))
    assert [(cost.records, cost.requests) for cost in made.costs] == [(0, 1)]


async def test_without_a_count_the_cost_is_unknown():
    """A server that gives no count leaves records and requests open, and the sum counts what is known."""
    async with opened() as (institute, client):
        body = page(b'{"id":1}').replace(b'"count":1', b'"count":null')
        institute.script(Fault(path=EXAMS, status=200, body=body))
        made = await plan(client, ("exams", "attempts"))
    assert made.costs[0] == TablePlan(table="exams", records=None, requests=None)
    assert made.requests == 1


async def test_filters_reach_the_requests():
    """Every filter is sent to the list it is for, when planning and when reading."""
    async with opened() as (institute, client):
        made = await plan(
            client,
            ("attempts", "content_attempts", "exams"),
            exams=[2, 1],
            users=5,
            state=AttemptState.COMPLETED,
            started_after=date(2023, 2, 1),
            started_before="2024-12-31",
            course_ids=[3],
            content_state=ContentAttemptState.COMPLETED,
        )
        for shard in made.shards:
            await listing_of(client, shard)
        asked = [(seen.path, parse_qs(seen.query)) for seen in institute.log if seen.method == "GET"]
    expected: dict[str, Any] = {
        EXAMS: {},
        ATTEMPTS: {
            "exams": ["2,1"],
            "users": ["5"],
            "state": ["1"],
            "date_0": ["2023-02-01"],
            "date_1": ["2024-12-31"],
            "ordering": ["date"],
        },
        CONTENT_ATTEMPTS: {"course_ids": ["3"], "state": ["1"], "user_ids": ["5"]},
    }
    assert sorted(asked, key=str) == sorted([*expected.items()] * 2, key=str)
    filters = {shard.table: dict(shard.filters) for shard in made.shards}
    assert filters["attempts"]["exams"] == "2,1"
    assert [list(shard.filters) for shard in made.shards] == [sorted(shard.filters) for shard in made.shards]


@pytest.mark.parametrize(
    ("tables", "filters", "parameter"),
    [
        (("attemps",), {}, "tables"),
        (("attempts",), {"exams": []}, "exams"),
        (("attempts",), {"users": "7"}, "users"),
        (("attempts",), {"state": "done"}, "state"),
        (("attempts",), {"started_after": "01.02.2023"}, "started_after"),
        (("attempts",), {"started_before": "2023-02-30"}, "started_before"),
        (("exams",), {"course_ids": [-1]}, "course_ids"),
        (("exams",), {"content_state": "done"}, "content_state"),
    ],
)
async def test_what_is_unusable_is_refused_before_anything_is_sent(
    tables: tuple[str, ...], filters: dict[str, Any], parameter: str
):
    """A bad table or filter raises ConfigError naming it; the client need not even be open."""
    client = Client("http://127.0.0.1:9", token="a.b.c")
    with pytest.raises(ConfigError, match=f"^{parameter}"):
        await plan(client, tables, **filters)
    assert client.requests_sent == 0
