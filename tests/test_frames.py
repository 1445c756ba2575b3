"""Frames of listings: the columns and values that exports have, whatever the server sent."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import testpress_async as tp
from testpress_async.harvest.convert import to_arrow as finished_table
from testpress_async.harvest.shard import TABLES
from testpress_async.listing.frames import BATCH_ROWS
from testpress_async.models.schema import EXTRA, RECORDS, Kind, columns
from tests.support.exporting import export, opened, until
from tests.support.pages import Pages, book, other_tasks
from tests.test_convert import OF_KIND, write

Row = dict[str, Any]


def rows_of(table: object, name: str) -> list[Row]:
    """Rows of an Arrow table, without `_extra`; nested values are read, their nulls left out."""
    rows = cast("Any", table).to_pylist()
    nested = {column.name for column in columns(name) if column.kind is Kind.NESTED}
    return [
        {
            key: without_nulls(json.loads(value)) if key in nested and value is not None else value
            for key, value in row.items()
            if key != EXTRA
        }
        for row in rows
    ]


def without_nulls(value: object) -> object:
    """A field that some servers leave out is null in a record that was encoded again."""
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: without_nulls(each) for key, each in items if each is not None}
    return [without_nulls(each) for each in cast("list[object]", value)] if isinstance(value, list) else value


def fields(table: object) -> list[tuple[str, str]]:
    """Names and types of the columns but `_extra`."""
    return [(each.name, str(each.type)) for each in cast("Any", table).schema if each.name != EXTRA]


def sorted_rows(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))


# --- the columns and values of exports -----------------------------------------------------------------


async def read_by_listings(client: tp.Client) -> dict[str, object]:
    """Every table as its listing, its fan-out or what comes along with it makes it."""
    attempts = await client.attempts.list().collect()
    ids = [attempt.id for attempt in attempts]
    async with client.fan_out(ids, client.attempts.get) as results:
        details = [row async for row in results]
    answers: list[object] = []
    sides: dict[str, dict[int, tp.Record]] = {}
    conferences: set[int] = set()
    for number in ids:
        answers.append(await client.attempts.user_answers(number).to_arrow())
        keep_sides([one async for one in client.attempts.user_answers(number).pages()], sides)
    pages = [one async for one in client.content_attempts.list().pages()]
    keep_sides(pages, sides)
    for held in sides["user_video_conferences"].values():
        conference = cast("tp.UserVideoConference", held).video_conference
        conferences |= {conference.id} if conference and isinstance(conference.id, int) else set()
    attended = [await client.video_conferences.attendees(number).to_arrow() for number in sorted(conferences)]
    return {
        "attempts": await client.attempts.list().to_arrow(window=3),
        "attempt_details": tp.to_arrow(details, tp.AttemptDetail),
        "user_answers": pa.concat_tables(answers),
        "content_attempts": await client.content_attempts.list().to_arrow(),
        "attendance": pa.concat_tables(attended),
        "exams": await client.exams.list().to_arrow(),
        **{table: tp.to_arrow(rows.values(), RECORDS[table]) for table, rows in sides.items()},
    }


def keep_sides(pages: Sequence[tp.Page[Any]], sides: dict[str, dict[int, tp.Record]]) -> None:
    for one in pages:
        for table, rows in one.tables.items():
            sides.setdefault(table, {}).update({cast("Any", row).id: row for row in rows})


async def test_every_table_is_that_of_an_export(tmp_path: Path) -> None:
    """For every table of the dataset, what listings give has the same columns, types and values."""
    async with opened(attempts=12, content_attempts=30) as (_, client):
        await export(client, tmp_path)
        found = await read_by_listings(client)
    dataset = tp.Dataset(tmp_path)
    assert set(found) == set(dataset.tables) == set(TABLES)
    for table in TABLES:
        exported = dataset.to_arrow(table)
        assert fields(found[table]) == fields(exported), table
        expected = sorted_rows(rows_of(exported, table))
        assert expected, f"{table} is empty: it shows nothing"
        assert sorted_rows(rows_of(found[table], table)) == expected, table


@pytest.mark.parametrize("kind", RECORDS.values(), ids=RECORDS)
def test_no_records_have_all_columns(kind: type[tp.Record], tmp_path: Path) -> None:
    """A table without rows has the columns of an export without rows."""
    table = next(name for name, record in RECORDS.items() if record is kind)
    write(tmp_path, table, [])
    found = tp.to_arrow([], kind)
    assert found.num_rows == 0
    assert fields(found) == fields(finished_table(tmp_path, table))


@settings(max_examples=8)
@given(data=st.data(), table=st.sampled_from(["attempt_details", "user_answers", "users"]))
def test_odd_values_are_those_of_an_export(data: st.DataObject, table: str) -> None:
    """Whatever the server sends and a record takes: skipping what does not fit gives the export's column,
    unless the export keeps what was sent in `_extra`; raising names the field, and never the value."""
    own = {c.field: st.none() | OF_KIND[c.kind] for c in columns(table) if c.field and c.field != "id"}
    ids = st.integers(1, 2**63 - 1)
    drawn = data.draw(st.lists(st.fixed_dictionaries({"id": ids}, optional=own), max_size=3))
    sent = [row for row in drawn if decoded(table, row) is not None]
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), table, sent)
        exported = cast("Any", finished_table(Path(name), table)).to_pylist()
    records = [cast("tp.Record", decoded(table, row)) for row in sent]
    found = cast("Any", tp.to_arrow(records, RECORDS[table], bad_records="skip")).to_pylist()
    for mine, theirs in zip(found, exported, strict=True):
        aside = json.loads(theirs[EXTRA] or "{}")
        for column in columns(table)[:-1]:
            if column.kind not in (Kind.NESTED, Kind.TEXT) and column.field not in aside:
                assert mine[column.name] == theirs[column.name], column
    error = refusal(records, RECORDS[table])
    if error is not None:
        assert error.path.removeprefix("$.") in {column.field for column in columns(table)}
        assert any(row[EXTRA] for row in exported)


def refusal(records: Sequence[tp.Record], kind: type[tp.Record]) -> tp.DecodeFailed | None:
    """What is raised over a value that does not fit."""
    try:
        tp.to_arrow(records, kind)
    except tp.DecodeFailed as error:
        return error
    return None


def decoded(table: str, row: Row) -> tp.Record | None:
    """A record as a listing decodes it; None if it does not."""
    try:
        return msgspec.json.decode(json.dumps(row), type=RECORDS[table])
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None


# --- listings -----------------------------------------------------------------------------------------


async def test_a_listing_becomes_a_table_and_frames(client: tp.Client) -> None:
    """Same rows in the server's order from all three; decimals exact, moments in UTC."""
    listing = client.attempts.list(ordering="date")
    records = await listing.collect()
    table = await listing.to_arrow(window=4)
    polars, pandas = await listing.to_polars(window=4), await listing.to_pandas(window=4)
    assert table.to_pydict()["id"] == [record.id for record in records]
    assert table.to_pydict()["score"] == [record.score for record in records]
    assert polars.equals(cast("pl.DataFrame", pl.from_arrow(table)))
    assert pa.Table.from_pandas(pandas, preserve_index=False).cast(table.schema).equals(table)
    assert polars.schema["date"] == pl.Datetime("us", "UTC")
    assert polars.schema["score"] == pl.Decimal(18, 4)
    assert (
        str(pandas.dtypes["last_viewed_question_id"]) == "int64[pyarrow]"
    )  # and no float, though half is null


async def test_a_frame_of_answers_says_whose_they_are(client: tp.Client) -> None:
    """The server does not repeat the parent's id in its rows: the listing knows it, resumed or not."""
    answers = client.attempts.user_answers(3)
    assert set((await answers.to_arrow()).to_pydict()["attempt_id"]) == {3}
    rest = answers.resume((await answers).token)
    assert set((await rest.to_arrow()).to_pydict()["attempt_id"]) <= {3}
    attended = await client.video_conferences.attendees(1).to_polars()
    assert attended.columns[0] == "video_conference_id"
    assert set(attended["video_conference_id"]) <= {1}


async def test_a_parent_that_the_server_names_is_believed() -> None:
    """Some versions send `attempt_id`."""
    results = {"user_answers": [{"id": 1, "attempt_id": 9}, {"id": 2}], "exam_questions": []}
    pages = Pages({1: json.dumps({"next": None, "results": results}).encode()})
    async with pages.client() as client:
        table = await client.attempts.user_answers(5).to_arrow()
    assert table.to_pydict()["attempt_id"] == [9, 5]


@pytest.mark.parametrize(("max_items", "asked"), [(0, []), (1, [1]), (3, [1, 2]), (None, [1, 2, 3])])
async def test_no_page_is_read_beyond_what_is_wanted(max_items: int | None, asked: list[int]) -> None:
    """`max_items` cuts the last page and asks for no other."""
    pages = Pages(book([1, 2], [3, 4], [5]))
    async with pages.client() as client:
        table = await client.attempts.list().to_arrow(max_items)
    assert table.to_pydict()["id"] == [1, 2, 3, 4, 5][:max_items]
    assert pages.asked == asked


@pytest.mark.parametrize("wrong", [{"max_items": -1}, {"window": 0}])
async def test_unusable_arguments_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is sent."""
    pages = Pages(book([1]))
    async with pages.client() as client:
        with pytest.raises(tp.ConfigError, match=next(iter(wrong))):
            await client.attempts.list().to_arrow(**wrong)
    assert pages.asked == []


async def test_an_empty_listing_has_all_columns() -> None:
    """No rows, but the columns and types of any other."""
    async with Pages(book([])).client() as client:
        polars, pandas = await client.attempts.list().to_polars(), await client.attempts.list().to_pandas()
    expected = [column.name for column in columns("attempts") if column.name != EXTRA]
    assert polars.shape == pandas.shape == (0, len(expected))
    assert polars.columns == list(pandas.columns) == expected
    assert polars.schema["score"] == pl.Decimal(18, 4)


async def test_pages_become_columns_every_so_often() -> None:
    """Records do not pile up until the end: the columns are made batch by batch."""
    size = BATCH_ROWS // 4
    ids = [range(number * size, (number + 1) * size) for number in range(10)]
    async with Pages(book(*ids)).client() as client:
        table = await client.attempts.list().to_arrow()
    chunks = cast("Any", table).column("id").chunks
    assert [len(chunk) for chunk in chunks if len(chunk)] == [BATCH_ROWS, BATCH_ROWS, 2 * size]
    assert table.to_pydict()["id"] == list(range(10 * size))


async def test_a_cancelled_frame_leaves_nothing_running() -> None:
    """Pages that were on the way are cancelled with it."""
    pages = Pages(book([1], [2], [3], [4], count=4, per_page=1))
    pages.held = {3: asyncio.Event()}
    async with pages.client() as client:
        task = asyncio.ensure_future(client.attempts.list().to_polars(window=4))
        await until(lambda: pages.asked == [1, 2, 3, 4] and pages.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pages.running == 0
        assert other_tasks() == set()


# --- what cannot be read --------------------------------------------------------------------------------


async def test_bad_records_are_treated_as_the_listing_was_told() -> None:
    """One that cannot be decoded is raised with where to go on, or left out."""
    async with Pages(book([1, "x", 3], [4])).client() as client:
        with pytest.raises(tp.DecodeFailed) as caught:
            await client.attempts.list().to_arrow()
        assert caught.value.resume_token
        table = await client.attempts.list(bad_records="skip").to_arrow()
    assert table.to_pydict()["id"] == [1, 3, 4]


ODD = [("score", "1.23456"), ("score", "12 of 20"), ("percentage", "1e400"), ("rank", "4.5")]


@pytest.mark.parametrize(("field", "value"), ODD)
async def test_a_value_that_does_not_fit_is_never_rounded(field: str, value: str) -> None:
    """It is raised with its field and record, and without itself; or null if bad ones are to be skipped."""
    rows = [{"id": 6, field: "4"}, {"id": 7, field: value}]
    pages = Pages({1: json.dumps({"next": None, "results": rows}).encode()})
    async with pages.client() as client:
        with pytest.raises(tp.DecodeFailed) as caught:
            await client.attempts.list(exams=5).to_arrow()
        error = caught.value
        assert (error.path, error.record_id) == (f"$.{field}", 7)
        assert "attempts/?exams=5" in str(error)
        assert value not in str(error)
        table = await client.attempts.list(bad_records="skip").to_arrow()
    assert table.to_pydict()[field] == [4, None]


def test_a_duration_nobody_can_read_keeps_its_text() -> None:
    """Nothing is lost by leaving its seconds empty, so nothing is raised."""
    table = tp.to_arrow([tp.Attempt(id=1, raw_time_taken="long"), tp.Attempt(id=2)], tp.Attempt).to_pydict()
    assert (table["raw_time_taken"], table["time_taken_s"]) == (["long", None], [None, None])


def test_moments_that_utc_does_not_have_do_not_fit() -> None:
    """The first hours of year 1, east of Greenwich, would be read as another time."""
    date = datetime.fromisoformat("0001-01-01T00:00:00+05:30")
    with pytest.raises(tp.DecodeFailed, match=r"\$\.date \(record 1\): expected what fits a column"):
        tp.to_arrow([tp.Attempt(id=1, date=date)], tp.Attempt)
    table = tp.to_arrow([tp.Attempt(id=1, date=date)], tp.Attempt, bad_records="skip")
    assert table.to_pydict()["date"] == [None]


# --- records one has ----------------------------------------------------------------------------------


async def test_what_a_fan_out_gave_becomes_a_table(client: tp.Client) -> None:
    """Pairs of a parent's id and a record are rows of that parent."""
    async with client.fan_out([1, 2], client.attempts.user_answers, ordered=True) as results:
        pairs = [row async for row in results]
    table = tp.to_arrow(pairs, tp.UserAnswer).to_pydict()
    assert table["attempt_id"] == [parent for parent, _ in pairs]
    assert table["id"] == [answer.id for _, answer in pairs]


def test_plain_records_become_a_table() -> None:
    """Exact decimals, moments in UTC, seconds of a duration, the server's words."""
    attempt = tp.Attempt(
        id=1,
        date=datetime.fromisoformat("2024-01-01T05:30:00+05:30"),
        raw_score="90.10",
        raw_time_taken="0:01:30.5",
        raw_percentage=33.3,
        phone=98,
        state=tp.AttemptState("Odd"),
    )
    table = tp.to_arrow(iter([attempt]), tp.Attempt).to_pydict()
    assert table["date"] == [datetime(2024, 1, 1, tzinfo=UTC)]
    assert str(table["score"][0]) == "90.1000"
    assert table["time_taken_s"] == [Decimal("90.5")]
    assert (table["percentage"], table["phone"], table["state"]) == ([33.3], ["98"], ["Odd"])


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([tp.Exam(id=1)], tp.Attempt, "rows: expected a Attempt, got a Exam"),
        ([None], tp.Attempt, "rows: expected a Attempt, got a NoneType"),
        ([("x", tp.UserAnswer(id=1))], tp.UserAnswer, "rows: expected the attempt_id beside each record"),
        ([], tp.AttemptSection, "kind: no table holds records of the kind AttemptSection"),
    ],
)
def test_what_is_no_row_is_refused(rows: list[Any], kind: type[tp.Record], message: str) -> None:
    """With what was expected."""
    with pytest.raises(tp.ConfigError, match=message):
        tp.to_arrow(rows, kind)


def test_other_kinds_take_no_parent() -> None:
    """A fan-out of details gives pairs too."""
    assert tp.to_arrow([("any", tp.AttemptDetail(id=1))], tp.AttemptDetail).to_pydict()["id"] == [1]


# --- extras -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "missing", "extra"),
    [
        ("to_arrow", "pyarrow", "arrow"),
        ("to_polars", "polars", "polars"),
        ("to_polars", "pyarrow", "polars"),
        ("to_pandas", "pandas", "pandas"),
    ],
)
async def test_a_missing_extra_is_named(
    method: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it, before anything is sent."""
    monkeypatch.setitem(sys.modules, missing, None)
    pages = Pages(book([1]))
    async with pages.client() as client:
        with pytest.raises(tp.ConfigError) as caught:
            await getattr(client.attempts.list(), method)()
    assert str(caught.value).startswith(f"{method}: needs ")
    assert f"pip install 'testpress-async[{extra}]'" in str(caught.value)
    assert pages.asked == []
