"""A bug of ours: one sentence and a log that tells nothing about anybody; --debug shows more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from testpress_async.cli import exits
from testpress_async.cli.app import run
from testpress_async.errors import NotFound

SECRETS = ("anna@example.org", "hunter2", "eyJhbGciOi.eyJleHAi.c2ln", "4711")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for logs, and secrets in the environment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TESTPRESS_PASSWORD", "hunter2")
    monkeypatch.setenv("TESTPRESS_TOKEN", "eyJhbGciOi.eyJleHAi.c2ln")
    return tmp_path


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that fails in a way nobody foresaw, with everything secret in its words."""

    def fail(*_: object, **__: object) -> bytes:
        local = "anna@example.org"
        try:
            raise OSError(28, "No space left on device", f"/home/{local}")
        except OSError as error:
            raise KeyError(" ".join(SECRETS)) from error

    monkeypatch.setattr(msgspec.json, "format", fail)


def logs(home: Path) -> list[Path]:
    return sorted((home / "state" / "testpress").glob("*"))


@pytest.mark.usefixtures("broken")
def test_a_bug_is_one_sentence_and_a_log(home: Path, capfd: pytest.CaptureFixture[str]):
    """Exit code 70; the log is the owner's alone, and says where, in which versions, with which options."""
    assert run(["get", "attempt", "7", "--sandbox", "--rate", "4711/s"]) == exits.CRASHED == 70
    (log,) = logs(home)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.replace("\n", "") == (
        f"testpress: a bug here: KeyError in cli/stream.py:{_line_of('msgspec.json.format')}. "
        f"{log} tells more, without records and passwords. Please report it."
    )
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    text = log.read_text()
    assert "testpress get --sandbox --rate (values left out)" in text
    assert "msgspec " in text
    assert "testpress_async/cli/stream.py:" in text
    assert "caused by: OSError: No space left on device" in text
    assert not [secret for secret in (*SECRETS, str(home)) if secret in text]


def _line_of(code: str) -> int:
    lines = (Path(exits.__file__).parent / "stream.py").read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if code in line]
    return number


@pytest.mark.usefixtures("broken")
def test_debug_shows_the_rest(capfd: pytest.CaptureFixture[str]):
    """The traceback as Python shows it, but for passwords and tokens."""
    assert run(["get", "attempt", "7", "--sandbox", "--debug"]) == exits.CRASHED
    told = capfd.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "anna@example.org" in told
    assert "hunter2" not in told
    assert "eyJ" not in told


def test_debug_shows_where_an_expected_error_came_from(home: Path, capfd: pytest.CaptureFixture[str]):
    """One sentence without it, sentence and traceback with it; no log."""
    assert run(["get", "attempt", "999999", "--sandbox"]) == exits.MISSING
    assert "Traceback" not in capfd.readouterr().err
    assert run(["get", "attempt", "999999", "--sandbox", "--debug"]) == exits.MISSING
    told = capfd.readouterr().err
    assert told.startswith("testpress: GET ")
    assert "Traceback" in told
    assert not (home / "state").exists()


@pytest.mark.usefixtures("broken")
def test_a_log_that_cannot_be_written_is_told(home: Path, capfd: pytest.CaptureFixture[str]):
    """The sentence stays; where to look is --debug."""
    (home / "state").write_text("a file is in the way")
    assert run(["get", "attempt", "7", "--sandbox"]) == exits.CRASHED
    told = capfd.readouterr().err
    assert "No log could be written (Not a directory); --debug shows more. Please report it." in told


def test_few_logs_are_kept(tmp_path: Path):
    """A job that crashes every minute does not fill the disk."""
    folder = tmp_path / "testpress"
    folder.mkdir()
    for number in range(30):
        (folder / f"crash-2000010{number // 10}-00000{number % 10}-1.log").touch()
    newest = exits.write_log(ValueError(), [], {"XDG_STATE_HOME": str(tmp_path)})
    assert len(os.listdir(folder)) == exits.KEPT_LOGS
    assert newest.exists()


def test_groups_and_our_own_errors_are_described():
    """Each error of a group; the text of ours, as it holds no values."""
    ours = NotFound("GET", "/api/x/", 404)
    group = ExceptionGroup("4711", [ours, ValueError("4711")])
    assert list(exits.described(group)) == [
        "ExceptionGroup",
        f"in it: testpress_async.errors.NotFound: {ours}",
        "in it: ValueError",
    ]
