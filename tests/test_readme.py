"""The README's code runs as it stands, against the sandbox."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

import testpress_async as tp
from examples import web_app
from testpress_async.sandbox import Fault, Sandbox, Settings

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
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
