"""`CONTRIBUTING.md` tells the truth: its worked example works, its map is that of the house."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.markdown import ROOT, blocks_of
from tests.test_imports import LAYERS

pytestmark = pytest.mark.timeout(300)
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
STEPS = [block for block in blocks_of(PAGE) if block.file]


def applied(text: str, change: str) -> str:
    """*text* with a change that is shown as kept and added lines; the kept ones must be there, once."""
    lines = change.splitlines(keepends=True)
    assert {line[0] for line in lines} <= {" ", "+", "\n"}
    kept = "".join(line[1:] for line in lines if line[0] == " ")
    assert text.count(kept) == 1, kept
    return text.replace(kept, "".join(line[1:] or "\n" for line in lines))


@pytest.fixture(scope="module")
def changed() -> Iterator[Path]:
    """A copy of the source to which every step has been applied."""
    with tempfile.TemporaryDirectory() as room:
        copy = Path(room)
        for part in ("testpress_async", "tests/support"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py"):
            shutil.copy(ROOT / file, copy / file)
        for step in STEPS:
            file = copy / step.file
            file.write_text(applied(file.read_text(), step.code) if step.language == "diff" else step.code)
        yield copy


def test_the_worked_example_passes_its_test(changed: Path) -> None:
    """Model, resource, route and test, as shown, work together."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/test_batches.py"],
        cwd=changed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "..." in done.stdout


def test_the_worked_example_is_in_our_style(changed: Path) -> None:
    """Nothing to lint, nothing to format."""
    files = sorted({step.file for step in STEPS})
    for check in (["check", "-q"], ["format", "-q", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *files],
            cwd=changed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_every_layer_is_on_the_map() -> None:
    """And every place on the map is there."""
    rows = re.findall(r"^\| (`[\w./]+`(?:, `[\w./]+`)*) \|", PAGE, re.MULTILINE)
    shown = re.findall(r"`([\w./]+)`", " ".join(rows))
    assert all((ROOT / "testpress_async" / name).exists() for name in shown)
    assert {name.rstrip("/").removesuffix(".py") for name in shown} >= set(LAYERS)
