"""The end of a run: formats, what is out of date, what is unknown, and interruptions."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

import testpress_async as tp
from testpress_async.harvest.interruption import Interruption, in_thread
from testpress_async.harvest.report import UnknownField
from testpress_async.harvest.tables import MOST_FIELDS
from testpress_async.sandbox import Fault
from tests.support.exporting import EXAMS, entries, export, opened, page, unknown_fields, until


def _made(path: Path) -> set[str]:
    """Names of files in *path* itself."""
    return {file.name for file in path.iterdir() if file.is_file() and file.name != ".lock"}


async def test_a_run_makes_the_formats_it_is_asked_for(tmp_path: Path):
    """Several at once; the report names the files in the dataset's directory."""
    async with opened() as (_, client):
        report = await export(client, tmp_path, "exams", "attempts", formats=["parquet", "duckdb"])
    made = {"exams.jsonl", "attempts.jsonl", "exams.parquet", "attempts.parquet", "testpress.duckdb"}
    assert _made(tmp_path) == set(report.files) == made
    assert tp.Dataset(tmp_path).sql("SELECT count(*) FROM attempts").fetchall() == [(60,)]


async def test_formats_of_an_earlier_run_do_not_stay_out_of_date(tmp_path: Path):
    """What is not asked for again goes, for the tables that are read; other tables' files still are right."""
    async with opened() as (_, client):
        await export(client, tmp_path, "exams", "attempts", formats=["csv", "duckdb"])
        report = await export(client, tmp_path, "exams")
        assert set(report.removed) == {"exams.csv", "testpress.duckdb"}
        assert _made(tmp_path) == {"exams.jsonl", "attempts.jsonl", "attempts.csv"}
        report = await export(client, tmp_path, "attempts", formats="none")
        assert set(report.removed) == {"attempts.jsonl", "attempts.csv"}
        assert report.files == ()
        assert all(table.changes is None for table in report.tables)
        assert tp.Dataset(tmp_path).tables == ("exams",)
        await export(client, tmp_path, "attempts")
        assert tp.Dataset(tmp_path).tables == ("exams", "attempts")


async def test_ids_that_are_gone_stay_told(tmp_path: Path):
    """The list of gone ids is no leftover of another format."""
    async with opened() as (institute, client):
        await export(client, tmp_path, "attempts")
        institute.delete_attempts([7])
        await export(client, tmp_path, "attempts")
        report = await export(client, tmp_path, "attempts")
        assert report.removed == ()
        assert msgspec.json.decode((tmp_path / "attempts.gone.jsonl").read_bytes())["id"] == 7
        report = await export(client, tmp_path, "attempts", formats="none")
    assert set(report.removed) == {"attempts.jsonl", "attempts.gone.jsonl"}


@pytest.mark.parametrize(
    "formats", ["xlsx", [], ["none", "csv"], ["csv", "xlsx"]], ids=lambda formats: str(formats)
)
async def test_unusable_formats_are_refused_before_anything_is_read(tmp_path: Path, formats: Any):
    """A name that is unknown, none with others, or nothing at all."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["exams"])
        institute.log.clear()
        with pytest.raises(tp.ConfigError, match=r"^formats: "):
            await tp.harvest(client, reads, into=tp.Dataset(tmp_path / "out"), formats=formats)
        assert not institute.log
    assert not (tmp_path / "out").exists()


async def test_a_conversion_that_fails_is_made_up_for_by_the_next_run(tmp_path: Path):
    """The run is not finished before its files are; run again, it reads nothing again and makes them."""
    async with opened() as (institute, client):
        reads = await tp.plan(client, ["exams"])
        await tp.harvest(client, reads, into=tp.Dataset(tmp_path))
        (tmp_path / "testpress.duckdb").mkdir()  # nothing can be put in its place
        with pytest.raises(tp.DatasetError, match=r"testpress\.duckdb"):
            await tp.harvest(client, reads, into=tp.Dataset(tmp_path), formats="duckdb")
        assert entries(tmp_path)[-1].kind == "stored"
        (tmp_path / "testpress.duckdb").rmdir()
        institute.log.clear()
        report = await tp.harvest(client, reads, into=tp.Dataset(tmp_path), formats="duckdb")
        assert not institute.log
    assert report.resumed
    assert set(report.files) == {"exams.jsonl", "testpress.duckdb"}
    (exams,) = report.tables
    assert exams.changes is not None
    assert exams.changes.unchanged == exams.records == 3
    assert not (tmp_path / ".converting").exists()


async def test_a_cancelled_conversion_leaves_nothing_half_written(tmp_path: Path):
    """The old file stays as it was, and when the run has ended, nothing works on behind its back."""
    async with opened(attempts=3_000, per_page=200) as (_, client):
        await export(client, tmp_path, "attempts", formats=["csv", "duckdb"])
        before = {name: (tmp_path / name).read_bytes() for name in ("attempts.csv", "testpress.duckdb")}
        work = asyncio.create_task(export(client, tmp_path, "attempts", formats=["csv", "duckdb"]))
        await until((tmp_path / ".converting").exists)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not (tmp_path / ".converting").exists()
        assert entries(tmp_path)[-1].kind != "finished"
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
        report = await export(client, tmp_path, "attempts", formats=["csv", "duckdb"])
    assert report.resumed
    assert entries(tmp_path)[-1].kind == "finished"


async def test_what_a_killed_conversion_left_goes_with_the_next_run(tmp_path: Path):
    """Half-written files hold personal data, whatever format comes next."""
    async with opened() as (_, client):
        await export(client, tmp_path, "exams")
        (tmp_path / ".converting").mkdir()
        (tmp_path / ".converting" / "attempts.csv").write_text("half")
        await export(client, tmp_path, "exams")
    assert not (tmp_path / ".converting").exists()


# --- threads -----------------------------------------------------------------------------------------


async def test_cancelling_waits_until_the_thread_has_ended():
    """What runs is told to stop, and is over when the cancellation is."""
    began, over = threading.Event(), threading.Event()

    def work(interruption: Interruption) -> None:
        stopped = threading.Event()
        with interruption.over(stopped.set):
            began.set()
            assert stopped.wait(20)
        over.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over.is_set()


async def test_a_loop_over_rows_ends_between_two_of_them():
    """Finishing a table of millions of rows does not hold up a Ctrl-C."""
    taken: list[int] = []

    def work(interruption: Interruption) -> None:
        for each in interruption.each(range(1_000)):
            taken.append(each)
            if each == 2:
                interruption.stop()

    with pytest.raises(asyncio.CancelledError):
        await in_thread(work)
    assert taken == [0, 1, 2]


async def test_a_failing_thread_fails_as_itself():
    """Results and errors pass unchanged."""
    assert await in_thread(lambda _: 5) == 5

    def work(_: Interruption) -> None:
        raise tp.DatasetError("here", "is full", "")

    with pytest.raises(tp.DatasetError, match="here: is full"):
        await in_thread(work)


# --- unknown fields ----------------------------------------------------------------------------------


async def test_unknown_fields_are_told_once_per_run(tmp_path: Path):
    """Table, field, first record and count over the whole finished table, not a time for each page."""
    exams = page(*(b'{"id":%d,"%s":1}' % (n, b"novel" if n > 3 else b"title") for n in range(1, 6)))
    async with opened() as (institute, client):
        institute.script(Fault(path=EXAMS, status=200, body=exams, times=None))
        report = await export(client, tmp_path, "exams")
    assert report.unknown_fields == (UnknownField(table="exams", field="novel", first_id=4, records=2),)
    kept = tp.Dataset(tmp_path).report()
    assert kept is not None
    assert kept.unknown_fields == report.unknown_fields


def test_a_flood_of_unknown_fields_stays_bounded():
    """A server that puts values where names belong does not fill memory, manifest or screen."""
    rows = [msgspec.json.encode({"id": n, f"key {n} {'x' * 1_000}": 1}) for n in range(3 * MOST_FIELDS)]
    found = unknown_fields("exams", rows)
    assert len(found) == MOST_FIELDS
    assert max(len(each.field) for each in found) <= 200


def test_what_cannot_be_looked_at_is_passed_over():
    """Odd bytes and depth cost no run."""
    rows = [b'{"\xff":1}', b"[" * 100_000, b"7", b'{"a":' + b"[" * 100_000, b'{"id":1,"b":2}']
    assert [each.field for each in unknown_fields("exams", rows)][-1:] == ["b"]
