"""`testpress stream` and `get`: the server's own records on stdout. `testpress record`: answers in a file."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from cyclopts import Parameter

from testpress_async.cli import exits
from testpress_async.cli.connect import Connection, connected
from testpress_async.cli.filters import Filters, id_list
from testpress_async.cli.output import CONNECT, PACE, READ, SHOW, WRITE, Debug, complain, err, wrote
from testpress_async.cli.progress import Display, Traffic, display
from testpress_async.client import Client
from testpress_async.errors import ConfigError
from testpress_async.harvest.files import write_file
from testpress_async.harvest.reading import one_line
from testpress_async.harvest.report import RowsRead, ShardFinished, TableFinished, TableStarted
from testpress_async.harvest.shard import PARENTS
from testpress_async.harvest.tables import conference_of, with_parent
from testpress_async.listing.listing import Listing
from testpress_async.listing.page import RawPage
from testpress_async.sandbox import Recorder

Table = Literal["attempts", "content_attempts", "exams", "users", "courses", "user_answers", "attendance"]
LISTS: Final[tuple[str, ...]] = tuple(table for table in get_args(Table) if table not in PARENTS)


async def stream(
    table: Annotated[Table, Parameter(group=READ)],
    *,
    ids: Annotated[str | None, Parameter(group=READ, metavar="IDS")] = None,
    ordering: Annotated[str | None, Parameter(group=READ, metavar="FIELD")] = None,
    window: Annotated[int, Parameter(group=PACE)] = 4,
    sandbox: Annotated[bool, Parameter(group=CONNECT)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=SHOW)] = False,
    filters: Filters | None = None,
    connection: Connection | None = None,
    debug: Debug | None = None,
) -> int:
    """Print the server's own records as JSON Lines on stdout, for pipes.

    Ends quietly, and stops asking, when the reader does. Bad records are left out, named on stderr, and
    tell in the exit code.

    Parameters
    ----------
    table
        What to stream.
    ids
        Attempts (user_answers) or video conferences (attendance) to stream: 7 or 7,8,9.
    ordering
        Order of attempts, such as date or -date.
    window
        Pages requested ahead of the reader.
    sandbox
        Stream an invented institute on this machine.
    quiet
        Show no progress. There is none anyway where stdout is a terminal.
    """
    wanted = filters or Filters()
    if ids is not None and table not in PARENTS:
        raise ConfigError("--ids", f"is only for user_answers and attendance, not for {table}")
    wanted.require_meaning([table])
    parents, traffic = id_list("--ids", ids) or [None], Traffic()
    async with connected(connection, sandbox=sandbox, on_event=traffic.note) as client:
        listings = [(parent, listing_of(client, table, parent, wanted, ordering)) for parent in parents]
        with display(err, traffic, quiet=quiet or sys.stdout.isatty(), brief=True) as shown:
            code, records = await _streamed(table, listings, window, shown)
    if code == exits.DONE and not (records or quiet) and (line := wanted.miss(table)):
        err.print(line)
    return code


async def _streamed(
    table: str, listings: Sequence[tuple[int | None, Listing[Any]]], window: int, shown: Display
) -> tuple[int, int]:
    """The exit code, and how many records went to stdout."""
    rejected = started = False
    records = 0
    for parent, listing in listings:
        async with contextlib.aclosing(listing.raw_pages(window)) as pages:
            async for page in pages:
                if not started:
                    shown.show(TableStarted(table=table, requests=len(listings), records=page.count))
                    started = True
                for error in page.rejected:
                    rejected = True
                    complain(str(error))
                rows = [with_parent(table, parent, one_line(row)) for row in page.rows[table]]
                records += len(rows)
                if not wrote(b"".join(row + b"\n" for row in rows)):
                    return exits.DONE, records
                shown.show(RowsRead(table=table, records=len(rows)))
        shown.show(ShardFinished(table=table))
    shown.show(TableFinished(table=table))
    return exits.UNREADABLE if rejected else exits.DONE, records


async def get(
    what: Annotated[Literal["attempt"], Parameter(group=READ)],
    id: Annotated[int, Parameter(group=READ)],
    *,
    sandbox: Annotated[bool, Parameter(group=CONNECT)] = False,
    connection: Connection | None = None,
    debug: Debug | None = None,
) -> int:
    """Print one record as JSON.

    Parameters
    ----------
    what
        Kind of record.
    id
        Its id.
    sandbox
        Ask an invented institute on this machine.
    """
    async with connected(connection, sandbox=sandbox) as client:
        body = await client.attempts.get_raw(id)
    wrote(msgspec.json.format(body, indent=2) + b"\n")
    return exits.DONE


def listing_of(
    client: Client, table: str, parent: int | None, filters: Filters, ordering: str | None
) -> Listing[Any]:
    """The listing of a table, of one parent where it has one."""
    if table in PARENTS and parent is None:
        raise ConfigError("--ids", f"is missing: {table} are read per attempt or conference")
    makers: dict[str, Callable[[], Listing[Any]]] = {
        "attempts": lambda: client.attempts.list(**filters.of_attempts(), ordering=ordering),
        "content_attempts": lambda: client.content_attempts.list(
            user_ids=id_list("--users", filters.users),
            course_ids=id_list("--course-ids", filters.course_ids),
            state=filters.content_state,
        ),
        "exams": client.exams.list,
        "users": client.users.list,
        "courses": client.courses.list,
        "user_answers": lambda: client.attempts.user_answers(parent or 0),
        "attendance": lambda: client.video_conferences.attendees(parent or 0),
    }
    return makers[table]()


# --- record ------------------------------------------------------------------------------------------


async def record(
    *tables: Annotated[str, Parameter(group=READ)],
    out: Annotated[Path, Parameter(group=WRITE)],
    max_pages: Annotated[int, Parameter(group=READ)] = 2,
    max_parents: Annotated[int, Parameter(group=READ)] = 20,
    sandbox: Annotated[bool, Parameter(group=CONNECT)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=SHOW)] = False,
    filters: Filters | None = None,
    connection: Connection | None = None,
    debug: Debug | None = None,
) -> int:
    """Record answers of an institute into a file that tests replay, without what is personal in them.

    Every text that is no number, time or word of the API is replaced, the same by the same everywhere; ids,
    scores and times stay. In a test: @pytest.mark.testpress(recording=FILE), or Sandbox.from_recording(FILE).

    Parameters
    ----------
    tables
        attempts, content_attempts, exams, users, courses: these, if none is named. And for each of the first
        attempts or conferences: attempt_details, user_answers, attendance.
    out
        The file, gzipped if its name ends in .gz. It is replaced when all has been read.
    max_pages
        Pages of each list. A list recorded in part is replayed as if it ended there.
    max_parents
        Attempts and conferences whose details, answers or attendance are recorded.
    sandbox
        Record an invented institute on this machine.
    quiet
        Show nothing but errors.
    """
    wanted, chosen = tables or LISTS, filters or Filters()
    if unknown := [table for table in wanted if table not in (*LISTS, *PARENTS)]:
        raise ConfigError("tables", f"{unknown[0]!r} is not among {', '.join((*LISTS, *PARENTS))}")
    chosen.require_meaning([PARENTS.get(table, table) for table in wanted])
    if min(max_pages, max_parents) < 1:
        raise ConfigError("--max-pages and --max-parents", "expected at least 1")
    recorder, traffic = Recorder(), Traffic()
    options: dict[str, Any] = {"middleware": (recorder,), "on_event": traffic.note}
    async with connected(connection, sandbox=sandbox, **options) as client:
        with display(err, traffic, quiet=quiet) as shown:
            await _Reading(client, chosen, max_pages, shown).read(wanted, max_parents)
    await asyncio.to_thread(write_file, out, recorder.file(out))
    if not quiet:
        err.print(f"Recorded {len(recorder):,} answers into {out}.")
    return exits.DONE


class _Reading:
    """Asks for all that is to be recorded."""

    def __init__(self, client: Client, filters: Filters, max_pages: int, shown: Display) -> None:
        self._client, self._filters, self._max_pages, self._shown = client, filters, max_pages, shown

    async def read(self, wanted: Sequence[str], max_parents: int) -> None:
        parents: dict[str, list[int]] = {}
        for table in LISTS:
            if table in wanted or table in [PARENTS.get(each) for each in wanted]:
                pages = await self._table(table, [None])
                parents[table] = list(dict.fromkeys(each for page in pages for each in _parents_on(page)))
        for table in PARENTS:
            if table in wanted:
                await self._table(table, parents[PARENTS[table]][:max_parents])

    async def _table(self, table: str, parents: Sequence[int | None]) -> list[RawPage]:
        pages: list[RawPage] = []
        self._shown.show(TableStarted(table=table, requests=len(parents), records=None))
        for parent in parents:
            if table == "attempt_details" and parent is not None:
                await self._client.attempts.get_raw(parent)
                self._shown.show(RowsRead(table=table, records=1))
            else:
                pages += await self._pages(
                    table, listing_of(self._client, table, parent, self._filters, None)
                )
            self._shown.show(ShardFinished(table=table))
        self._shown.show(TableFinished(table=table))
        return pages

    async def _pages(self, table: str, listing: Listing[Any]) -> list[RawPage]:
        found: list[RawPage] = []
        async with contextlib.aclosing(listing.raw_pages()) as pages:
            async for page in pages:
                found.append(page)
                self._shown.show(RowsRead(table=table, records=len(page.rows[table])))
                if len(found) == self._max_pages:
                    break
        return found


class _Row(msgspec.Struct):
    id: object = None


def _id_of(attempt: bytes) -> object:
    try:
        return msgspec.json.decode(attempt, type=_Row).id
    except msgspec.DecodeError:
        return None


def _parents_on(page: RawPage) -> list[int]:
    """Ids of the attempts or the conferences on a page."""
    found = [*map(_id_of, page.rows.get("attempts", ()))]
    found += map(conference_of, page.rows.get("user_video_conferences", ()))
    return [each for each in found if isinstance(each, int)]
