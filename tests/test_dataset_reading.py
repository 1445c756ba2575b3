"""Reading a dataset back: tables, Arrow, SQL, conversions and the last report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from obstore.store import MemoryStore

import testpress_async as tp
from testpress_async.sandbox import Fault
from tests.support.exporting import EXAMS, entries, export, opened


async def test_a_dataset_is_read_as_tables_arrow_and_sql(tmp_path: Path):
    """What was exported is there by name, typed, and joined to its questions."""
    async with opened() as (institute, client):
        await export(client, tmp_path, "user_answers")
        truth = institute.truth
        dataset = tp.Dataset(tmp_path)
        assert dataset.tables == ("attempts", "user_answers", "exam_questions")
        attempts = dataset.to_arrow("attempts")
        assert sorted(map(str, attempts.to_pydict()["id"])) == sorted(map(str, truth.ids("attempts")))
        query = "SELECT count(*) FROM user_answers JOIN attempts ON attempts.id = user_answers.attempt_id"
        assert dataset.sql(query).fetchall() == [(truth.export_counts()["user_answers"],)]
        typed = dataset.sql("SELECT count(question_type) FROM answers_with_questions").fetchall()
        assert typed[0][0] > 0


async def test_a_dataset_is_converted_without_the_server(tmp_path: Path):
    """`convert` makes files of all finished tables, or of some, from what is there."""
    async with opened() as (institute, client):
        await export(client, tmp_path, "user_answers")
        expected = set(institute.truth.ids("attempts"))
    dataset = tp.Dataset(tmp_path)
    assert dataset.convert("parquet") == tuple(tmp_path / f"{table}.parquet" for table in dataset.tables)
    assert dataset.convert("csv", tables=["attempts"]) == (tmp_path / "attempts.csv",)
    assert dataset.convert("duckdb") == (tmp_path / "testpress.duckdb",)
    found = duckdb.sql(f"SELECT id FROM '{tmp_path / 'attempts.parquet'}'").fetchall()
    assert {row[0] for row in found} == expected
    with pytest.raises(tp.DatasetError, match=r"exams\.jsonl: is not there"):
        dataset.convert("csv", tables=["exams"])


async def test_a_conversion_keeps_off_a_running_export(tmp_path: Path):
    """While an export writes, its tables are not converted: they are about to change."""
    async with opened() as (_, client):
        await export(client, tmp_path, "exams")
    dataset = tp.Dataset(tmp_path)
    with (
        tp.Dataset(tmp_path).writing(client.base_url),
        pytest.raises(tp.DatasetError, match="another export is writing here"),
    ):
        dataset.convert("csv")
    assert not (tmp_path / "exams.csv").exists()


def test_nothing_to_read(tmp_path: Path):
    """A place nobody exported into has no tables and no report; asking makes nothing."""
    dataset = tp.Dataset(tmp_path / "none")
    assert dataset.tables == ()
    assert dataset.report() is None
    for asked in (lambda: dataset.sql("SELECT 1"), lambda: dataset.convert("csv")):
        with pytest.raises(tp.DatasetError, match="has no finished tables"):
            asked()
    with pytest.raises(tp.DatasetError, match="is not there"):
        dataset.to_arrow("attempts")
    assert not (tmp_path / "none").exists()


async def test_the_last_report_is_kept(tmp_path: Path):
    """`report()` is what the last run that ended has returned, also while the next is interrupted."""
    async with opened() as (institute, client):
        first = await export(client, tmp_path, "user_answers", "exams")
        assert tp.Dataset(tmp_path).report() == first
        reads = await tp.plan(client, ["exams"])
        institute.script(Fault(path=EXAMS, status=400, body=b"{}", times=None))
        with pytest.raises(tp.BadRequest):
            await tp.harvest(client, reads, into=tp.Dataset(tmp_path))
        assert entries(tmp_path)[-1].kind == "started"
        assert tp.Dataset(tmp_path).report() == first
        institute.clear_faults()
        second = await tp.harvest(client, reads, into=tp.Dataset(tmp_path))
    assert second.resumed
    assert tp.Dataset(tmp_path).report() == second != first


def test_a_run_of_an_older_version_has_no_report(tmp_path: Path):
    """It ended without storing one."""
    with tp.Dataset(tmp_path).writing("https://institute.example") as store:
        store.finish()
    assert tp.Dataset(tmp_path).report() is None


async def test_an_object_store_has_tables_and_a_report(tmp_path: Path):
    """What needs a directory says so, before anything is read."""
    async with opened() as (institute, client):
        dataset = tp.Dataset(MemoryStore())
        reads = await tp.plan(client, ["exams"])
        institute.log.clear()
        with pytest.raises(tp.DatasetError, match="is no directory"):
            await tp.harvest(client, reads, into=dataset, formats="csv")
        assert not institute.log
        report = await tp.harvest(client, reads, into=dataset)
    assert dataset.tables == ("exams",)
    assert dataset.report() == report
    needs_directory: list[Callable[[], object]] = [
        lambda: dataset.to_arrow("exams"),
        lambda: dataset.sql("SELECT 1"),
        lambda: dataset.convert("csv"),
    ]
    for asked in needs_directory:
        with pytest.raises(tp.DatasetError, match="is no directory"):
            asked()
