"""Type checkers see all that is public: a program that uses every name passes pyright and mypy, both strict.

It claims types with `assert_type`; a package whose types a checker does not see fails those claims.
"""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import testpress_async as tp
from testpress_async.sandbox import Sandbox
from tests.support.markdown import ROOT, environment_of

PROGRAM = ROOT / "tests/typed_program.py"
PYRIGHT = '[tool.pyright]\nstrict = ["program.py"]\n'
# Extras that the program does not touch: reading them would take mypy five times as long.
MYPY = """
[mypy]
strict = true
[mypy-duckdb.*,hypothesis.*,IPython.*,numpy.*,obstore.*,opentelemetry.*,pandas.*,polars.*,pyarrow.*,pydantic.*,rich.*]
follow_imports = skip
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """The program where a user's would lie: beside nothing of ours, so that the installed package is read."""
    (tmp_path / "program.py").write_text(PROGRAM.read_text())
    (tmp_path / "pyproject.toml").write_text(PYRIGHT)
    (tmp_path / "mypy.ini").write_text(MYPY)
    return tmp_path


def complaints(folder: Path, *command: str) -> str:
    """What a checker says; nothing if it has no complaint."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_program_uses_every_public_name() -> None:
    """And no other name of the package."""
    used = {
        node.attr
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tp"
    }
    assert used == set(tp.__all__)


@pytest.mark.timeout(300)
def test_pyright_has_no_complaint(outside: Path) -> None:
    """In strict mode, and with the types the program claims."""
    assert complaints(outside, "pyright", "--pythonpath", sys.executable) == ""


@pytest.mark.timeout(300)
def test_mypy_has_no_complaint(outside: Path) -> None:
    """In strict mode, and with the types the program claims."""
    assert complaints(outside, "mypy", "--config-file", "mypy.ini", "--no-incremental") == ""


async def test_the_program_runs(outside: Path) -> None:
    """What passes the checkers also works."""
    async with Sandbox(attempts=40, content_attempts=20, exams=2) as institute:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "program.py"],
            cwd=outside,
            env=environment_of(institute),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["True", "True True", "Not found."]
