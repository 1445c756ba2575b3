"""What a harvest will read and cost, before it reads it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from testpress_async.client import Client
from testpress_async.harvest.shard import PARENTS, READABLE, Shard, readable_tables
from testpress_async.listing.listing import Listing
from testpress_async.models.enums import AttemptState, ContentAttemptState
from testpress_async.models.record import Record
from testpress_async.resources.filters import Day, Ids, code, day, ids


class TablePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one table. None: known only when its parents have been read.

    Attributes:
        records: The server's count when the plan was made.
        requests: Requests it will take without retries.
    """

    table: str
    records: int | None
    requests: int | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Shards to read, tables that follow from them, and the cost. JSON-able with msgspec.

    Attributes:
        shards: Reads known now.
        derived: Tables read once per record of their parent table.
        costs: One entry per table.
    """

    shards: tuple[Shard, ...]
    derived: tuple[str, ...]
    costs: tuple[TablePlan, ...]

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
) -> Plan:
    """Find out what reading *tables* takes. One request per table that is a list.

    Args:
        tables: Names of tables; those they depend on are added.
        users: Whose attempts and content attempts.
        exams, state, started_after, started_before: Which attempts, and so which answers.
        course_ids, content_state: Which content attempts.
    Raises:
        ConfigError: A table or filter is unusable; nothing was sent.
    """
    wanted = readable_tables(tuple(tables))
    filters = {
        "attempts": _pairs(
            exams=ids("exams", exams),
            users=ids("users", users),
            state=code("state", state, AttemptState),
            started_after=day("started_after", started_after),
            started_before=day("started_before", started_before),
        ),
        "content_attempts": _pairs(
            user_ids=ids("users", users),
            course_ids=ids("course_ids", course_ids),
            state=code("content_state", content_state, ContentAttemptState),
        ),
    }
    shards = tuple(
        Shard(table=table, filters=filters.get(table, ())) for table in wanted if table not in PARENTS
    )
    costs: dict[str, TablePlan] = {}
    for shard in shards:
        page = await listing_of(client, shard)
        size = page.per_page or len(page.items) or 1
        requests = None if page.count is None else max(1, -(-page.count // size))
        costs[shard.table] = TablePlan(table=shard.table, records=page.count, requests=requests)
    derived = tuple(table for table in wanted if table in PARENTS)
    for table in derived:
        parents = costs[PARENTS[table]].records if PARENTS[table] == "attempts" else None
        records = parents if table == "attempt_details" else None
        costs[table] = TablePlan(table=table, records=records, requests=parents)
    return Plan(shards=shards, derived=derived, costs=tuple(costs[table] for table in wanted))


def listing_of(client: Client, shard: Shard) -> Listing[Record]:
    """The listing a shard describes; bad records are left to the caller."""
    filters = dict(shard.filters)
    listing: object
    match shard.table:
        case "attempts":
            listing = client.attempts.list(
                exams=_ids(filters.get("exams")),
                users=_ids(filters.get("users")),
                state=_id(filters.get("state")),
                started_after=filters.get("started_after"),
                started_before=filters.get("started_before"),
                ordering="date",
                bad_records="skip",
            )
        case "content_attempts":
            listing = client.content_attempts.list(
                user_ids=_ids(filters.get("user_ids")),
                course_ids=_ids(filters.get("course_ids")),
                state=_id(filters.get("state")),
                bad_records="skip",
            )
        case "user_answers":
            listing = client.attempts.user_answers(shard.parent or 0, bad_records="skip")
        case "attendance":
            listing = client.video_conferences.attendees(shard.parent or 0, bad_records="skip")
        case _:
            listing = client.exams.list(bad_records="skip")
    return listing  # type: ignore[return-value]


def _pairs(**filters: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in filters.items() if value is not None))


def _ids(text: str | None) -> list[int] | None:
    return None if text is None else [int(each) for each in text.split(",")]


def _id(text: str | None) -> int | None:
    return None if text is None else int(text)
