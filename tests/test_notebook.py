"""`examples/notebook.ipynb` runs from top to bottom, as in Jupyter, and is committed without its outputs."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).parent.parent / "examples/notebook.ipynb"
PNG = b"\x89PNG\r\n\x1a\n"
PERSONAL = ("email", "phone", "username", "@")


def read() -> Any:
    return nbformat.read(PATH, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_holds_no_results() -> None:
    """No outputs, no counts, nothing of the machine it was written on."""
    notebook = read()
    nbformat.validate(notebook)
    assert code_cells(notebook)
    for cell in code_cells(notebook):
        assert (cell.outputs, cell.execution_count, cell.metadata) == ([], None, {}), cell.id
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.fixture
async def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook after a run in a kernel of its own; a cell that fails raises with its traceback."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read()
    place = {"metadata": {"path": str(tmp_path)}}
    await NotebookClient(notebook, timeout=120, resources=place).async_execute()
    assert names(tmp_path) <= {"ipython"}, "it leaves files behind"
    return notebook


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.timeout(180)  # a kernel of its own imports polars, DuckDB and matplotlib
async def test_the_notebook_runs_and_ends_in_a_plot(executed: Any) -> None:
    """Every cell succeeds without a warning; the last pictures are the plots; no display tells a person."""
    cells = code_cells(executed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output.text for output in outputs if "Warning" in output.get("text", "")]
    shown = [output.data for output in outputs if "data" in output]
    for data in shown:
        assert not [word for word in PERSONAL if word in data.get("text/html", "") + data["text/plain"]]
    assert any("<b>Page 1</b>" in data.get("text/html", "") for data in shown)
    assert any("<b>Report</b>" in data.get("text/html", "") for data in shown)
    picture = base64.b64decode(shown[-1]["image/png"])
    assert picture.startswith(PNG)
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 600 < height
