"""The README's code runs as it stands, against the sandbox."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from aiohttp.test_utils import TestClient, TestServer

import testpress_async as tp
from examples import web_app
from testpress_async.sandbox import Fault, Sandbox, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FRAGMENTS = [block for block in BLOCKS[1:] if not block.startswith("async def")]


def environment(institute: Sandbox) -> dict[str, str]:
    return {
        "TESTPRESS_BASE_URL": institute.url,
        "TESTPRESS_USERNAME": institute.username,
        "TESTPRESS_PASSWORD": institute.password,
    }


async def test_quick_start_prints_attempts() -> None:
    """The first block is a whole program that prints the attempts of exam 5."""
    async with Sandbox(Settings(attempts=60)) as institute:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", BLOCKS[0]],
            env={**os.environ, **environment(institute)},
            capture_output=True,
            text=True,
            check=False,
        )
        expected = institute.truth.count("attempts", exams=5)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == expected > 0


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: block.split("\n")[0][:40])
async def test_fragments_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other block runs with an open client."""
    monkeypatch.chdir(tmp_path)
    async with (
        Sandbox(Settings(attempts=60)) as institute,
        tp.Client(institute.url, username=institute.username, password=institute.password) as client,
    ):
        code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, {"tp": tp, "client": client})
        if running is not None:
            await running


async def test_the_per_exam_harvest_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block from exams to attempts to answers makes a dataset an exam; together they are all."""
    (block,) = [block for block in BLOCKS if "exam-{exam.id}" in block]
    monkeypatch.chdir(tmp_path)
    async with (
        Sandbox(Settings(attempts=60, exams=3)) as institute,
        tp.Client(institute.url, username=institute.username, password=institute.password) as client,
    ):
        await eval(
            compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT),
            {"tp": tp, "client": client},
        )
        counts = institute.truth.export_counts()
    reports = [tp.Dataset(folder).report() for folder in (tmp_path / "out").iterdir()]
    assert len(reports) == 3
    found = Counter[str]()
    for report in reports:
        assert report is not None
        assert report.unproven == ()
        found.update({table.table: table.changes.records for table in report.tables if table.changes})
    assert (found["attempts"], found["user_answers"]) == (60, counts["user_answers"])


def test_a_new_users_database_survives_a_kill(tmp_path: Path) -> None:
    """The export shown, killed half-way and run again, ends with a database that the query shown works on."""
    (shown,) = re.findall(r"```sh\ntestpress (export --sandbox .*)\n```", README)
    (query,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-m", "testpress_async", *shown.split()]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as first:
        stored = tmp_path / "practice" / "manifest" / "00000003.json"
        while first.poll() is None and not stored.exists():
            time.sleep(0.01)
        first.kill()
    assert stored.exists()
    assert not (tmp_path / "practice" / "testpress.duckdb").exists()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "(resumed)" in again.stderr
    with duckdb.connect(str(tmp_path / "practice" / "testpress.duckdb"), read_only=True) as database:
        rows = database.execute(query).fetchall()
        joined = database.execute("SELECT count(question_type) FROM answers_with_questions").fetchone()
    assert len(rows) > 1
    assert joined is not None
    assert joined[0] == sum(row[1] for row in rows) > 10_000
    assert all(0 < row[2] < row[1] for row in rows)


def test_the_web_handler_shown_is_the_one_in_the_examples() -> None:
    """What the README shows of the web app is its source."""
    handler = next(block for block in BLOCKS if block.startswith("async def exam_attempts"))
    assert handler in (ROOT / "examples/web_app.py").read_text()


async def test_web_app_answers_and_maps_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example app gives attempts, 503 with Retry-After on a 429, and 502 when the institute fails."""
    async with Sandbox(Settings(attempts=60)) as institute:
        for name, value in environment(institute).items():
            monkeypatch.setenv(name, value)
        async with TestClient(TestServer(web_app.make_app())) as browser:
            good = await browser.get("/exams/5/attempts")
            assert (await good.json())["total"] == institute.truth.count("attempts", exams=5)
            institute.script(Fault(path="/api/v2.5/admin/attempts/", status=403))
            assert (await browser.get("/exams/5/attempts")).status == 502
            institute.script(
                Fault(path="/api/v2.5/admin/attempts/", status=429, headers={"Retry-After": "30"})
            )
            limited = await browser.get("/exams/5/attempts")
            assert limited.status == 503
            assert 25 <= int(limited.headers["Retry-After"]) <= 30
