"""Finished tables as CSV, Parquet and DuckDB: nothing lost, nothing changed."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import duckdb
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testpress_async.errors import ConfigError, DatasetError
from testpress_async.harvest.convert import (
    Format,
    convert,
    finished_tables,
    require_format,
    sql,
    to_arrow,
)
from testpress_async.harvest.interruption import Interruption, in_thread
from testpress_async.harvest.report import UnknownField
from testpress_async.harvest.shard import TABLES
from testpress_async.models.record import Duration
from testpress_async.models.scalars import calendar_day, duration, exact
from testpress_async.models.schema import RECORDS, Kind, columns, known_fields
from tests.support.exporting import unknown_fields, until

FORMATS: tuple[Format, ...] = ("csv", "parquet", "duckdb")
MODES = pytest.mark.parametrize("format", FORMATS)
NOTHING = ("", "NA")

Row = dict[str, Any]
Cells = dict[str, str | None]

csv.field_size_limit(1 << 22)


def write(folder: Path, table: str, rows: Iterable[Row], *, ascii_only: bool = False) -> None:
    """A finished table."""
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows]
    (folder / f"{table}.jsonl").write_text("".join(lines), encoding="utf-8", newline="")


def cells(folder: Path, table: str, format: Format) -> list[Cells]:
    """What a file holds, as texts, read without the code under test; CSV cannot tell a null from ""."""
    if format == "csv":
        with open(folder / f"{table}.csv", encoding="utf-8", newline="") as file:
            return [{name: text or None for name, text in row.items()} for row in csv.DictReader(file)]
    place = str(folder / "testpress.duckdb") if format == "duckdb" else ":memory:"
    source = f"'{folder / table}.parquet'" if format == "parquet" else table
    with duckdb.connect(place) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {source}")
        names = [str(each[0]) for each in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def converted(table: str, rows: Sequence[Row], format: Format, **options: Any) -> list[Cells]:
    """*rows* written, converted and read again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, table, rows, ascii_only=len(rows) % 2 == 0)
        convert(folder, [table], format, **options)
        return cells(folder, table, format)


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def moment(text: str) -> datetime:
    return msgspec.convert(text.replace(" ", "T", 1).replace("+00", "Z"), datetime).astimezone(UTC)


def holds(kind: Kind, cell: str | None, value: Any) -> bool:
    """Whether a cell of a column says exactly what the server said."""
    if cell is None:
        return kind not in (Kind.MOMENT, Kind.TRUTH) and str(value).strip().upper() in NOTHING
    match kind:
        case Kind.WHOLE:
            return int(cell) == exact(value)
        case Kind.EXACT:
            return Decimal(cell) == exact(value)
        case Kind.REAL:
            digits = exact(value) if isinstance(value, str) else value
            return (Decimal(repr(float(cell))) if isinstance(value, str) else float(cell)) == digits
        case Kind.SECONDS:
            return timedelta(microseconds=int(Decimal(cell) * 1_000_000)) == duration(value)
        case Kind.MOMENT:
            return moment(cell) == msgspec.convert(value, datetime)
        case Kind.DAY:
            return date.fromisoformat(cell) == calendar_day(value)
        case Kind.TRUTH:
            return cell == json.dumps(value)
        case Kind.TEXT:
            return cell == (value if isinstance(value, str) else json.dumps(value))
        case Kind.NESTED:
            return json.loads(cell) == value


def lost(table: str, row: Row, found: Cells) -> list[str]:
    """Fields of *row* that neither their column nor `_extra` tells."""
    extra: Row = json.loads(found["_extra"] or "{}")
    missing: list[str] = []
    for field, value in row.items():
        mine = [column for column in columns(table) if column.field == field]
        if field in extra:
            told = extra[field] == value
        elif value is None:
            told = all(found[column.name] is None for column in mine)
        else:
            told = bool(mine) and all(
                holds(column.kind, found[column.name], value)
                for column in mine
                if column.kind is not Kind.SECONDS or readable(value)
            )
        if not told:
            missing.append(field)
    return missing


def readable(value: Any) -> bool:
    """Whether a duration has a meaning that a column of 18 digits can hold; its text is kept in any case."""
    try:
        return abs(duration(value) or timedelta()) < timedelta(seconds=10**12)
    except ValueError:
        return False


# --- what a server can send --------------------------------------------------------------------------

texts = st.text(max_size=30) | st.sampled_from(
    [
        "=1+1",
        '"',
        "''",
        "a\r\nb",
        "\r",
        "\n",
        "\x00",
        ",",
        "NULL",
        "null",
        "NA",
        " x ",
        "é",
        "漢字",
        "😀",
        "\u2028",
        "0x10",
    ]
)
numbers = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False).map(
        lambda d: f"{d:f}"[:30].rstrip(".")
    )
    | st.decimals(-999, 999, places=2).map(str)
    | st.sampled_from(
        ["NA", "", "90.00", "-2.00", "1e3", "12345678901234.5678", "0.00001", "1_0", "0x10", "inf", "nan"]
    )
)
durations = (
    st.timedeltas(timedelta(days=-900), timedelta(days=900)).map(str)
    | st.integers(0, 10**7)
    | st.floats(0, 10**6)
    | st.sampled_from(
        ["593.0", "NA", "20 03:58:48", "-1 day, 23:59:55", "0:00", "7 seconds", "-0:00:05", "x", "1:60:00"]
    )
)
FIRST, LAST = datetime.fromisoformat("0002-01-01"), datetime.fromisoformat("9998-01-01")
moments = st.datetimes(FIRST, LAST).flatmap(
    lambda naive: st.sampled_from(["Z", "+05:30", "-23:59", "+0530", "z"]).map(
        lambda zone: naive.isoformat() + zone
    )
) | st.sampled_from(
    ["0001-01-01T00:00:00+05:30", "9999-12-31T23:59:59.999999-10:00", "2024-01-01T10:00:00.123456789Z"]
)
days = st.dates().map(lambda day: day.strftime("%d/%m/") + f"{day.year:04}") | st.sampled_from(
    ["", "31/02/2000", "2000-02-29", "1/2/2003", "soon"]
)
nested: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
OF_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.WHOLE: st.integers(-(2**63), 2**63 - 1)
    | st.integers()
    | st.sampled_from(["12", "4.5", "NA", True, 5.7]),
    Kind.EXACT: numbers,
    Kind.REAL: numbers,
    Kind.SECONDS: durations,
    Kind.MOMENT: moments,
    Kind.DAY: days,
    Kind.TRUTH: st.booleans() | st.sampled_from(["yes", 1]),
    Kind.TEXT: texts,
    Kind.NESTED: nested,
}


def rows_of(table: str) -> st.SearchStrategy[list[Row]]:
    """Rows with any fields, the table's own and others, present or not."""
    fields = {column.field: column.kind for column in columns(table) if column.field}
    own = {field: st.none() | OF_KIND[kind] for field, kind in fields.items()}
    row = st.fixed_dictionaries({}, optional=own)
    others = st.dictionaries(texts.filter(lambda name: name not in fields), nested, max_size=2)
    return st.lists(st.tuples(row, others).map(lambda both: both[0] | both[1]), max_size=4)


@MODES
@settings(max_examples=12)
@given(data=st.data(), table=st.sampled_from(["attempt_details", "user_answers", "users"]))
def test_no_value_is_lost_or_changed(format: Format, data: st.DataObject, table: str):
    """Whatever a field holds, its column says the same, or `_extra` holds it as it came."""
    rows = data.draw(rows_of(table))
    found = converted(table, rows, format)
    assert len(found) == len(rows)
    assert [lost(table, row, each) for row, each in zip(rows, found, strict=True)] == [[] for _ in rows]


USUAL: Row = {
    "id": 2**62,
    "date": "2021-03-16T03:59:21.860924Z",
    "exam_id": 133,
    "phone": 9800000032,
    "name": "Ravi முருகன்",
    "score": "-90.00",
    "percentage": 33.333333333333336,
    "time_taken": "20 days, 3:58:48.044696",
    "remaining_time": None,
    "rank": "NA",
    "accuracy": "83.64",
    "rank_enabled": False,
    "last_started_time": "2023-04-02T15:27:46.453786+05:30",
    "sections": [{"id": 1, "score": "0.00"}],
}


@MODES
def test_usual_values_stand_in_their_columns(format: Format):
    """What the documentation shows leaves nothing over; a null is a null."""
    (found,) = converted("attempt_details", [USUAL], format)
    assert lost("attempt_details", USUAL, found) == []
    assert found["_extra"] is None
    assert found["rank"] is None
    assert found["raw_time_taken"] == "20 days, 3:58:48.044696"
    assert Decimal(found["time_taken_s"] or 0) == Decimal("1742328.044696")


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [
        ("exam_id", 2**70, None),
        ("exam_id", "12 or so", None),
        ("exam_id", 4.5, None),
        ("score", "1.23456", "1.2346"),
        ("score", "1e3", "1000.0000"),
        ("score", 5e-324, "0.0000"),
        ("score", "12345678901234567890.00", None),
        ("score", "1_0", None),
        ("percentage", "0.12345678901234567", "0.12345678901234566"),
        ("percentage", "inf", None),
        ("percentage", "83,64", None),
        ("date", "2024-01-01", None),
        ("date", "2024-01-01T10:00:00", None),
        ("date", "2024-02-30T10:00:00Z", None),
        ("date", "2024-01-01T10:00:00.1234567Z", "2024-01-01 10:00:00.123456+00"),
        ("date", "9999-12-31T23:00:00-05:00", None),
        ("rank", "first", None),
        ("rank_enabled", "yes", None),
    ],
)
def test_a_value_that_does_not_fit_is_kept_aside(field: str, value: object, nearest: str | None):
    """The column has the nearest value or none, `_extra` the server's, and the rest of the row is as ever."""
    (found,) = converted("attempts", [{"id": 1, field: value, "name": "A"}], "parquet")
    assert found[field] == nearest
    assert json.loads(found["_extra"] or "{}") == {field: value}
    assert (found["id"], found["name"]) == ("1", "A")


@MODES
def test_unknown_fields_stand_in_extra(format: Format):
    """Fields without a column are kept with their nulls, whatever their names."""
    new = {
        "a.b": [1.5, None],
        'q"': {"x": None},
        "": 12345678901234567890123,
        "_extra": "x",
        "Name": None,
        "$": "é",
    }
    (found,) = converted("exams", [{"id": 1, **new}], format)
    assert json.loads(found["_extra"] or "") == new


@given(st.lists(durations, min_size=1, max_size=20))
@example([1.5e-6, 5e-7, 5e-324, "1.9999999999e-6", 1.5e15, 1e300, "1e3", 9.9999999e11])
@settings(max_examples=12)
def test_seconds_are_those_of_the_records(values: list[object]):
    """A duration means in a column what it means in a record; one without meaning is null."""
    rows = [{"id": number, "duration": value} for number, value in enumerate(values)]
    found = converted("user_answers", rows, "parquet")
    for value, each in zip(values, found, strict=True):
        seconds = each["duration_s"]
        expected = duration(cast("str", value)) if readable(value) else None
        assert (
            None if seconds is None else timedelta(microseconds=int(Decimal(seconds) * 10**6))
        ) == expected


# --- CSV ---------------------------------------------------------------------------------------------

HOSTILE = [
    '=cmd|" /C calc"!A0',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "a\r\nb\nc",
    "\x00",
    'say ""',
    "," * 3,
    "x" * 2**20,
]


@pytest.mark.row(112)
@pytest.mark.parametrize("formula_guard", [False, True])
def test_csv_round_trip_of_hostile_texts(tmp_path: Path, formula_guard: bool):
    """RFC 4180: every text comes back; with the guard, those a spreadsheet would run have an apostrophe."""
    rows = [{"id": number, "name": text, "score": "-2.00"} for number, text in enumerate(HOSTILE)]
    write(tmp_path, "attempts", rows)
    (path,) = convert(tmp_path, ["attempts"], "csv", formula_guard=formula_guard)
    found = cells(tmp_path, "attempts", "csv")
    guarded = [f"'{text}" if formula_guard and text[0] in "=+-@\t\r" else text for text in HOSTILE]
    assert [row["name"] for row in found] == guarded
    assert {row["score"] for row in found} == {"-2"}
    data = path.read_bytes()
    assert data.startswith(b"id,date,exam_id,")
    assert data.endswith(b"\r\n")


def test_csv_tells_an_empty_text_from_none(tmp_path: Path):
    """An empty text is "", a missing one is nothing."""
    write(tmp_path, "user_live_streams", [{"id": 1, "user_id": None}])
    write(tmp_path, "users", [{"id": 1, "username": ""}])
    convert(tmp_path, ["user_live_streams", "users"], "csv")
    assert (tmp_path / "user_live_streams.csv").read_bytes() == b"id,user_id,live_stream,_extra\r\n1,,,\r\n"
    assert (tmp_path / "users.csv").read_bytes().split(b"\r\n")[1].startswith(b'1,"",,')


# --- files -------------------------------------------------------------------------------------------


@MODES
def test_the_same_tables_give_the_same_rows(tmp_path: Path, format: Format):
    """Converting again changes nothing, keeps the order, leaves nothing lying about; files are private."""
    write(tmp_path, "attempts", [{"id": number % 7919} for number in range(20_000, 0, -1)])
    folders = {tmp_path, tmp_path / "attempts.jsonl"}
    (path,) = convert(tmp_path, ["attempts"], format)
    first, data = cells(tmp_path, "attempts", format), path.read_bytes()
    assert convert(tmp_path, ["attempts"], format) == (path,)
    assert cells(tmp_path, "attempts", format) == first
    assert [row["id"] for row in first] == [str(number % 7919) for number in range(20_000, 0, -1)]
    assert format == "duckdb" or path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {tmp_path, *tmp_path.iterdir()} == folders | {path}


@MODES
def test_a_table_without_rows_has_its_columns(tmp_path: Path, format: Format):
    """An empty table is a file with columns and no rows."""
    write(tmp_path, "exams", [])
    (path,) = convert(tmp_path, ["exams"], format)
    assert cells(tmp_path, "exams", format) == []
    if format == "csv":
        assert path.read_text().startswith("id,created,")


@MODES
def test_a_damaged_table_costs_nothing_else(tmp_path: Path, format: Format):
    """A line that is no JSON is an error that names the remedy; the file of before stays as it was."""
    write(tmp_path, "attempts", [{"id": 1, "name": "secret"}])
    (path,) = convert(tmp_path, ["attempts"], format)
    data = path.read_bytes()
    (tmp_path / "attempts.jsonl").write_bytes(b'{"id":1,"name":"secret"}\n{"id":2,"na\n')
    with pytest.raises(DatasetError, match="no JSON") as caught:
        convert(tmp_path, ["attempts"], format)
    assert "Export again" in caught.value.remedy
    assert "secret" not in str(caught.value)
    assert path.read_bytes() == data
    assert names(tmp_path) == {"attempts.jsonl", path.name}


@MODES
def test_bytes_that_are_no_utf8_cost_themselves_only(tmp_path: Path, format: Format):
    """DuckDB refuses a file for one such byte; the row is there, with U+FFFD in its place."""
    (tmp_path / "attempts.jsonl").write_bytes(b'{"id":1,"name":"ok"}\n{"id":2,"new":"a\xffb"}\n')
    convert(tmp_path, ["attempts"], format)
    first, second = cells(tmp_path, "attempts", format)
    assert (first["id"], first["name"]) == ("1", "ok")
    assert (second["id"], json.loads(second["_extra"] or "")) == ("2", {"new": "a\ufffdb"})


def test_a_line_of_twenty_megabytes(tmp_path: Path):
    """Records are as long as they are."""
    write(tmp_path, "exams", [{"id": 1, "description": "x" * 20_000_000}, {"id": 2}])
    convert(tmp_path, ["exams"], "parquet")
    assert [len(row["description"] or "") for row in cells(tmp_path, "exams", "parquet")] == [20_000_000, 0]


def test_what_a_killed_conversion_left_is_swept(tmp_path: Path):
    """Its half-written files go, and so does the log of hand-made changes to the database it replaces."""
    write(tmp_path, "exams", [{"id": 1}])
    (tmp_path / ".converting").mkdir()
    (tmp_path / ".converting" / "testpress.duckdb").write_bytes(b"half")
    (tmp_path / "testpress.duckdb.wal").write_bytes(b"torn")
    convert(tmp_path, ["exams"], "duckdb")
    assert names(tmp_path) == {"exams.jsonl", "testpress.duckdb"}
    assert len(cells(tmp_path, "exams", "duckdb")) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path):
    """The system's refusal is an error of ours."""
    write(tmp_path, "exams", [{"id": 1}])
    tmp_path.chmod(0o500)
    with pytest.raises(DatasetError, match="Permission denied"):
        convert(tmp_path, ["exams"], "csv")
    tmp_path.chmod(0o700)


@MODES
def test_a_table_that_is_not_finished(tmp_path: Path, format: Format):
    """Asking for a table that is not there says so."""
    with pytest.raises(DatasetError, match=r"attempts\.jsonl: is not there\. Export the table first"):
        convert(tmp_path, ["attempts"], format)


def test_nothing_to_convert(tmp_path: Path):
    """`jsonl` names the files that are there already, `none` nothing."""
    write(tmp_path, "exams", [{"id": 1}])
    assert convert(tmp_path, ["exams"], "jsonl") == (tmp_path / "exams.jsonl",)
    assert convert(tmp_path, ["exams"], "none") == ()


def test_without_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the extra every use says how to get it; JSON Lines need none."""
    write(tmp_path, "exams", [{"id": 1}])
    monkeypatch.setitem(sys.modules, "duckdb", None)
    remedy = r"needs DuckDB: pip install 'testpress-async\[duckdb\]'"
    for format in FORMATS:
        with pytest.raises(ConfigError, match=f"format={format}: {remedy}"):
            require_format(format)
        with pytest.raises(ConfigError, match=remedy):
            convert(tmp_path, ["exams"], format)
    with pytest.raises(ConfigError, match=remedy):
        sql(tmp_path, "SELECT 1")
    with pytest.raises(ConfigError, match=remedy):
        to_arrow(tmp_path, "exams")
    require_format("jsonl")
    assert convert(tmp_path, ["exams"], "jsonl")


def test_a_folder_with_a_question_mark(tmp_path: Path):
    """DuckDB would write its log elsewhere: it is refused, other formats and queries work."""
    folder = tmp_path / "what?"
    folder.mkdir()
    write(folder, "exams", [{"id": 1}])
    with pytest.raises(ConfigError, match="question mark"):
        convert(folder, ["exams"], "duckdb")
    convert(folder, ["exams"], "csv")
    assert sql(folder, "SELECT id FROM exams").fetchall() == [(1,)]


async def test_cancelling_stops_a_conversion(tmp_path: Path):
    """A cancelled conversion ends soon and leaves the old file and nothing else."""
    (tmp_path / "attempts.jsonl").write_bytes(
        b'{"id":1,"date":"2024-01-01T00:00:00Z","score":"1.00"}\n' * 300_000
    )
    (tmp_path / "attempts.parquet").write_bytes(b"old")
    work = asyncio.create_task(
        in_thread(lambda it: convert(tmp_path, ["attempts"], "parquet", interruption=it))
    )
    await until((tmp_path / ".converting" / "attempts.parquet").exists)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (tmp_path / "attempts.parquet").read_bytes() == b"old"
    assert names(tmp_path) == {"attempts.jsonl", "attempts.parquet"}


def test_stopping_before_it_begins(tmp_path: Path):
    """A conversion stopped beforehand writes nothing."""
    write(tmp_path, "exams", [{"id": 1}])
    interruption = Interruption()
    interruption.stop()
    with pytest.raises(asyncio.CancelledError):
        convert(tmp_path, ["exams"], "csv", interruption=interruption)
    assert [each.name for each in tmp_path.iterdir()] == ["exams.jsonl"]


# --- the database and queries ------------------------------------------------------------------------


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """A dataset with answers, in a folder whose name means something to DuckDB and to SQL."""
    folder = tmp_path / "it's [1] *"
    folder.mkdir()
    write(
        folder,
        "attempts",
        [{"id": 7, "user_id": 70, "date": "2024-01-01T05:30:00+05:30"}, {"id": 8, "user_id": 80}],
    )
    write(folder, "exam_questions", [{"id": 1, "question_html": "<p>?</p>", "marks": "2.00", "exam_id": 5}])
    write(
        folder,
        "user_answers",
        [
            {"attempt_id": 7, "id": 11, "exam_question_id": 1, "result": "Correct", "duration": "5"},
            {"attempt_id": 8, "id": 12, "exam_question_id": 9, "result": "Unanswered"},
        ],
    )
    return folder


JOINED = """SELECT id, user_id, exam_id, question_html, question_marks::VARCHAR, duration_s::INT
FROM answers_with_questions"""
ANSWERS = [(11, 70, 5, "<p>?</p>", "2.0000", 5), (12, 80, None, None, None, None)]


def test_the_database_has_tables_joins_and_comments(answered: Path):
    """Every finished table is in the file, whichever were named, with its joins and what columns mean."""
    (path,) = convert(answered, ["attempts"], "duckdb")
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute(JOINED).fetchall() == ANSWERS
        named = "SELECT table_name, comment FROM duckdb_tables() ORDER BY 1"
        tables = connection.execute(named).fetchall()
        (told,) = connection.execute(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'attempts' AND column_name = ?",
            ["time_taken_s"],
        ).fetchall()
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert [each[0] for each in tables] == ["attempts", "exam_questions", "user_answers"]
    assert tables[0][1] == "One sitting of an exam by a user, as in the list of attempts."
    assert told == ("seconds; the server's text is in raw_time_taken",)
    assert views == [("answers_with_questions",)]  # the other join lacks its tables


def test_queries_over_finished_tables(answered: Path):
    """`sql` knows every finished table and the joins, is lazy, and can be queried further."""
    assert sql(answered, JOINED + " ORDER BY id").fetchall() == ANSWERS
    assert sql(answered, "SELECT date FROM attempts LIMIT 1").fetchall() == [
        (datetime(2024, 1, 1, tzinfo=UTC),)
    ]
    few = sql(answered, "FROM attempts").filter("user_id > 70").project("id")
    assert few.fetchall() == [(8,)]
    with pytest.raises(duckdb.Error, match="no_such_table"):
        sql(answered, "SELECT * FROM no_such_table")
    with pytest.raises(duckdb.Error):
        sql(answered, "DELETE FROM attempts")
    assert finished_tables(answered) == ("attempts", "user_answers", "exam_questions")


def test_a_dataset_without_finished_tables(tmp_path: Path):
    """There is nothing to query before an export."""
    with pytest.raises(DatasetError, match="has no finished tables"):
        sql(tmp_path, "SELECT 1")
    with pytest.raises(DatasetError, match="is not there"):
        to_arrow(tmp_path, "exams")
    with pytest.raises(ConfigError, match="there is no table 'exam'"):
        to_arrow(tmp_path, "exam")


def test_a_table_as_arrow(answered: Path):
    """An Arrow table has the columns of the schema and their types."""
    pyarrow = pytest.importorskip("pyarrow")
    table = to_arrow(answered, "attempts")
    assert isinstance(table, pyarrow.Table)
    assert table.num_rows == 2
    assert table.column_names == [column.name for column in columns("attempts")]
    assert table.to_pydict()["id"] == [7, 8]
    assert table.to_pydict()["date"] == [datetime(2024, 1, 1, tzinfo=UTC), None]
    types = {field.name: str(field.type) for field in cast("Any", table).schema}
    assert types["date"] == "timestamp[us, tz=UTC]"
    assert types["score"] == "decimal128(18, 4)"


def test_arrow_without_pyarrow(answered: Path, monkeypatch: pytest.MonkeyPatch):
    """Without pyarrow the error says what to install."""
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs pyarrow"):
        to_arrow(answered, "attempts")


# --- columns and drift -------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_columns(table: str):
    """Every field of a record has a column; names differ even where case does not count."""
    fields = {field.encode_name for field in msgspec.structs.fields(RECORDS[table])}
    found = columns(table)
    assert fields <= known_fields(table)
    assert len({column.name.lower() for column in found}) == len(found)
    assert found[-1].name == "_extra"
    assert found[0].kind is Kind.WHOLE


def test_durations_of_columns_are_in_seconds():
    """Minutes, which live classes count, occur in nested records only."""
    meanings = [vars(base).values() for record in RECORDS.values() for base in record.__mro__]
    found = [meaning for each in meanings for meaning in each if isinstance(meaning, Duration)]
    assert found
    assert {vars(meaning)["_unit_s"] for meaning in found} == {1}


def test_columns_of_odd_fields():
    """Kinds follow from the record types: one example of each rule."""
    kinds = {(table, column.name): column.kind for table in TABLES for column in columns(table)}
    assert kinds["attempts", "score"] is Kind.EXACT
    assert kinds["attempts", "percentage"] is Kind.REAL
    assert kinds["attempts", "rank"] is Kind.WHOLE
    assert kinds["attempts", "phone"] is Kind.TEXT
    assert kinds["attempts", "state"] is Kind.TEXT
    assert kinds["users", "birth_date"] is Kind.DAY
    assert kinds["attempt_details", "sections"] is Kind.NESTED
    assert [column.name for column in columns("user_answers")][:2] == ["id", "attempt_id"]
    assert columns("attendance")[0].name == "video_conference_id"


def test_unknown_fields_are_told_once():
    """Each is told with the first record that has it and how many do."""
    rows = [
        b'{"id":1}',
        b'{"id":2,"new":1,"other":{"id":9}}',
        b'{"id":3,"new":null}',
        b"[]",
        b'{"id":"x","odd":1}',
    ]
    assert unknown_fields("attempts", rows) == (
        UnknownField(table="attempts", field="new", first_id=2, records=2),
        UnknownField(table="attempts", field="other", first_id=2, records=1),
        UnknownField(table="attempts", field="odd", first_id=None, records=1),
    )


def test_unknown_fields_of_rows_without_ids():
    """Attendance is told by its conference."""
    rows = [b'{"video_conference_id":4,"name":"A","device":"x"}']
    assert unknown_fields("attendance", rows) == (
        UnknownField(table="attendance", field="device", first_id=4, records=1),
    )


@given(st.lists(st.dictionaries(st.sampled_from(["id", "date", "a", "b"]), st.integers(1, 9)), max_size=8))
@settings(max_examples=50)
def test_unknown_fields_are_those_in_extra(rows: list[dict[str, int]]):
    """What is told is what the columns do not hold."""
    told = unknown_fields("attempts", [msgspec.json.encode(row) for row in rows])
    expected = {field: sum(field in row for row in rows) for field in ("a", "b")}
    assert {each.field: each.records for each in told} == {f: n for f, n in expected.items() if n}
