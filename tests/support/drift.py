"""A collection that changes while it is read: ways of reading it, and what each of them lost.

Everything is the real client over real sockets, in virtual time. A record is *stable* if it was there from
the first request to the last; only stable records can be lost.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec

from testpress_async.client import Client
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.manifest import Entry
from testpress_async.harvest.plan import plan
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Window
from testpress_async.http.policy import RetryPolicy
from testpress_async.sandbox import Live, Sandbox
from tests.support.virtual_time import run

ZONE = timezone(timedelta(hours=5, minutes=30))


@dataclass(frozen=True)
class Scene:
    """What happens meanwhile; rates for a whole collection. `burst`: neighbours deleted at once."""

    name: str
    inserts_per_s: float = 0.0
    deletes_per_s: float = 0.0
    backdated_per_s: float = 0.0
    edits_per_s: float = 0.0
    burst: int = 0
    unstable_ties: bool = False


CALM = Scene("calm")
TIES = Scene("ties", unstable_ties=True)
NORMAL = Scene("normal", 10, 2, 1, 2)
BURST = Scene("burst", 10, 2, 1, 2, burst=2_000)
HOT = Scene("hot", 100, 20, 10, 20)
SCENES = (CALM, TIES, NORMAL, BURST, HOT)


@dataclass
class Story:
    """What one way of reading came to, in records. `silent`: lost or doubled where it was called proved."""

    stable: int = 0
    lost: int = 0
    doubled: int = 0
    invented: int = 0
    silent: int = 0
    requests: int = 0
    needed: int = 0
    windows: int = 0
    unverified: int = 0

    @property
    def cost(self) -> float:
        """Requests beside one for each page."""
        return self.requests / self.needed


Landed = list[tuple[Window | None, bool, list[int]]]
"""Window, whether it was called proved, and the ids that came."""
Way = Callable[[Client], Awaitable[Landed]]


async def forward(client: Client) -> Landed:
    """Page after page, oldest first: what everybody does."""
    return [(None, False, [row.id async for row in client.attempts.list(ordering="date")])]


async def concurrent(client: Client) -> Landed:
    """The same with eight pages at once."""
    return [(None, False, [row.id async for row in client.attempts.list(ordering="date").prefetch(8)])]


async def two_passes(client: Client) -> Landed:
    """Everything twice, and all that came in either."""
    first, second = (await forward(client))[0][2], (await forward(client))[0][2]
    return [(None, False, first), (None, False, second)]


def harvested(**options: Any) -> Way:
    """Ours."""

    async def way(client: Client) -> Landed:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "out"
            reads = await plan(
                client, ["attempts"], **({"max_pages": m} if (m := options.get("max_pages")) else {})
            )
            await harvest(client, reads, into=Dataset(path), formats="none", **options)
            return landed(path)

    return way


def landed(path: Path) -> Landed:
    """What the manifest of the dataset in *path* says was read, and the ids in its parts."""
    found: Landed = []
    for file in sorted((path / "manifest").glob("*.json")):
        entry = msgspec.json.decode(file.read_bytes().partition(b"\n")[0], type=Entry)
        for part in entry.parts:
            lines = iter((path / part.path).read_bytes().splitlines())
            for done in entry.shards:
                ids = [msgspec.json.decode(next(lines))["id"] for _ in range(done.rows.get("attempts", 0))]
                window = None if done.shard.undated else done.shard.window
                found.append((window, done.status == "certified", ids))
    return found


def tell(way: Way, scene: Scene, seed: int, *, scale: float = 1.0, attempts: int = 36_500) -> Story:
    """One run of *way*; *scale* shrinks the collection and the rates alike: as many changes for each page."""
    return run(_tell(way, scene, seed, scale, round(attempts * scale)), seed=seed)


async def _tell(way: Way, scene: Scene, seed: int, scale: float, attempts: int) -> Story:
    per_page = 100 if scale == 1.0 else 20
    calmer = attempts / per_page / 365  # as many changes for each page read as at full size
    live = Live(
        inserts_per_s=scene.inserts_per_s * calmer,
        deletes_per_s=scene.deletes_per_s * calmer,
        backdated_per_s=scene.backdated_per_s * calmer,
        edits_per_s=scene.edits_per_s * calmer,
        seed=seed,
    )
    today = datetime.fromtimestamp(time.time(), ZONE).date()
    institute = Sandbox(
        attempts=attempts,
        users=50,
        exams=4,
        per_page=per_page,
        first_day=today - timedelta(days=365),
        last_day=today - timedelta(days=3),
        latency_ms=100,
        live=live,
        unstable_ties=scene.unstable_ties,
        seed=seed,
        gzip=False,
        log_size=100_000,
    )
    story = Story()
    async with institute, asyncio.TaskGroup() as group:
        client = Client(
            institute.url, token=institute.token(), retry=RetryPolicy(max_tries=1), max_connections=8
        )
        async with client:
            before = set(institute.truth.ids("attempts"))
            story.needed = -(-len(before) // institute.settings.per_page)
            burst = group.create_task(_burst(institute, scene, seed, scale, story.needed))
            found = await way(client)
            burst.cancel()
            story.requests = client.requests_sent
            days = {row["id"]: _day(row) for row in institute.truth.records("attempts")}
    _judge(story, found, before, days)
    return story


async def _burst(institute: Sandbox, scene: Scene, seed: int, scale: float, pages: int) -> None:
    if scene.burst:
        dice = random.Random(seed)
        await asyncio.sleep(dice.uniform(0.1, pages * 0.1 / 8))
        ids = list(institute.truth.ids("attempts"))
        count = round(scene.burst * scale)
        start = dice.randrange(len(ids) - count)
        institute.delete_attempts(ids[start : start + count])


def _day(row: dict[str, Any]) -> date | None:
    return row["date"] and datetime.fromisoformat(row["date"]).astimezone(ZONE).date()


def _judge(story: Story, found: Landed, before: set[int], days: dict[int, date | None]) -> None:
    stable = before & days.keys()
    stable_on: dict[date | None, list[int]] = {}
    for each in stable:
        stable_on.setdefault(days[each], []).append(each)
    came = Counter(each for _, _, ids in found for each in ids)
    story.stable = len(stable)
    story.lost = sum(1 for each in stable if not came[each])
    story.doubled = sum(number - 1 for number in came.values() if number > 1)
    for window, proved, ids in found:
        story.windows += 1
        story.unverified += not proved
        if proved:
            here = Counter(ids)
            wanted = (each for day, ids in stable_on.items() if _in(window, day) for each in ids)
            story.silent += sum(1 for each in wanted if here[each] != 1)


def _in(window: Window | None, day: date | None) -> bool:
    """Whether a record of *day* belongs to the window; None stands for what has no date."""
    if window is None or day is None:
        return (window is None or window == Window()) and (day is None or window is not None)
    return not window.meet(Window(day, day)).is_empty
