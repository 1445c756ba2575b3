"""`docs/testing.md`: its tests pass as they stand, its command and programs run."""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path

import pytest

from testpress_async.cli.app import run
from tests.support import whole as _  # noqa: F401
from tests.support.exporting import served
from tests.support.markdown import ROOT, blocks_of

pytest_plugins = "pytester"

BLOCKS = blocks_of((ROOT / "docs" / "testing.md").read_text())
FILES = {block.file: block.code for block in BLOCKS if block.language == "python"}
COMMANDS = [block.code for block in BLOCKS if block.language == "sh"]


@pytest.fixture
def room(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with every file of the page, and an institute's account in the environment of programs."""
    monkeypatch.syspath_prepend(str(pytester.path))
    for name, code in FILES.items():
        (pytester.path / name).write_text(code)
    return pytester.path


def test_every_block_is_a_file_or_a_command() -> None:
    """None escapes: there are no others, and no two files of one name."""
    assert [*FILES] == [block.file for block in BLOCKS if block.language == "python"]
    assert len(FILES) + len(COMMANDS) == len(BLOCKS) > 10


def test_all_of_the_page_runs(
    room: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The recording command, the programs, and then all tests in one run, in which warnings are errors."""
    with served(attempts=600, exams=3) as institute:
        monkeypatch.setenv("TESTPRESS_BASE_URL", institute.url)
        monkeypatch.setenv("TESTPRESS_TOKEN", institute.token())
        monkeypatch.delenv("TESTPRESS_USERNAME", raising=False)
        for command in COMMANDS:
            assert run(shlex.split(command)[1:]) == 0
        runpy.run_path(str(room / "record_best.py"), run_name="__main__")
    capfd.readouterr()
    runpy.run_path(str(room / "try_it.py"), run_name="__main__")
    assert len(capfd.readouterr().out.split()) == 3
    options = ["-p", "pytest_testpress", "-p", "no:cacheprovider", "-W", "error", "-o", "asyncio_mode=auto"]
    result = pytester.runpytest_inprocess(*options, "-o", "asyncio_default_fixture_loop_scope=function")
    tests = sum(code.count("\nasync def test_") + code.count("\ndef test_") for code in FILES.values())
    result.assert_outcomes(passed=tests)
    assert tests > 12
