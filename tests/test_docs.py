"""`docs/what-happens-when.md` tells the truth: its code runs, and what it shows is what is printed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import testpress_async as tp
from testpress_async.sandbox import KINDS, Sandbox
from tests.faults.test_files_rows import ROOT as IS_ROOT
from tests.faults.test_files_rows import mounted
from tests.support.clock import AutoClock
from tests.support.markdown import ROOT, Block, blocks_of, environment_of, is_shown, printed_by

README = (ROOT / "README.md").read_text()
PAGE_NAME = "docs/what-happens-when.md"
PAGE = (ROOT / PAGE_NAME).read_text()
KIND_ROW = re.compile(r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def sections() -> list[list[Block]]:
    """The blocks of each section that has some."""
    blocks = [block for block in blocks_of(PAGE) if block.language == "python"]
    return [list(group) for _, group in itertools.groupby(blocks, key=lambda block: block.section)]


SECTIONS = sections()


def require_shown(block: Block, printed: str) -> None:
    assert block.shown is not None
    assert is_shown(block.shown, printed), f"{block.section} prints:\n{printed}"


@contextlib.asynccontextmanager
async def institute_and_client(read_idle_s: float = 30.0) -> AsyncIterator[tuple[Sandbox, tp.Client]]:
    """60 attempts on 3 pages, and a client that waits without taking time."""
    clock = AutoClock()
    async with (
        Sandbox(attempts=60, per_page=20, exams=3, clock=clock) as institute,
        tp.Client(
            institute.url,
            username=institute.username,
            password=institute.password,
            clock=clock,
            timeouts=tp.Timeouts(read_idle_s=read_idle_s),
        ) as client,
    ):
        yield institute, client


@contextlib.contextmanager
def room_for(section: str, path: Path) -> Iterator[Path]:
    """A directory to work in; on a disk that is nearly full, if that is the theme."""
    if "disk" not in section:
        yield path
        return
    if not IS_ROOT:
        pytest.skip("only root may mount a small disk")
    with mounted(path / "small") as small:
        (small / "ballast").write_bytes(b"x" * ((1 << 20) - 20_000))
        yield small


async def whole_program(code: str) -> str:
    """What *code* prints as a process of its own."""
    async with Sandbox(attempts=60) as institute:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code],
            env=environment_of(institute),
            capture_output=True,
            text=True,
            check=True,
        )
    return done.stdout


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section[0].section)
async def test_the_code_of_a_section_prints_what_is_shown(section: list[Block], tmp_path: Path) -> None:
    """Every block runs against the sandbox it asks for, and prints the text below it."""
    with room_for(section[0].section, tmp_path) as room, contextlib.chdir(room):
        if section[0].is_program:
            for block in section:
                require_shown(block, await whole_program(block.code))
            return
        async with institute_and_client() as (institute, client):
            names: dict[str, object] = {"asyncio": asyncio, "tp": tp, "client": client}
            for block in section:
                institute.settings = replace(institute.settings, faults=dict(block.faults))
                require_shown(block, await printed_by(block.code, names, PAGE_NAME))


def test_every_block_of_code_is_run() -> None:
    """No block of Python escapes the tests for lack of a text below it."""
    assert PAGE.count("```python\n") == sum(map(len, SECTIONS)) > 10


def kinds_shown() -> dict[str, tuple[str, str]]:
    return {kind: (does, seen) for kind, does, seen in KIND_ROW.findall(PAGE)}


def test_every_kind_of_fault_is_on_the_page() -> None:
    """The table of kinds is that of the sandbox, in its words and order."""
    shown = kinds_shown()
    assert list(shown) == list(KINDS)
    assert {kind: does for kind, (does, _) in shown.items()} == {k: v.summary for k, v in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kind_of_fault_ends_as_the_page_says(kind: str) -> None:
    """If every request suffers it, a list ends with the class and words shown, or with all records."""
    idle_s = 0.05 if kind == "stall" else 30.0  # the only limit here that takes real time
    async with institute_and_client(idle_s) as (institute, client):
        institute.settings = replace(institute.settings, faults={kind: 1.0})
        try:
            seen = f"{len(await client.attempts.list().collect())} of 60 attempts"
        except tp.Error as error:
            seen = f"`{type(error).__name__}`: {str(error).replace(f'={idle_s:g} ', '=30 ')}"
    assert is_shown(kinds_shown()[kind][1].replace("\\|", "|"), seen), seen


def test_the_readme_leads_to_the_page() -> None:
    """Where it says in short what happens when."""
    assert f"]({PAGE_NAME})" in README
