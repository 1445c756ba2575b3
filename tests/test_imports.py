"""Imports run downward only, and the package stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import testpress_async

PACKAGE = "testpress_async"
ROOT = Path(testpress_async.__file__).parent
LAYERS = ("errors", "models", "http", "listing", "resources", "client", "harvest", "cli")
"""Bottom to top. A file may import its own layer and those before it."""
BESIDE = {"otel": "harvest"}
"""Modules that nothing of ours imports, and the highest layer each may import."""
FREE = frozenset({"_version"})
MAY_USE_SANDBOX = frozenset({"cli", "testing", "sandbox"})
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def layer_of_file(name: str) -> str:
    """Directory or module directly below the package; `__main__` is the command line's."""
    first = name.split("/")[0].removesuffix(".py")
    return "cli" if first == "__main__" else first


def imported(name: str, source: str) -> Iterator[str]:
    """Full names of the modules of ours that a file imports, wherever in it the import stands."""
    package = [PACKAGE, *name.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.split(".")[0] == PACKAGE:
                yield module if module != PACKAGE else f"{PACKAGE}.{node.names[0].name}"


def allowed(layer: str) -> frozenset[str]:
    """Layers that a file of *layer* may import."""
    if layer == "sandbox":
        return frozenset({"sandbox", "errors", "models"}) | FREE
    top = BESIDE.get(layer, layer)
    below = LAYERS[: LAYERS.index(top) + 1] if top in LAYERS else LAYERS
    return frozenset(below) | FREE | ({"sandbox"} if layer in MAY_USE_SANDBOX else set())


def wrong_imports(name: str, source: str) -> list[str]:
    """What a file imports and must not."""
    may = allowed(layer_of_file(name))
    return [
        module
        for module in imported(name, source)
        if module == PACKAGE or module.removeprefix(f"{PACKAGE}.").split(".")[0] not in may
    ]


def test_every_layer_exists() -> None:
    """The rule is about files that are there: a renamed layer must not slip through it."""
    assert set(LAYERS) <= {layer_of_file(name) for name in FILES}
    others = {*BESIDE, *FREE, "__init__", "sandbox", "testing"}
    assert {layer_of_file(name) for name in FILES} <= {*LAYERS, *others}


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__.py"])
def test_imports_run_downward_only(name: str) -> None:
    """errors → models → http → listing → resources → client → harvest → cli; the sandbox stands beside."""
    assert wrong_imports(name, (ROOT / name).read_text()) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("models/a.py", "from testpress_async.http.clock import Clock"),
        ("models/a.py", "from ..http import clock"),
        ("models/a.py", "def f():\n    import testpress_async.client"),
        ("http/a.py", "from testpress_async import Client"),
        ("http/a.py", "import testpress_async"),
        ("harvest/a.py", "from testpress_async.sandbox import Sandbox"),
        ("sandbox/a.py", "from testpress_async.http.clock import Clock"),
        ("client.py", "from testpress_async.harvest.run import harvest"),
        ("client.py", "from testpress_async.otel import Telemetry"),
        ("otel.py", "from testpress_async.cli import app"),
    ],
)
def test_the_rule_sees_a_wrong_import(name: str, source: str) -> None:
    """Absolute or relative, at the top or inside a function."""
    assert wrong_imports(name, source)


def test_importing_the_package_loads_no_extra() -> None:
    """Who only streams pays neither for the command line nor for the sandbox."""
    code = f"import sys, json; from {PACKAGE} import *; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert f"{PACKAGE}.client" in loaded
    unwanted = {"rich", "cyclopts", "duckdb", "uvloop", "zstandard", "hypothesis", "pytest"}
    unwanted |= {"pyarrow", "polars", "pandas", "numpy", "opentelemetry"}
    assert not loaded & unwanted
    ours = {name.split(".")[1] for name in loaded if name.startswith(f"{PACKAGE}.")}
    assert not ours & {"sandbox", "cli", "testing", "otel"}


def test_importing_the_package_loads_only_what_is_used() -> None:
    """A name is loaded when it is first used: who catches an error needs no HTTP, who streams no harvest."""
    loads = f"import sys, {PACKAGE} as tp; %s; print(*sorted(sys.modules))"

    def loaded(use: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", loads % use], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert not {"aiohttp", "anyio", "tenacity"} & loaded("tp.Error")
    assert not {f"{PACKAGE}.harvest", f"{PACKAGE}.client"} & loaded("tp.Attempt")
    assert f"{PACKAGE}.harvest" not in loaded("tp.Client")


def test_the_overview_of_the_command_line_loads_no_command() -> None:
    """Nor what they need: it is what people wait for most often."""
    code = f"import sys; from {PACKAGE}.cli.app import run; run(['--help']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"aiohttp", f"{PACKAGE}.client", f"{PACKAGE}.cli.export"} & set(done.stdout.split())


def test_the_overview_says_of_commands_what_they_say_themselves() -> None:
    """Its words stand beside, as the commands are not loaded for it."""
    from testpress_async.cli.app import app
    from testpress_async.cli.teaching import SUMMARIES

    said = {name: app[name].help.partition("\n\n")[0] for name in app if not name.startswith("-")}
    assert {name: " ".join(text.split()) for name, text in said.items()} == SUMMARIES
