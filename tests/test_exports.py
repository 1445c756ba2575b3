"""The names that people import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import testpress_async as tp
from testpress_async import errors


def imported_names() -> set[str]:
    """Public names that the package's own file imports."""
    tree = ast.parse(Path(tp.__file__).read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname or alias.name for node in nodes for alias in node.names}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", tp.__all__)
def test_every_exported_name_exists(name: str) -> None:
    """`from testpress_async import *` works."""
    assert hasattr(tp, name)


def test_every_public_import_is_exported() -> None:
    """Nothing is public by accident, nothing is forgotten."""
    assert imported_names() - {"UnsetType"} == {n for n in tp.__all__ if not n.startswith("__")} - {
        "UnsetType"
    }


def test_exports_are_listed_once() -> None:
    """No name stands twice in the list."""
    assert len(set(tp.__all__)) == len(tp.__all__)


def test_every_error_is_exported() -> None:
    """Whoever can meet an error can name it."""
    assert set(errors.__all__) <= set(tp.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_one_root(name: str) -> None:
    """`except tp.Error` catches all of them."""
    assert issubclass(getattr(tp, name), tp.Error)
