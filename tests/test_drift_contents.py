"""Content attempts that come and go while they are harvested: what is certified holds every stable one once.

They have no date to cut or sort by, so a list of them is read whole, or in the parts that add up to it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.client import Client
from testpress_async.harvest.certificate import Sweep
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.manifest import Entry, ShardDone
from testpress_async.harvest.plan import Plan, plan
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard, Window
from testpress_async.http.policy import RetryPolicy
from testpress_async.models.enums import ContentAttemptState
from testpress_async.sandbox import Fault, Sandbox
from tests.support.exporting import opened
from tests.support.virtual_time import run
from tests.test_certificate import Listed

COMPLETED = ContentAttemptState.COMPLETED
ZONE = timezone(timedelta(hours=5, minutes=30))
TODAY = date(2025, 6, 15)  # when virtual time begins

Ids = frozenset[int]


@dataclass(frozen=True)
class Scene:
    """An institute, how it changes, and how it is to be read. `cut_by`: what the plan must make use of."""

    name: str
    contents: int
    per_page: int
    courses: int = 3
    max_pages: int = 10
    state: ContentAttemptState | None = None
    until_inclusive: bool = True
    inserts_per_s: float = 0.0
    deletes_per_s: float = 0.0
    completions_per_s: float = 0.0
    cut_by: frozenset[str] = frozenset()


def changing(name: str, contents: int, per_page: int, *cut_by: str, **options: Any) -> Scene:
    """One insertion and one deletion in a second or so, which is about eighty answers."""
    rates = {"inserts_per_s": 1.5, "deletes_per_s": 1.0}
    return Scene(name, contents, per_page, **(rates | options), cut_by=frozenset(cut_by))


SMALL = changing("small", 150, 20)
WHOLE = changing("large and whole", 900, 20, courses=1)
COURSES = changing("by course", 400, 10, "course_ids")
KINDS = changing("by kind", 98, 5, "content_type")
STATES = changing("by all", 98, 2, "content_type", "course_ids", max_pages=2)
DAYS = changing("by day", 400, 10, "course_ids", "window", state=COMPLETED, max_pages=3)
HALF_OPEN = changing(
    "by half-open days", 400, 10, "course_ids", "window", state=COMPLETED, max_pages=3, until_inclusive=False
)
MOVING = changing("moving by all", 98, 2, "content_type", "course_ids", max_pages=2, completions_per_s=4)
HOT = changing("hot", 400, 10, "course_ids", inserts_per_s=15, deletes_per_s=10)
SCENES = (SMALL, WHOLE, COURSES, KINDS, STATES, DAYS, HALF_OPEN, MOVING, HOT)


@dataclass
class Story:
    """What one harvest came to, in records and in shards; `silent`: lost or doubled where certified."""

    silent: list[tuple[Shard, int]] = field(default_factory=list[tuple[Shard, int]])
    lost: Ids = frozenset()
    statuses: Counter[str] = field(default_factory=Counter[str])
    cut_by: frozenset[str] = frozenset()


def tell(scene: Scene, seed: int) -> Story:
    """One harvest of *scene*, in virtual time."""
    return run(_tell(scene, seed), seed=seed)


async def _tell(scene: Scene, seed: int) -> Story:
    institute = Sandbox(
        attempts=0,
        content_attempts=scene.contents,
        courses=scene.courses,
        users=30,
        answers_per_page=scene.per_page,
        until_inclusive=scene.until_inclusive,
        first_day=TODAY - timedelta(days=365),
        last_day=TODAY,
        latency_ms=100,
        gzip=False,
        seed=seed,
        log_size=1,
    )
    once = RetryPolicy(max_tries=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        async with (
            institute,
            asyncio.TaskGroup() as group,
            Client(institute.url, token=institute.token(), retry=once) as client,
        ):
            reads = await plan(
                client, ["content_attempts"], content_state=scene.state, max_pages=scene.max_pages
            )
            before, everything = held_by(institute, reads), asked(institute, scene)
            meanwhile = group.create_task(_change(institute, scene, seed))
            await harvest(client, reads, into=Dataset(path), formats="none")
            meanwhile.cancel()
            after, everything = held_by(institute, reads), everything & asked(institute, scene)
        stable = {name: before[name] & after[name] for name in before}
        return _judged(list(landed(path)), stable, everything)


def held_by(institute: Sandbox, reads: Plan) -> dict[str, Ids]:
    """Ids of what belongs to each shard now."""
    return {each.id: held(institute, each) for each in reads.shards}


def held(institute: Sandbox, shard: Shard) -> Ids:
    """Ids of what belongs to *shard* now, by the days of the records and not by the server's filters."""
    rows = institute.truth.records("content_attempts", **dict(shard.filters))
    days = ((row["id"], row["completed_on"]) for row in rows)
    return frozenset(
        each
        for each, text in days
        if (shard.window.first is None and shard.window.last is None)
        or (text and not shard.window.meet(day_of(text)).is_empty)
    )


def day_of(text: str) -> Window:
    """The server's day of a moment."""
    day = datetime.fromisoformat(text).astimezone(ZONE).date()
    return Window(day, day)


def asked(institute: Sandbox, scene: Scene) -> Ids:
    """Ids of all that is asked for, now."""
    filters = {} if scene.state is None else {"state": scene.state.code}
    return frozenset(institute.truth.ids("content_attempts", **filters))


async def _change(institute: Sandbox, scene: Scene, seed: int) -> None:
    """Insert, delete and complete, at random moments."""
    dice = random.Random(seed)
    rates = [scene.inserts_per_s, scene.deletes_per_s, scene.completions_per_s]
    while any(rates):
        await asyncio.sleep(dice.expovariate(sum(rates)))
        kind = dice.choices(["insert", "delete", "complete"], rates)[0]
        started = {"state": 0} if kind == "complete" else {}
        ids = institute.truth.ids("content_attempts", **started)
        if kind == "insert":
            institute.insert_content_attempts(1)
        elif ids and kind == "delete":
            institute.delete_content_attempts([dice.choice(ids)])
        elif ids:
            institute.complete_content_attempts([dice.choice(ids)])


def landed(path: Path) -> Iterator[tuple[ShardDone, list[int]]]:
    """Readings in the dataset in *path*, and the ids that each brought."""
    for file in sorted((path / "manifest").glob("*.json")):
        entry = msgspec.json.decode(file.read_bytes().partition(b"\n")[0], type=Entry)
        for part in entry.parts:
            if part.table == "content_attempts":
                lines = iter((path / part.path).read_bytes().splitlines())
                for done in entry.shards:
                    rows = range(done.rows.get("content_attempts", 0))
                    yield done, [msgspec.json.decode(next(lines))["id"] for _ in rows]


def _judged(found: list[tuple[ShardDone, list[int]]], stable: dict[str, Ids], everything: Ids) -> Story:
    story = Story(statuses=Counter(done.status for done, _ in found))
    for done, ids in found:
        came = Counter(ids)
        if done.status == "certified":
            story.silent += [(done.shard, each) for each in stable[done.shard.id] if came[each] != 1]
    story.lost = everything - {each for _, ids in found for each in ids}
    names = {name for done, _ in found for name, _ in done.shard.filters}
    windows = {"window" for done, _ in found if done.shard.end_exclusive is not None}
    story.cut_by = frozenset(names | windows)
    return story


def stories(scene: Scene, seeds: range) -> list[Story]:
    told: list[Story] = []
    for seed in seeds:
        story = tell(scene, seed)
        assert not story.silent, f"tell({scene}, {seed})"
        assert not story.lost or story.statuses["unverified"], f"tell({scene}, {seed})"
        told.append(story)
    return told


@pytest.mark.row(66, 67)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_certified_shards_hold_every_stable_record_once(scene: Scene):
    """Nothing is lost or doubled in what is called certified, nor between the parts if all of them are."""
    told = stories(scene, range(3 if scene is MOVING else 1))
    assert {name for story in told for name in story.cut_by} >= scene.cut_by
    if scene not in (WHOLE, HOT):  # these change at every other answer
        assert sum(story.statuses["certified"] for story in told) > sum(
            story.statuses["unverified"] for story in told
        )


def test_what_cannot_be_proved_is_read_backwards():
    """A list of many pages that never holds still is called unverified, and deletions cost it nothing."""
    told = stories(WHOLE, range(1))
    assert all(story.statuses == Counter(unverified=1) for story in told)
    assert not any(story.lost for story in told)


@pytest.mark.long
@pytest.mark.parametrize("seeds", [range(100, 104), None], ids=["fixed seeds", "fresh seeds"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_more_stories_of_each_scene(scene: Scene, seeds: range | None):
    """The same with more seeds; a failure prints the story."""
    start = random.SystemRandom().randrange(10**9)
    stories(scene, seeds or range(start, start + 4))


# --- the plan ------------------------------------------------------------------------------------------

MANY: dict[str, Any] = {"attempts": 0, "content_attempts": 400, "answers_per_page": 10, "seed": 3}


@pytest.mark.parametrize("until_inclusive", [True, False])
async def test_days_of_completion_are_cut_without_losing_one(until_inclusive: bool):
    """Windows of days add up to the list, whether the server's last day is included or not."""
    async with opened(**MANY, until_inclusive=until_inclusive) as (institute, client):
        made = await plan(client, ["content_attempts"], content_state=COMPLETED, max_pages=2)
        counts = {each.id: len(held(institute, each)) for each in made.shards}
        total = institute.truth.count("content_attempts", state=1)
    cut = [each for each in made.shards if each.end_exclusive is not None]
    assert len(cut) > len(made.shards) / 2
    assert {each.end_exclusive for each in cut} == {not until_inclusive}
    assert counts == made.records
    assert sum(counts.values()) == total
    assert max(counts.values()) <= 20


async def test_days_are_not_used_where_they_do_not_add_up():
    """What is not completed has no such day, and would be in no window: what holds some is left whole."""
    async with opened(**MANY) as (institute, client):
        made = await plan(client, ["content_attempts"], max_pages=2)
        total = sum(len(held(institute, each)) for each in made.shards)
    cut = [each for each in made.shards if each.end_exclusive is not None]
    assert {dict(each.filters).get("state") for each in cut} <= {"1", "3"}
    assert total == sum(made.records.values()) == 400


async def test_days_are_not_used_where_the_server_ignores_them():
    """Filters that do nothing cut nothing."""
    ignored = frozenset({"completed_after", "completed_before"})
    async with opened(**MANY, ignored_filters=ignored) as (_, client):
        made = await plan(client, ["content_attempts"], content_state=COMPLETED, max_pages=2)
    assert all(each.end_exclusive is None for each in made.shards)
    assert len({each.id for each in made.shards}) == len(made.shards)


async def test_what_is_started_is_read_before_what_it_becomes():
    """Shards are planned in the order in which a content attempt goes from state to state."""
    async with opened(**MANY | {"content_attempts": 98, "answers_per_page": 2}) as (_, client):
        made = await plan(client, ["content_attempts"], max_pages=2)
    states = [dict(each.filters).get("state") for each in made.shards]
    assert set(states) > {"0", "1"}
    assert states == sorted(states, key=lambda state: state != "0")


def test_what_it_becomes_waits_for_what_is_started(tmp_path: Path):
    """While a list of started content attempts is still being read, no list of completed ones is begun."""
    run(_held(tmp_path))


async def _held(path: Path) -> None:
    go = asyncio.Event()
    async with opened(**MANY | {"content_attempts": 98, "answers_per_page": 2}) as (institute, client):
        reads = await plan(client, ["content_attempts"], max_pages=2)
        institute.script(Fault(query="state=0", hold=go))
        institute.log.clear()
        running = asyncio.create_task(harvest(client, reads, into=Dataset(path), formats="none"))
        await asyncio.sleep(10)  # of virtual time: everything that can happen has happened
        begun = [seen.query for seen in institute.log]
        go.set()
        report = await running
        ended = [seen.query for seen in institute.log]
    assert not any("state=1" in query for query in begun)
    assert any("state=1" in query for query in ended)
    assert report.tables[0].records == 98


# --- sweeps --------------------------------------------------------------------------------------------


def test_page_1_is_read_again_in_its_turn():
    """Between the first answer and the next, a record goes from page 1 and another comes: none is missed."""

    def between(listed: Listed, answer: int) -> None:
        if answer == 1:
            listed.ids = [*listed.ids[1:], 99]

    listed = Listed(list(range(9)), between)
    sweep = Sweep(closing_probe=True, in_turn=True)
    assert listed.sweep(sweep) == [*range(1, 9), 99]
    assert sweep.perfect
    assert listed.asked == [1, 3, 2, 1, 3]


@given(st.integers(1, 24), st.data())
def test_in_turn_no_perfect_read_misses_what_stayed(records: int, data: st.DataObject):
    """Where records are appended and deleted only, a perfect read in turn has all that stayed, always."""
    fresh = iter(range(1000, 2000))

    def between(listed: Listed, answer: int) -> None:
        for kind in (
            data.draw(st.lists(st.sampled_from(["append", "delete"]), max_size=3)) if answer < 12 else ()
        ):
            if kind == "append":
                listed.ids.append(next(fresh))
            elif listed.ids:
                listed.ids.pop(data.draw(st.integers(0, len(listed.ids) - 1)))

    listed = Listed(list(range(records)), between)
    guess = data.draw(st.integers(1, 9))
    sweep = Sweep(first_guess=guess, closing_probe=True, in_turn=True, patience=30)
    found = listed.sweep(sweep)
    if sweep.perfect:
        assert frozenset.intersection(*listed.states) <= set(found)
    assert sweep.perfect or sweep.disturbances > 30
