"""`docs/scaling.md`: what an export costs on paper is what it costs, in virtual time, from a sandbox."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from typing import Any

import pytest

import testpress_async as tp
from benchmarks import scaling
from testpress_async.sandbox import RateLimit, Sandbox
from tests.support.markdown import ROOT
from tests.support.virtual_time import run

PAGE = (ROOT / "docs" / "scaling.md").read_text()
BY_NAME = {table.name: table for table in scaling.TABLES}


@dataclass
class Cost:
    """What an export of one table took; its parents are not counted."""

    requests: int
    elapsed_s: float
    landed_bytes: int
    sent_bytes: int


def cost(table: str, policy: tp.RatePolicy | None = None, **settings: Any) -> Cost:
    """Export *table* from a sandbox in virtual time."""
    return run(_cost(table, policy, settings))


async def _cost(table: str, policy: tp.RatePolicy | None, settings: dict[str, Any]) -> Cost:
    async with (
        Sandbox(gzip=False, **settings) as institute,
        tp.Client(institute.url, token=institute.token(), rate=policy) as client,
    ):
        began_s = asyncio.get_running_loop().time()
        plan = await tp.plan(client, [table])
        with tempfile.TemporaryDirectory() as folder:
            report = await tp.harvest(client, plan, into=tp.Dataset(folder), formats="none")
        took_s = asyncio.get_running_loop().time() - began_s
        sent_bytes = sum(seen.body_bytes for seen in institute.log)
    return Cost(client.requests_sent, took_s, report.data_bytes, sent_bytes)


def near(expected: float, within: float) -> Any:
    return pytest.approx(expected, rel=within)


@pytest.mark.parametrize("table", scaling.TABLES, ids=lambda table: table.name)
def test_the_tables_on_the_page_are_those_of_the_formula(table: scaling.Table) -> None:
    """`python -m benchmarks.scaling` prints them."""
    assert f"\n{scaling.text(table)}\n" in PAGE


@pytest.mark.parametrize("attempts", [100, 3_000, 8_000])
def test_requests_for_attempts(attempts: int) -> None:
    """From 5 pages to 400, the survey and pages that are not full included."""
    took = cost("attempts", attempts=attempts, per_page=20)
    expected = scaling.attempts_requests(attempts, 20)
    assert took.requests == pytest.approx(expected, rel=0.03, abs=4)


def test_requests_and_bytes_of_answers_and_details() -> None:
    """One request an attempt, and one more for every 250 answers; bytes as on the page."""
    attempts = 300
    whole = cost("attempts", attempts=attempts)
    for name, pages_each in (("attempt_details", 1.0), ("user_answers", 1.07)):
        took, table = cost(name, attempts=attempts), BY_NAME[name]
        assert took.requests - whole.requests == near(table.requests(attempts) * pages_each, 0.03)
        assert took.landed_bytes - whole.landed_bytes == near(attempts * table.landed_bytes, 0.15)
        assert took.sent_bytes - whole.sent_bytes == near(attempts * table.sent_bytes, 0.2)


def test_requests_and_bytes_of_content_attempts() -> None:
    """Pages and what it takes to cut; bytes with all that comes along."""
    records, per_page = 5_000, 25
    took = cost("content_attempts", attempts=1, content_attempts=records, answers_per_page=per_page)
    assert took.requests == near(scaling.contents_requests(records, per_page), 0.10)
    assert took.landed_bytes == near(records * BY_NAME["content_attempts"].landed_bytes, 0.15)


def test_bytes_of_attempts() -> None:
    """As the page says."""
    attempts, table = 8_000, BY_NAME["attempts"]
    took = cost("attempts", attempts=attempts, per_page=20)
    assert took.landed_bytes == near(attempts * table.landed_bytes, 0.05)
    assert took.sent_bytes == near(attempts * table.sent_bytes, 0.05)


@pytest.mark.parametrize(("requests", "per_s"), [(60, 60), (600, 60), (10, 1)])
def test_time_under_a_limit(requests: int, per_s: int) -> None:
    """Requests over the rate; the first window's worth may go at once."""
    policy, limit = tp.RatePolicy(requests=requests, per_s=per_s), RateLimit(requests, per_s)
    took = cost("attempts", policy, attempts=8_000, per_page=20, rate=limit)
    on_paper_s = took.requests * per_s / requests
    assert on_paper_s - 1.1 * per_s <= took.elapsed_s <= 1.05 * on_paper_s


def test_time_without_a_limit() -> None:
    """Eight requests on the way at once, but for the beginning and the end."""
    took = cost("attempts", attempts=8_000, per_page=20, latency_ms=1_000 * scaling.ANSWER_S)
    assert 0 <= took.elapsed_s - took.requests / scaling.RATES["unlimited"] < 4


def test_rates_are_those_of_the_limits() -> None:
    """60 a minute is one a second, and 600 a minute is 10 a second."""
    assert scaling.RATES == {"60/min": 60 / 60, "600/min, 10/s": 600 / 60, "unlimited": 80}
