"""The names that people import."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import testpress_async as tp
from testpress_async import errors


def imported_names() -> dict[str, str]:
    """Public names that the package's own file shows to type checkers, and the modules they are from."""
    tree = ast.parse(Path(tp.__file__).read_text())
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    shown = [node for node in modules if (node.module or "").startswith(("testpress_async", "msgspec"))]
    names = {alias.asname or alias.name: node.module or "" for node in shown for alias in node.names}
    return {name: module for name, module in names.items() if not name.startswith("_")}


@pytest.mark.parametrize("name", tp.__all__)
def test_every_exported_name_exists(name: str) -> None:
    """`from testpress_async import *` works."""
    assert hasattr(tp, name)


def test_every_public_import_is_exported() -> None:
    """Nothing is public by accident, nothing is forgotten."""
    assert set(imported_names()) - {"UnsetType"} == {n for n in tp.__all__ if not n.startswith("__")} - {
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


def test_names_are_loaded_from_where_type_checkers_see_them() -> None:
    """Two lists of the same: what is loaded when it is used, and what type checkers read."""
    assert vars(tp)["_HOMES"] == imported_names()
    for name, module in imported_names().items():
        assert getattr(tp, name) is getattr(import_module(module), name)


def test_harvest_is_the_function_whatever_was_imported() -> None:
    """It has the name of a subpackage, which the import system would put in its place."""
    for before in ("", "import testpress_async.harvest.plan; ", "from testpress_async import plan; "):
        code = before + "import testpress_async as tp; assert tp.harvest.__module__.endswith('harvest.run')"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_offered_and_no_other() -> None:
    """To `dir`, to an interactive shell, and to `import *`."""
    assert set(tp.__all__) <= set(dir(tp))
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        getattr(tp, "Klient")  # noqa: B009
    everything: dict[str, object] = {}
    exec("from testpress_async import *", everything)
    assert set(tp.__all__) <= set(everything)
