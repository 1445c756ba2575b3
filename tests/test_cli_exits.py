"""Exit codes: what scripts decide by, each with one sentence and never a traceback."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from testpress_async.cli import exits
from testpress_async.cli.app import run
from testpress_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    ConfigError,
    DatasetError,
    DecodeFailed,
    Error,
    ListingChanged,
    NotFound,
    NotJSON,
    PermissionDenied,
    RateLimited,
    ServerFault,
)
from testpress_async.harvest.dataset import Dataset
from testpress_async.sandbox import Fault, Sandbox
from tests.support.exporting import (
    ANSWERS,
    ATTEMPTS,
    EXAMS,
    SMALL,
    command,
    entries,
    environment,
    page,
    served,
    tables,
    until,
)


@pytest.fixture
def institute(monkeypatch: pytest.MonkeyPatch) -> Generator[Sandbox]:
    """A small institute, named by the environment."""
    with served() as sandbox:
        for name, value in environment(sandbox).items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "Unknown command"),
        (["export"], "--out is missing"),
        (["export", "--out", "x", "--colour"], "--colour"),
        (["export", "--out", "x", "--concurrency", "many"], "--concurrency"),
        (["export", "--out", "x", "--format", "xml"], "--format"),
        (["export", "attemps", "--out", "x"], 'Invalid value "attemps"'),
        (["export", "--out", "x", "--exams", "a"], "--exams: expected an id"),
        (["export", "--out", "x", "--started-after", "soon"], "--started-after: expected a date"),
        (["export", "exams", "--out", "x", "--concurrency", "0"], "--concurrency: expected"),
        (["export", "--out", "x", "--rate", "fast"], "--rate: expected"),
        (["stream", "nothing"], "nothing"),
        (["stream", "user_answers"], "--ids: is missing"),
        (["stream", "attempts", "--window", "0"], "--window: expected"),
        (["get", "attempt"], "ID is missing"),
        (["get", "attempt", "seven"], "seven"),
    ],
)
def test_unusable_options_end_with_2(
    institute: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
):
    """A bad option names itself on stderr; nothing is written, and nothing but a plan is asked for."""
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == exits.USAGE
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""
    assert not (tmp_path / "x").exists()
    assert institute.requests <= 2


def test_a_missing_address_ends_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Without an address the option, the variable and the way to try it are named."""
    monkeypatch.delenv("TESTPRESS_BASE_URL", raising=False)
    assert run(["stream", "attempts"]) == exits.USAGE
    err = capsys.readouterr().err
    assert all(word in err for word in ("--base-url", "TESTPRESS_BASE_URL", "--sandbox"))


def test_a_refused_login_ends_with_3(
    institute: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A wrong password is tried once, told with a remedy and not repeated on the screen."""
    monkeypatch.setenv("TESTPRESS_PASSWORD", "wrong-one")
    assert run(["stream", "attempts"]) == exits.REFUSED
    assert institute.requests == 1
    err = capsys.readouterr().err
    assert "must be an admin" in err
    assert "wrong-one" not in err


@pytest.mark.parametrize("arguments", [["stream", "attempts"], ["check"]])
def test_an_account_without_rights_ends_with_3(institute: Sandbox, arguments: list[str]):
    """A student logs in and may not read."""
    assert run([*arguments, "--username", "student"]) == exits.REFUSED


def test_a_missing_record_ends_with_4(institute: Sandbox, capsys: pytest.CaptureFixture[str]):
    """No such attempt: the id is to be checked."""
    assert run(["get", "attempt", "999999"]) == exits.MISSING
    out, err = capsys.readouterr()
    assert out == ""
    assert err.rstrip().endswith("Check the id.")


def test_an_unreachable_institute_ends_with_5(
    institute: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Nobody listens on the port: the tries are told, and what to run next; no dataset is begun."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert run(["export", "--base-url", address, "--out", str(tmp_path / "x")]) == exits.UNREACHABLE
    err = capsys.readouterr().err
    assert "after 5 tries" in err
    assert "testpress check" in err
    assert not (tmp_path / "x").exists()


def test_a_request_that_is_refused_ends_with_2(institute: Sandbox, tmp_path: Path):
    """Many failing reads at once end as one sentence."""
    institute.script(Fault(path="/api/v3/admin/attempts/", status=400, body=b"{}", times=None))
    assert run(["export", "user_answers", "--out", str(tmp_path), "--quiet"]) == exits.USAGE


@pytest.mark.parametrize("body", [b"[]", b'{"count":1}'])
def test_an_answer_that_is_not_understood_ends_with_7(institute: Sandbox, body: bytes):
    """JSON that is no page is not guessed at."""
    institute.script(Fault(path=ATTEMPTS, status=200, body=body, times=None))
    assert run(["stream", "attempts"]) == exits.UNREADABLE


def test_bad_records_end_with_7(institute: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The export is complete but for the records in quarantine, which the summary names."""
    body = page(b'{"id":1}', b'{"id":null}')
    institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
    institute.script(Fault(path=ATTEMPTS, query="ordering", status=200, body=body, times=None))
    assert run(["export", "attempts", "exams", "--out", str(tmp_path)]) == exits.UNREADABLE
    assert entries(tmp_path)[-1].kind == "finished"
    assert f"attempts: bad records: 1, see {tmp_path / 'quarantine'}\n" in capsys.readouterr().err


def test_a_table_that_changed_ends_with_9(
    institute: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Fewer records than the server counted: exported, but to be run again."""
    institute.script(Fault(path=EXAMS, status=200, body=page(b'{"id":1}', count=2), times=None))
    assert run(["export", "exams", "--out", str(tmp_path)]) == exits.UNPROVEN
    assert "changed while being read" in capsys.readouterr().err


def test_an_unusable_directory_ends_with_8(
    institute: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A directory in use, foreign, or a file: named, with what helps, and left as it is."""
    foreign, busy, file = tmp_path / "foreign", tmp_path / "busy", tmp_path / "file"
    foreign.mkdir()
    for path in (foreign / "thesis.txt", file):
        path.write_text("mine")
    for path in (foreign, file):
        assert run(["export", "exams", "--out", str(path), "--quiet"]) == exits.DISK
        assert str(path) in capsys.readouterr().err
    with Dataset(busy).writing(institute.url):
        assert run(["export", "exams", "--out", str(busy), "--quiet"]) == exits.DISK
        assert "Wait for it" in capsys.readouterr().err
    assert run(["export", "exams", "--out", str(busy), "--quiet"]) == exits.DONE


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopped_export_ends_with_130_and_goes_on_later(tmp_path: Path, told: signal.Signals):
    """Ctrl-C or SIGTERM half-way: finished shards are kept, the same command completes the rest."""
    async with Sandbox(**SMALL) as sandbox:
        rule = sandbox.script(Fault(path=ANSWERS.format(30), hold=asyncio.Event(), times=None))[0]
        arguments = ("export", "user_answers", "--out", str(tmp_path), "--concurrency", "1")
        process = command(*arguments, env=environment(sandbox))
        await until(lambda: rule.hits == 1)
        process.send_signal(told)
        _, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == exits.INTERRUPTED, err.decode()
        assert b"Stopped. What was committed stays" in err
        assert b"Traceback" not in err
        shards = [done.shard for entry in entries(tmp_path) for done in entry.shards]
        stored = {ANSWERS.format(shard.parent) for shard in shards if shard.table == "user_answers"}
        assert len(stored) > 5
        sandbox.clear_faults()
        sandbox.log.clear()
        again = command(*arguments, env=environment(sandbox))
        _, err = await asyncio.to_thread(again.communicate)
        assert again.returncode == exits.DONE, err.decode()
        assert not {seen.path for seen in sandbox.log} & stored
        assert len(tables(tmp_path)["user_answers"]) == sandbox.truth.export_counts()["user_answers"]


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from testpress_async.__main__ import main
main()
"""


def _without(missing: str) -> subprocess.CompletedProcess[str]:
    """The command line on a machine that lacks a package."""
    code = WITHOUT.format(missing=missing)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_the_extra_the_command_says_what_to_install(missing: str):
    """The library alone has no command line: one sentence names the extra."""
    ended = _without(missing)
    assert ended.returncode == 1
    assert ended.stderr == (
        "testpress: the command line needs two more packages: pip install 'testpress-async[cli]'\n"
    )


def test_another_missing_module_is_not_disguised():
    """Only the extra's own packages are explained; any other missing module is an error as it is."""
    ended = _without("msgspec")
    assert ended.returncode == 1
    assert "ModuleNotFoundError" in ended.stderr
    assert "pip install" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("rate", "is odd"), 2),
        (AuthenticationFailed("POST", "/x/", 401), 3),
        (PermissionDenied("GET", "/x/", 403), 3),
        (NotFound("GET", "/x/", 404), 4),
        (AnswerLost("GET", "/x/", "cut off"), 5),
        (ServerFault("GET", "/x/", 500), 5),
        (Error(), 5),
        (RateLimited("GET", "/x/", 429, sent=False), 6),
        (DecodeFailed("$", "expected a page"), 7),
        (NotJSON("$", "expected JSON."), 7),
        (ListingChanged("/x/", 3, "repeats page 2"), 7),
        (DatasetError("out", "is not empty", "Name a new one"), 8),
    ],
)
def test_every_error_has_its_code_and_sentence(error: Error, code: int):
    """The code is the documented one; the sentence is the error's, then at most one remedy."""
    assert exits.code_of(error) == code
    sentence = exits.sentence(error)
    assert sentence.startswith(str(error).rstrip("."))
    assert ".." not in sentence


def test_every_code_is_in_the_help(capsys: pytest.CaptureFixture[str]):
    """Each exit code has its line in `testpress --help`, with what it means."""
    assert run(["--help"]) == exits.DONE
    told = dict(re.findall(r"^ *(\d+) +(\S.*\S) *$", capsys.readouterr().out, re.MULTILINE))
    assert {int(code): meaning for code, meaning in told.items()} == {
        code: meaning.replace("`", "") for code, meaning in exits.MEANINGS.items()
    }
    assert list(exits.MEANINGS) == [*range(10), 70, 130]


@pytest.mark.parametrize("command", [["export", "--out", "out"], ["stream"]], ids=["export", "stream"])
@pytest.mark.parametrize("quiet", [False, True], ids=["", "quiet"])
def test_a_filter_that_nothing_matches_is_told(
    institute: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    quiet: bool,
):
    """An empty result is a success; that a wrong exam may be the cause is said, unless nothing is to be."""
    monkeypatch.chdir(tmp_path)
    arguments = [command[0], "attempts", *command[1:], "--exams", "99", *(["-q"] if quiet else [])]
    assert run(arguments) == exits.DONE
    out, err = capsys.readouterr()
    assert out == ""
    assert ("No attempts match --exams 99." in err) is not quiet


def test_what_came_is_no_miss(
    institute: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Neither records that match, nor a table to which the filter means nothing."""
    monkeypatch.chdir(tmp_path)
    assert run(["export", "attempts", "exams", "--out", "out", "--exams", "1"]) == exits.DONE
    assert run(["stream", "attempts", "--exams", "1"]) == exits.DONE
    assert "match" not in capsys.readouterr().err
