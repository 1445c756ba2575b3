"""Completion scripts: what the shells themselves make of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testpress_async.cli import exits
from testpress_async.cli.app import run

BIN = Path(sys.executable).parent


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


def script(shell: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert run(["completion", shell]) == exits.DONE
    return capfd.readouterr().out


@pytest.mark.parametrize("shell", [pytest.param(s, marks=needs(s)) for s in ("bash", "zsh", "fish")])
def test_a_shell_accepts_its_script(shell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """It parses without a complaint."""
    path = tmp_path / "script"
    path.write_text(script(shell, capfd))
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def in_bash(typed: str, script: str, home: Path) -> set[str]:
    """What bash offers after *typed* and a TAB."""
    words = typed.split(" ")
    code = f"""{script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
COMP_LINE='{typed}'; COMP_POINT={len(typed)}
$(complete -p testpress | sed 's/.*-F \\([^ ]*\\).*/\\1/') testpress "${{COMP_WORDS[COMP_CWORD]}}" ''
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(
        ["bash", "--norc", "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return {line.strip() for line in done.stdout.splitlines()} - {""}


@needs("bash")
def test_bash_completes_commands_options_tables_and_institutes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """`testpress exp<TAB>`, options and their choices, and names out of the config file."""
    (tmp_path / "testpress").mkdir()
    (tmp_path / "testpress" / "config.toml").write_text(
        "".join(f'[institutes.{name}]\nbase_url = "https://{name}.example"\n' for name in ("main", "test"))
    )
    code = script("bash", capfd)
    assert in_bash("testpress exp", code, tmp_path) == {"export"}
    assert in_bash("testpress export --form", code, tmp_path) >= {"--format", "--formula-guard"}
    assert in_bash("testpress export --format d", code, tmp_path) == {"duckdb"}
    assert in_bash("testpress stream user_", code, tmp_path) == {"user_answers"}
    assert in_bash("testpress stream exams --institute m", code, tmp_path) == {"main"}


@needs("fish")
def test_fish_completes_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """`testpress exp<TAB>` in fish, by its own engine."""
    path = tmp_path / "script.fish"
    path.write_text(script("fish", capfd))
    code = f"source {path}; complete -C 'testpress exp'"
    env = os.environ | {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["export"]


def test_a_script_is_installed_where_bash_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """`--install` writes it below the home, loads it in .bashrc and says so."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["completion", "bash", "--install"]) == exits.DONE
    told = capfd.readouterr().err.replace("\n", "")
    (path,) = tmp_path.rglob("completions/testpress")
    assert told == f"Installed: {path}. It works in new shells."
    assert "testpress" in (tmp_path / ".bashrc").read_text()
    assert path.read_text() == script("bash", capfd)


def test_a_home_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """One sentence with the place."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert run(["completion", "bash", "--install"]) == exits.USAGE
    assert "Not a directory" in capfd.readouterr().err
