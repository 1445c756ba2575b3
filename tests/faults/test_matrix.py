"""MATRIX.md and the tests tell the same story."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = (HERE / "MATRIX.md").read_text()
ROWS = range(1, 116)
ID = re.compile(r"`(tests/[^`]+)`")
REASON = re.compile(r"\bnone yet: \S+ \S+|\bnone: \S+ \S+")

Functions = ast.FunctionDef | ast.AsyncFunctionDef


def marked_in(path: Path) -> Iterator[tuple[str, set[int]]]:
    """(test id, rows it is marked with) of every test in a file, read but not imported.

    The file itself comes first, with the marks that stand outside its tests (`pytestmark`).
    """
    name = path.relative_to(ROOT).as_posix()
    body = ast.parse(path.read_text()).body
    found = list(_functions(body, name))
    inside = {id(call) for _, function in found for call in _marks(function)}
    outside = (call for node in body for call in _marks(node) if id(call) not in inside)
    yield name, {row for call in outside for row in _rows(call)}
    for test_id, function in found:
        yield test_id, {row for call in _marks(function) for row in _rows(call)}


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Functions]]:
    for node in body:
        if isinstance(node, Functions) and node.name.startswith("test"):
            yield f"{prefix}::{node.name}", node
        elif isinstance(node, ast.ClassDef) and node.name.endswith("Tests"):
            yield from _functions(node.body, f"{prefix}::{node.name}")


def _marks(node: ast.AST) -> Iterator[ast.Call]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.row":
            yield call


def _rows(call: ast.Call) -> Iterator[int]:
    for argument in call.args:
        yield ast.literal_eval(argument)


def collected() -> dict[str, set[int]]:
    return {
        test_id: rows
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for test_id, rows in marked_in(path)
    }


TESTS = collected()


def problems(page: str, tests: dict[str, set[int]]) -> list[str]:
    """What is wrong with *page*, one sentence each; none if it and *tests* agree."""
    cells: dict[int, str] = {}
    found: list[str] = []
    for line in page.splitlines():
        if not re.match(r"\| *\d", line):
            continue
        columns = [column.strip() for column in line.strip("|").split(" | ")]
        if len(columns) != 4 or not all(columns):
            found.append(f"{line[:40]}…: a row has four cells")
            continue
        row = int(columns[0])
        if row in cells:
            found.append(f"row {row} is there twice")
        cells[row] = columns[3]
    found += [f"row {row} is missing" for row in ROWS if row not in cells]
    found += [f"row {row} is not of this matrix" for row in cells if row not in ROWS]
    for row, cell in cells.items():
        named = ID.findall(cell)
        found += [
            f"row {row} names {test_id}, which is not there" for test_id in named if test_id not in tests
        ]
        found += [f"row {row} names {test_id} twice" for test_id in set(named) if named.count(test_id) > 1]
        if not named and not REASON.search(cell):
            found.append(f"row {row} has neither a test nor a reason (“none: why”)")
        if named and REASON.search(cell):
            found.append(f"row {row} has tests and a reason for having none")
    for test_id, rows in tests.items():
        for row in rows:
            if test_id not in ID.findall(cells.get(row, "")):
                found.append(f"row {row} does not name `{test_id}`, which is marked with it")
    return found


def test_every_row_names_its_tests() -> None:
    """Each of the 115 rows is there once, names every test marked with it and no test that is not there."""
    assert problems(PAGE, TESTS) == []


def _line(row: int) -> str:
    return next(line for line in PAGE.splitlines(keepends=True) if line.startswith(f"| {row} |"))


def _without_tests(page: str) -> str:
    return page.replace(_line(7), "| 7 | one family dead | the other is used | to do |\n")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda page: page.replace(_line(7), ""), "row 7 is missing"),
        (lambda page: page + _line(7), "row 7 is there twice"),
        (lambda page: page + _line(7).replace("| 7 |", "| 116 |"), "row 116 is not of this matrix"),
        (
            lambda page: page.replace("::test_one_dead_address", "::test_no_dead_address"),
            "which is not there",
        ),
        (_without_tests, "row 7 has neither a test nor a reason"),
        (_without_tests, "row 7 does not name `tests/faults/test_connect.py::test_one_dead_"),
        (
            lambda page: page.replace("| `tests/faults/test_loop_lag.py` |", "| none: too slow |"),
            "row 100 does",
        ),
        (
            lambda page: page.replace(_line(7), "| 7 | one family dead | the other |\n"),
            "a row has four cells",
        ),
    ],
)
def test_a_page_that_lies_is_noticed(broken: Callable[[str], str], told: str) -> None:
    """Each way in which the page can go wrong is told."""
    page = broken(PAGE)
    assert page != PAGE
    assert any(told in problem for problem in problems(page, TESTS))


def test_marks_are_read_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks count on functions, in parameters, on classes of tests and for whole files."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "test_it.py"
    path.write_text(
        "pytestmark = [pytest.mark.row(1), pytest.mark.slow]\n"
        "@pytest.mark.row(2, 3)\nasync def test_a(): ...\n"
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.row(4))])\ndef test_b(x): ...\n"
        "def helper(): ...\n"
        "class SomeTests:\n    @pytest.mark.row(5)\n    def test_c(self): ...\n"
    )
    assert dict(marked_in(path)) == {
        "test_it.py": {1},
        "test_it.py::test_a": {2, 3},
        "test_it.py::test_b": {4},
        "test_it.py::SomeTests::test_c": {5},
    }
