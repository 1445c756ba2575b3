"""Events: their page is true, facts of a call belong together, and who does not listen does not pay."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

import testpress_async as tp
from testpress_async.http.events import CallEvent, Event
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.support.clock import settle
from tests.support.exporting import EXAMS, export, opened
from tests.support.pages import page
from tests.support.virtual_time import in_virtual_time

PAGE = (Path(__file__).parent.parent / "docs/events.md").read_text()
SECTION = re.compile(r"^### (\w+)\n\n(?:.+\n)+\n\| Field \|.+\n\|[-|]+\n((?:\|.+\n)+)", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", re.MULTILINE)


def kinds() -> dict[str, type[Event]]:
    """Every fact that can be told."""
    found, look = dict[str, type[Event]](), [Event]
    while look:
        for kind in look.pop().__subclasses__():
            look.append(kind)
            if kind is not CallEvent:
                found[kind.__name__] = kind
    return {name: kind for name, kind in found.items() if kind.__module__.startswith("testpress_async.")}


def annotations(kind: type[Event]) -> dict[str, str]:
    """Fields in their order, with their types as written."""
    written = dict[str, str]()
    for base in reversed(kind.__mro__):
        written |= vars(base).get("__annotations__", {})
    return {field: written[field] for field in kind.__struct_fields__}


# --- the page ------------------------------------------------------------------------------------------


def test_the_page_names_every_event_and_no_other() -> None:
    """A section each, and each can be imported from the package."""
    assert sorted(name for name, _ in SECTION.findall(PAGE)) == sorted(kinds())
    assert set(kinds()) <= set(tp.__all__)


@pytest.mark.parametrize("name", kinds())
def test_the_page_has_the_fields_of_an_event(name: str) -> None:
    """Names, order and types are those of the class; every field is explained."""
    (table,) = [table for title, table in SECTION.findall(PAGE) if title == name]
    rows = ROW.findall(table)
    assert len(rows) == table.count("\n")
    assert {field: kind.replace("\\|", "|") for field, kind, _ in rows} == annotations(kinds()[name])
    for field, _, meaning in rows:
        unit = {"_s": "second", "_bytes": "bytes"}.get(f"_{field.rpartition('_')[2]}", "")
        assert unit in meaning, f"{name}.{field} has a unit"


@pytest.mark.parametrize("name", kinds())
def test_an_event_is_frozen_and_plain(name: str) -> None:
    """It can be kept, and sent elsewhere as JSON."""
    kind = kinds()[name]
    assert kind.__struct_config__.frozen
    example: dict[str, Any] = {"str": "x", "int": 1, "float": 0.5, "Status": "open"}
    event = kind(**{field: example[written.split(" ")[0]] for field, written in annotations(kind).items()})
    assert msgspec.json.decode(msgspec.json.encode(event), type=kind) == event
    with pytest.raises(AttributeError):
        setattr(event, kind.__struct_fields__[0], "other")


# --- calls ---------------------------------------------------------------------------------------------


def limited() -> Sandbox:
    return Sandbox(attempts=240, per_page=20, rate=RateLimit(6, 60.0))


async def read_in_trouble(institute: Sandbox, **options: Any) -> None:
    """A call that is cancelled, twelve pages at once, and a call that fails; the login meets a limit."""
    institute.script(Fault(path="/api/v2.5/auth-token/", status=429, headers={"Retry-After": "1"}))
    institute.script(Fault(path="/api/v2.5/admin/attempts/", status=503, times=2))
    institute.script(Fault(path="/api/v2.5/admin/users/", hold=asyncio.Event(), times=1))
    account = {"username": institute.username, "password": institute.password}
    async with tp.Client(institute.url, **account, **options) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.users.list(), 3)
        await client.attempts.list().collect(window=8)
        with pytest.raises(tp.NotFound):
            await client.attempts.get(999_999_999)


@in_virtual_time
async def test_the_facts_of_a_call_belong_together() -> None:
    """Under faults, a limit, a cancellation and concurrency, each call's facts begin, end and share a URL."""
    events = list[tp.Event]()
    async with limited() as institute:
        await read_in_trouble(institute, on_event=events.append)
        origin = institute.url
    calls = defaultdict[int, list[CallEvent]](list)
    for event in events:
        if isinstance(event, CallEvent):
            calls[event.call].append(event)
    assert 0 not in calls
    for facts in calls.values():
        assert isinstance(facts[0], tp.RequestStarted)
        assert isinstance(facts[-1], tp.RequestFinished)
        kinds = [type(fact) for fact in facts]
        assert (kinds.count(tp.RequestStarted), kinds.count(tp.RequestFinished)) == (1, 1)
        assert facts[0].origin == origin
        login = "/api/v2.5/auth-token/"
        urls = {fact.url for fact in facts if not isinstance(fact, tp.LoggedIn)}  # type: ignore[attr-defined]
        assert len(urls - {login}) == 1
        after_waits = {type(after) for fact, after in pairwise(facts) if isinstance(fact, tp.RateWaiting)}
        assert after_waits <= {tp.RateWaited, tp.RequestFinished}
    ends = {event.error for event in events if isinstance(event, tp.RequestFinished)}
    assert {None, "CancelledError", "NotFound"} <= ends
    assert {type(event).__name__ for event in events} == {n for n, k in kinds_of_calls().items()}


def kinds_of_calls() -> dict[str, type[Event]]:
    return {name: kind for name, kind in kinds().items() if kind.__module__.endswith("http.events")}


async def test_a_wait_is_told_when_it_begins() -> None:
    """With what can be foreseen, so that a display can say why nothing happens."""
    events = list[tp.Event]()
    rate = tp.RatePolicy(requests=1, per_s=40)
    async with Sandbox() as institute:
        token = institute.token()
        async with tp.Client(institute.url, token=token, rate=rate, on_event=events.append) as client:
            await client.exams.list()
            second = asyncio.ensure_future(client.courses.list().count())
            await settle()
            waiting = events[-1]
            second.cancel()
            await asyncio.wait([second])
            with pytest.raises(tp.RateLimited):
                await client.with_options(max_wait_s=1).courses.list()
    assert isinstance(waiting, tp.RateWaiting)
    assert waiting.expected_s == pytest.approx(40, abs=2)
    finished = [event.error for event in events if isinstance(event, tp.RequestFinished)]
    assert finished == [None, "CancelledError", "RateLimited"]
    assert sum(isinstance(event, tp.RateWaiting) for event in events) == 1, "who does not wait says nothing"


# --- harvests ------------------------------------------------------------------------------------------


async def test_a_quarantined_record_is_told_without_its_values(tmp_path: Path) -> None:
    """The table, the shard and the reason, once for each record."""
    events = list[tp.Event]()
    async with opened() as (institute, client):
        body = page([1, {"a": "asha-SECRET"}, {"b": "asha-SECRET"}])
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        report = await export(client, tmp_path, "exams", on_event=events.append)
    told = [event for event in events if isinstance(event, tp.RecordQuarantined)]
    assert [event.table for event in told] == ["exams", "exams"]
    assert report.quarantined == 2
    (finished,) = [event for event in events if isinstance(event, tp.ShardFinished)]
    assert {event.shard for event in told} == {finished.shard} != {""}
    assert all(event.reason for event in told)
    assert "SECRET" not in repr(events)


# --- observers -----------------------------------------------------------------------------------------


async def test_several_observers_see_the_same_and_cannot_hurt_each_other(institute: Sandbox) -> None:
    """In the order given; what one raises is its own affair."""
    seen = list[tuple[str, tp.Event]]()

    def broken(event: tp.Event) -> None:
        raise ZeroDivisionError

    observers = [lambda event: seen.append(("a", event)), broken, lambda event: seen.append(("b", event))]
    async with tp.Client(institute.url, token=institute.token(), on_event=observers) as client:
        await client.exams.list()
    assert [who for who, _ in seen] == ["a", "b"] * 3
    assert [event for who, event in seen if who == "a"] == [event for who, event in seen if who == "b"]


@pytest.mark.parametrize("wrong", [[None], ["print"], [asyncio.sleep], asyncio.sleep])
def test_what_is_no_plain_function_is_refused(wrong: Any) -> None:
    """When the client is made, not at the first event."""
    with pytest.raises(tp.ConfigError, match="expected a plain function"):
        tp.Client("https://institute.test", token="t", on_event=wrong)


@in_virtual_time
async def test_nobody_listens_nothing_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No event of any kind, whatever goes wrong; a listener would have met them."""
    built = list[str]()

    def refuse(name: str) -> Any:
        return lambda **facts: built.append(name)

    for module in [each for name, each in sys.modules.items() if name.startswith("testpress_async.")]:
        for name, kind in kinds().items():
            if vars(module).get(name) is kind:
                monkeypatch.setattr(module, name, refuse(name))
    async with limited() as institute:
        await read_in_trouble(institute)
        assert built == []
        await read_in_trouble(institute, on_event=lambda event: None)
        assert len(set(built)) == len(kinds_of_calls())
    built.clear()
    async with opened() as (institute, client):
        institute.script(Fault(path=EXAMS, status=200, body=page([{"id": "x"}]), times=None))
        await export(client, tmp_path / "a", "exams")
        assert built == []
        await export(client, tmp_path / "b", "exams", on_event=lambda event: None)
    assert len(set(built)) == len(kinds()) - len(kinds_of_calls())
