"""What a harvest will read and cost, before it reads it, and what it need not read, as nothing changed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Final

import msgspec

from testpress_async.client import Client
from testpress_async.errors import ConfigError
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.manifest import ShardDone
from testpress_async.harvest.shard import DAY, PARENTS, READABLE, Shard, Window, readable_tables
from testpress_async.harvest.survey import Piece, Probe, Surveyor, probe, today_of
from testpress_async.models.display import duration, html_table, number, size
from testpress_async.models.enums import AttemptState, ContentAttemptState
from testpress_async.resources.filters import Day, Ids, code, day, ids

MAX_PAGES: Final = 10
LOOK_BACK_DAYS: Final = 2
SEARCHES: Final = 3  # for windows that changed, if others change meanwhile

Family = tuple[str, tuple[tuple[str, str], ...], int | None, bool]


class TablePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one table. None: known only when its parents have been read.

    Attributes:
        records: The server's count when the plan was made.
        requests: Requests it will take without retries, and without reading anything twice.
        page_records: Records on a page.
        data_bytes: Size of its records as JSON, judged by one page.
    """

    table: str
    records: int | None
    requests: int | None
    page_records: int | None = None
    data_bytes: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Shards to read, tables that follow from them, and the cost. JSON-able with msgspec.

    Attributes:
        shards: Reads known now.
        roots: The same before they were cut: what was asked for.
        derived: Tables read once per record of their parent table.
        costs: One entry per table.
        records: How many records the server says a shard has, by shard id.
        notes: What was odd about the server.
        requests_per_s: The server's limit as far as it is known now; None if it is not.
        fingerprint: Of the tables and filters; an interrupted run goes on with the same only.
        follows: The last run that had ended in the dataset planned for; 0 if there was none.
    """

    shards: tuple[Shard, ...]
    derived: tuple[str, ...]
    costs: tuple[TablePlan, ...]
    records: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    requests_per_s: float | None = None
    roots: tuple[Shard, ...] = ()
    fingerprint: str = ""
    follows: int = 0

    def asked_of(self, table: str) -> list[Shard]:
        """What was asked for of *table*."""
        return [shard for shard in self.roots or self.shards if shard.table == table]

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(cost.table for cost in self.costs)

    @property
    def requests(self) -> int:
        """Requests as far as they are known."""
        return sum(cost.requests or 0 for cost in self.costs)

    def eta_s(self, requests_per_s: float) -> float:
        """Seconds at *requests_per_s*, the least it can take under such a limit."""
        return self.requests / requests_per_s

    def _repr_html_(self) -> str:
        """For notebooks: what each table costs."""
        rows = [told(cost, "") for cost in self.costs]
        rate = self.requests_per_s
        time = f", {duration(self.eta_s(rate))} at {rate:.3g} a second" if rate else ""
        about = f"at least {self.requests:,} requests in {len(self.shards):,} shards{time}"
        later = "What is empty is known when the tables it belongs to have been read."
        return html_table("Plan", about, rows, [later, *self.notes] if self.derived else self.notes)


async def plan(
    client: Client,
    tables: Sequence[str] = READABLE,
    *,
    exams: Ids | None = None,
    users: Ids | None = None,
    state: AttemptState | int | None = None,
    started_after: Day | None = None,
    started_before: Day | None = None,
    course_ids: Ids | None = None,
    content_state: ContentAttemptState | int | None = None,
    max_pages: int = MAX_PAGES,
    into: Dataset | None = None,
    look_back_days: int = LOOK_BACK_DAYS,
) -> Plan:
    """Find out what reading *tables* takes, and cut what is large into shards.

    Takes a request per table that is a list, and for a large one about a request per *max_pages* pages.

    Args:
        tables: Names of tables; those they depend on are added.
        users: Whose attempts and content attempts.
        exams, state, started_after, started_before: Which attempts, and so which answers.
        course_ids, content_state: Which content attempts.
        max_pages: Size of a shard. Larger ones are cheaper while nothing changes; small ones are proved
            complete sooner while much does.
        into: Where it will be harvested into: what is settled there needs no plan. Without it, an update
            cannot tell which content attempts are gone where their list is cut.
        look_back_days: As for `harvest`.
    Raises:
        ConfigError: A table or filter is unusable; nothing was sent.
        DatasetError: *into* is damaged.
    """
    client = client.with_options(coalesce=False)  # see `harvest`
    wanted = readable_tables(tuple(tables))
    filters = {
        "attempts": _pairs(
            exams=ids("exams", exams),
            users=ids("users", users),
            state=code("state", state, AttemptState),
        ),
        "content_attempts": _pairs(
            user_ids=ids("users", users),
            course_ids=ids("course_ids", course_ids),
            state=code("content_state", content_state, ContentAttemptState),
        ),
    }
    window = Window(_date("started_after", started_after), _date("started_before", started_before))
    if window.is_empty:
        raise ConfigError("started_before", "lies before started_after")
    if max_pages < 1:
        raise ConfigError("max_pages", "expected a number of at least 1")
    follows = 0 if into is None else await asyncio.to_thread(into.last_run)
    known = await asyncio.to_thread(_known_in, into, look_back_days)
    surveyor = Surveyor(client, max_pages=max_pages, today=today_of(client))
    pieces: list[Piece] = []
    roots: list[Shard] = []
    costs: dict[str, TablePlan] = {}
    for table in wanted:
        if table in PARENTS:
            continue
        days = window if table == "attempts" else Window()
        shard = Shard(table=table, filters=filters.get(table, ()), window=days)
        roots.append(shard)
        first = await probe(client, shard)
        match table:
            case "attempts":
                found = await surveyor.attempts(shard, first, [done.shard for done in known.settled(shard)])
            case "content_attempts":
                found = await surveyor.contents(shard, first)
            case _:
                found = [Piece(shard, first.count)]
        pieces += found
        costs[table] = _cost(table, first, found)
    derived = tuple(table for table in wanted if table in PARENTS)
    for table in derived:
        parents = costs[PARENTS[table]].records if PARENTS[table] == "attempts" else None
        records = parents if table == "attempt_details" else None
        costs[table] = TablePlan(table=table, records=records, requests=parents)
    return Plan(
        shards=tuple(piece.shard for piece in pieces),
        derived=derived,
        costs=tuple(costs[table] for table in wanted),
        records={piece.shard.id: piece.records for piece in pieces if piece.records is not None},
        notes=tuple(surveyor.notes),
        requests_per_s=client.requests_per_s,
        roots=tuple(roots),
        fingerprint=_fingerprint(wanted, filters, window),
        follows=follows,
    )


def _known_in(dataset: Dataset | None, look_back_days: int) -> Known:
    readings = () if dataset is None else dataset.readings()
    return Known(readings, run=0, look_back_days=look_back_days)


def told(cost: TablePlan, unknown: str) -> dict[str, str]:
    """*cost* as a row of a display."""
    return {
        "table": cost.table,
        "records": number(cost.records, unknown),
        "requests": number(cost.requests, unknown),
        "size": unknown if cost.data_bytes is None else size(cost.data_bytes),
    }


def _fingerprint(*asked: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=8).hexdigest()


def _cost(table: str, first: Probe, pieces: Sequence[Piece]) -> TablePlan:
    if first.count is None:
        return TablePlan(table=table, records=None, requests=None)
    size = -(-first.count // first.pages) if first.pages > 1 else max(1, first.count)
    return TablePlan(
        table=table,
        records=first.count,
        requests=sum(max(1, -(-(piece.records or 0) // size)) for piece in pieces),
        page_records=size,
        data_bytes=round(first.count * first.row_bytes),
    )


def _date(parameter: str, value: Day | None) -> date | None:
    text = day(parameter, value)
    return None if text is None else date.fromisoformat(text)


def _pairs(**filters: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in filters.items() if value is not None))


# --- what an earlier run proved complete, where nothing has changed since ---------------------------------


class Known:
    """What is stored of the lists a run is about.

    Args:
        run: The number of the run that asks.
        look_back_days: Days before the day of a reading that may still have changed after it.
    """

    def __init__(self, readings: Iterable[ShardDone], *, run: int, look_back_days: int) -> None:
        self._run, self._look_back = run, look_back_days * DAY
        self._this_run: dict[str, ShardDone] = {}
        self._current: dict[Family, list[ShardDone]] = {}
        for done in readings:
            if done.shard.parent is not None:
                continue
            if done.run == run:
                self._this_run[done.shard.id] = done
            now = self._current.setdefault(done.shard.family, [])
            now[:] = [old for old in now if old.shard.window.meet(done.shard.window).is_empty]
            now.append(done)

    def of_this_run(self, shard: Shard) -> ShardDone | None:
        """The reading of exactly *shard* that this run has stored already."""
        return self._this_run.get(shard.id)

    def settled(self, shard: Shard) -> list[ShardDone]:
        """Readings of *shard*'s list that need no other, oldest days first."""
        return sorted(
            (done for done in self._current.get(shard.family, ()) if self.is_settled(done)),
            key=lambda done: done.shard.window.first or date.min,
        )

    def unsettle(self, windows: Iterable[Window]) -> None:
        """Forget the readings of exactly these windows: they are to be read again."""
        stale = set(windows)
        for now in self._current.values():
            now[:] = [done for done in now if done.shard.window not in stale or done.run == self._run]

    def is_settled(self, done: ShardDone) -> bool:
        """Whether the days of *done* need no other reading."""
        shard, last = done.shard, done.shard.window.last
        if shard.table != "attempts" or shard.undated or shard.end_exclusive is None:
            return False
        if done.run == self._run:
            return True
        old_enough = last is not None and done.read_on is not None and last < done.read_on - self._look_back
        return old_enough and done.agrees and done.status == "certified"


class Measure(msgspec.Struct, frozen=True):
    """Something the server counts over any days, and what a reading knew of it."""

    shard: Shard
    known: Callable[[ShardDone], int]


async def changed_windows(client: Client, settled: Sequence[ShardDone]) -> list[Window]:
    """Those of the settled windows that hold another number of attempts, or of running ones, than they did.

    Each unbroken row of windows costs two requests if nothing changed; what changed is found by halving.
    """
    found: dict[Window, None] = {}
    for row in _unbroken(settled):
        for measure in _measures(row[0].shard):
            found |= dict.fromkeys(await _changed(client, measure, row))
    return list(found)


async def _changed(client: Client, measure: Measure, row: Sequence[ShardDone]) -> list[Window]:
    """The windows of *row* that differ.

    What changes while they are searched could hide another change: then they are searched again.
    """
    found: dict[Window, None] = {}
    now = await _count(client, measure, row)
    for _ in range(SEARCHES):
        differing = await _differing(client, measure, row, now)
        found |= dict.fromkeys(differing)
        if not differing:
            break
        before, now = now, await _count(client, measure, row)
        if now == before:
            break
    return list(found)


def _measures(shard: Shard) -> Iterator[Measure]:
    yield Measure(shard, lambda done: done.count or 0)
    filters = dict(shard.filters)
    if "state" not in filters:
        running = tuple(sorted((filters | {"state": str(AttemptState.RUNNING.code)}).items()))
        yield Measure(msgspec.structs.replace(shard, filters=running), lambda done: done.running)


async def _differing(
    client: Client, measure: Measure, row: Sequence[ShardDone], now: int | None
) -> list[Window]:
    """The windows of *row* that differ, given that the server counts *now* over all of them."""
    if now == sum(map(measure.known, row)):
        return []
    if len(row) == 1:
        return [row[0].shard.window]
    early, late = row[: len(row) // 2], row[len(row) // 2 :]
    before = await _count(client, measure, early)
    after = None if now is None or before is None else now - before
    return [
        *await _differing(client, measure, early, before),
        *await _differing(client, measure, late, after),
    ]


async def _count(client: Client, measure: Measure, row: Sequence[ShardDone]) -> int | None:
    return (await probe(client, measure.shard.over(_hull(row)))).count


def _hull(row: Sequence[ShardDone]) -> Window:
    return Window(row[0].shard.window.first, row[-1].shard.window.last)


def _unbroken(settled: Sequence[ShardDone]) -> list[list[ShardDone]]:
    """Rows of windows without a day between them."""
    rows: list[list[ShardDone]] = []
    for done in settled:
        last = rows[-1][-1].shard.window.last if rows else None
        if last is not None and done.shard.window.first == last + DAY:
            rows[-1].append(done)
        else:
            rows.append([done])
    return rows
