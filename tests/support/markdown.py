"""The code on a page of Markdown, and how it is run.

A page is run from top to bottom, in an empty directory of its own, beside a sandbox institute (60 attempts at
3 exams, on 3 pages) whose address and account stand in TESTPRESS_BASE_URL, _USERNAME and _PASSWORD:

    ```python                   a part of a coroutine, with top-level `await`. `asyncio`, `tp` and an open
                                `client` are there, and whatever earlier blocks of the page have named.
    ```python                   with `asyncio.run(` or `if __name__ == "__main__":` in it: a whole program,
                                run as a process of its own.
    ```python title="x.py"      a file of that name in the page's directory. A later block must name it; files
                                called test_….py are run by pytest at once.
    ```sh                       `bash -e`, with `testpress` and `python` of this environment first in PATH.
                                `testpress sandbox …` as the only command stays in the background, and the
                                page goes on with that institute: programs and commands have its address.
    ```text                     right below a block: what it prints (of ```sh standard error, too).
                                … stands for anything within a line; a line that is only … for any lines.
    `testpress sandbox --fault KIND:SHARE …`
                                alone on a line: the institute does that from here on; without options it is
                                well again.
    <!-- not run: REASON -->    right above a block: it is not run, and REASON says why.

A page that needs more says `<!-- tested by tests/test_x.py -->`; that test then runs its code instead.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import os
import re
import shlex
import sys
import textwrap
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import testpress_async as tp
from testpress_async.sandbox import Sandbox

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 120.0  # for one program or command: many start at once where tests run side by side
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "-o", "asyncio_mode=auto")

_PARTS = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<info>[^`\n]*)\n(?P<code>.*?)^(?P=indent)```$"
    r"|^ *<!-- not run: (?P<reason>[^\n]+) -->$"
    r"|^`testpress sandbox(?P<options>[^`\n]*)`$"
    r"|^\#+\ (?P<title>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')
_TESTED_BY = re.compile(r"^<!-- tested by (\S+) -->$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        file: Name of the file it is the content of; "" if of none.
        shown: The text below it, which it is to print; None if there is none.
        not_run: Why it is not run; "" if it is.
        faults: What the sandbox does meanwhile.
    """

    language: str
    code: str
    line: int
    section: str = ""
    file: str = ""
    shown: str | None = None
    not_run: str = ""
    faults: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def is_program(self) -> bool:
        return "asyncio.run(" in self.code or 'if __name__ == "__main__":' in self.code


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of *page*; the text that shows what one prints is its `shown`."""
    found: list[Block] = []
    section, not_run, end = "", "", 0
    faults = dict[str, float]()
    for part in _PARTS.finditer(page):
        if part["title"]:
            section, faults = part["title"], {}
        elif part["options"] is not None:
            asked = re.findall(r"--fault (\S+):(\S+)", part["options"])
            faults = {kind: float(share) for kind, share in asked}
        elif part["reason"]:
            not_run = part["reason"]
        elif part["language"] == "text" and found and not page[end : part.start()].strip():
            found[-1] = replace(found[-1], shown=textwrap.dedent(part["code"]))
        else:
            title = _TITLE.search(part["info"])
            block = Block(
                language=part["language"],
                code=textwrap.dedent(part["code"]),
                line=page.count("\n", 0, part.start()) + 1,
                section=section,
                file=title[1] if title else "",
                not_run=not_run,
                faults=faults,
            )
            found.append(block)
            not_run, end = "", part.end()
    return found


def own_test_of(page: str) -> str | None:
    """The test that runs the code of *page* in place of this module."""
    named = _TESTED_BY.search(page)
    return named[1] if named else None


def is_shown(shown: str, real: str) -> bool:
    """Whether *real* is what a page shows; … stands for anything within a line, alone for any lines."""
    lines = [".*".join(map(re.escape, line.split("…"))) + "\n" for line in shown.splitlines()]
    pattern = "".join("(?:.*\n)*" if line == ".*\n" else line for line in lines)
    return re.fullmatch(pattern, real if real.endswith("\n") or not real else f"{real}\n") is not None


async def printed_by(code: str, names: dict[str, object], source: str) -> str:
    """What *code*, a part of a coroutine, prints."""
    compiled = compile(code, source, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        running = eval(compiled, names)
        if running is not None:
            await running
    return out.getvalue()


def environment_of(institute: Sandbox) -> dict[str, str]:
    """What programs and commands find: the institute, this Python first, and nothing of who runs the test."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {"NO_COLOR": "1", "COLUMNS": "100", "TERM": "dumb", "PATH": here}
    account = {
        "TESTPRESS_BASE_URL": institute.url,
        "TESTPRESS_USERNAME": institute.username,
        "TESTPRESS_PASSWORD": institute.password,
    }
    return {**os.environ, **plain, **account}


@contextlib.asynccontextmanager
async def opened(room: Path, source: str) -> AsyncIterator[PageRun]:
    """Everything the blocks of one page need, in the directory *room*."""
    async with (
        Sandbox(attempts=60, per_page=20, exams=3) as institute,
        tp.Client(institute.url, username=institute.username, password=institute.password) as client,
    ):
        run = PageRun(room, source, institute, client)
        try:
            with contextlib.chdir(room):
                yield run
        finally:
            await run.end()


class PageRun:
    """Runs the blocks of one page, in their order. `env`: what programs and commands find."""

    def __init__(self, room: Path, source: str, institute: Sandbox, client: tp.Client) -> None:
        self._room, self._source, self.institute = room, source, institute
        self._names: dict[str, object] = {"asyncio": asyncio, "tp": tp, "client": client}
        home = {"HOME": str(room), "XDG_CONFIG_HOME": str(room / ".config")}
        self.env = {**environment_of(institute), **home}
        self._background: list[Process] = []

    async def run(self, block: Block) -> None:
        """Run *block*, which must not fail, and must print what is shown."""
        self.institute.settings = replace(self.institute.settings, faults=dict(block.faults))
        where = f"{self._source}:{block.line}"
        printed = await self._printed(block, where)
        if block.shown is not None and printed is not None:
            assert is_shown(block.shown, printed), f"{where} prints:\n{printed}"

    async def _printed(self, block: Block, where: str) -> str | None:
        if block.file:
            path = self._room / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
            is_test = path.name.startswith("test_")
            return await self._output(where, sys.executable, *PYTEST, block.file) if is_test else None
        if block.language == "python" and block.is_program:
            return await self._output(where, sys.executable, "-c", block.code)
        if block.language == "python":
            return await printed_by(block.code, self._names, where)
        if re.fullmatch(r"testpress sandbox[^\n|;&]*\n", block.code):
            return await self._start_sandbox(block.code)
        return await self._output(where, "bash", "-euo", "pipefail", "-c", block.code, errors=STDOUT)

    async def _output(self, where: str, *command: str, errors: int = PIPE) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self._room, env=self.env, stdin=DEVNULL, stdout=PIPE, stderr=errors
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        finally:
            await _ended(process)
        said = f"{out.decode()}{(err or b'').decode()}"
        assert process.returncode == 0, f"{where} ends with {process.returncode}:\n{said}"
        return out.decode()

    async def _start_sandbox(self, command: str) -> str:
        """Start an institute on a free port, and go on with its account."""
        process = await asyncio.create_subprocess_exec(
            "testpress", *command.split()[1:], "--port", "0",
            cwd=self._room, env=self.env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
        )  # fmt: skip
        self._background.append(process)
        assert process.stderr is not None
        said = ""
        async with asyncio.timeout(LIMIT_S):
            while "TESTPRESS_BASE_URL=" not in said:
                line = await process.stderr.readline()
                assert line, f"{command} ended:\n{said}"
                said += line.decode()
        pasted = shlex.split(said[said.index("TESTPRESS_") :])
        self.env.update(each.split("=", 1) for each in pasted if each.startswith("TESTPRESS_"))
        return said

    async def end(self) -> None:
        """End what is in the background."""
        for process in self._background:
            await _ended(process)


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
