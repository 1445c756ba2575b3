"""Named institutes in a file: what goes before what, and that no secret is ever in it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend

from testpress_async.cli import exits
from testpress_async.cli.app import run
from testpress_async.cli.connect import CALL_DEADLINE_S, Connection, Target, account, client_for, target
from testpress_async.cli.settings import EXAMPLE, ConfigFile, Institute, config_path, read_config
from testpress_async.errors import ConfigError
from tests.support.exporting import served

MAIN = Institute(base_url="https://main.example", username="of-file", rate="600/min", max_connections=4)
TEST = Institute(base_url="https://test.example/", username="tester")
FILE = ConfigFile(path=Path("c.toml"), exists=True, default="main", institutes={"main": MAIN, "test": TEST})


class Ring(KeyringBackend):
    """A keyring that forgets everything at the end of a test."""

    priority = 1  # pyright: ignore

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError


@pytest.fixture(autouse=True)
def ring() -> Generator[Ring]:
    """The keyring of this machine, for a test."""
    before, mine = keyring.get_keyring(), Ring()
    keyring.set_keyring(mine)
    yield mine
    keyring.set_keyring(before)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; the file is `home / "testpress/config.toml"`."""
    for name in ("BASE_URL", "USERNAME", "PASSWORD", "TOKEN", "INSTITUTE"):
        monkeypatch.delenv(f"TESTPRESS_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "testpress").mkdir()
    return tmp_path


def written(home: Path, text: str) -> Path:
    path = home / "testpress" / "config.toml"
    path.write_text(text)
    return path


# --- the file ------------------------------------------------------------------------------------------


def test_the_file_lies_where_xdg_wants_it(tmp_path: Path):
    """$XDG_CONFIG_HOME counts if it is absolute, ~/.config otherwise."""
    assert config_path({"XDG_CONFIG_HOME": "/etc/x"}) == Path("/etc/x/testpress/config.toml")
    home = Path("/home/a/.config/testpress/config.toml")
    assert config_path({"HOME": "/home/a"}) == home
    assert config_path({"HOME": "/home/a", "XDG_CONFIG_HOME": "not/absolute"}) == home


def test_the_example_is_a_file_that_is_understood(home: Path, capfd: pytest.CaptureFixture[str]):
    """`config --example` prints it, and it reads as it says; so does every line that is commented out."""
    assert run(["config", "--example"]) == exits.DONE
    printed = capfd.readouterr().out
    assert printed == EXAMPLE
    assert read_config(written(home, printed)).named(None) == (
        "main",
        Institute(base_url="https://institute.testpress.in", username="admin"),
    )
    whole = printed.replace("# rate", "rate").replace("# max_", "max_").replace("# timeouts", "timeouts")
    found = target(Connection(), {}, read_config(written(home, whole.replace("# allow_http", "allow_http"))))
    assert (found.rate, found.max_connections, found.timeouts.read_idle_s) == ("600/min", 16, 30.0)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (
            '[institutes.main]\nbase_url = "a"\npassword = "hunter2"',
            "institutes.main.password",
            "do not belong",
        ),
        (
            '[institutes.main]\nTESTPRESS_TOKEN = "hunter2"',
            "institutes.main.TESTPRESS_TOKEN",
            "--set-password",
        ),
        ('client_secret = "hunter2"', "client_secret", "TESTPRESS_PASSWORD"),
        ('[institutes.main]\nbase_url = "hunter2\n', "config.toml", "is not TOML (at line 2, column"),
        ('base_url = "hunter2', "config.toml", "is not TOML (at end of document)"),
        ("default = 3", "config.toml", 'expected default = "NAME"'),
        ('default = "main"', "default", "there is no [institutes.main]"),
        ('defalt = "main"', "config.toml", "'defalt' is not known"),
        ("[institutes.main]\nrate = 5", "institutes.main", "Expected `str | null`, got `int` - at `$.rate`"),
        ('[institutes.main]\nbase_url = "a"\nuser = "b"', "institutes.main", "unknown field `user`"),
        ("institutes = 3", "config.toml", "tables [institutes.NAME]"),
        (
            '[institutes.main]\nbase_url = "https://a.example"\ntimeouts = {total = 3}',
            "institutes.main.timeouts",
            "there is no 'total'; there are: total_s",
        ),
        (
            '[institutes.main]\nbase_url = "https://a.example"\ntimeouts = {total_s = -3}',
            "Timeouts(total_s)",
            "above 0",
        ),
    ],
)
def test_a_file_that_is_not_understood_is_told_by_place(
    home: Path, capfd: pytest.CaptureFixture[str], text: str, place: str, problem: str
):
    """A secret, a slip of the pen or a wrong type ends with 2 and says where; no secret is shown."""
    written(home, text)
    assert run(["config"]) == exits.USAGE
    told = capfd.readouterr().err
    assert place in told
    assert problem in told
    assert "hunter2" not in told


def test_a_file_nobody_may_read_is_told(home: Path, capfd: pytest.CaptureFixture[str]):
    """The system's reason, not a traceback."""
    (home / "testpress" / "config.toml").mkdir()
    assert run(["check"]) == exits.USAGE
    assert "Is a directory" in capfd.readouterr().err


# --- what goes before what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environ", "expected", "origin"),
    [
        ({"username": "of-flag"}, {"TESTPRESS_USERNAME": "of-env"}, "of-flag", "--username"),
        ({}, {"TESTPRESS_USERNAME": "of-env"}, "of-env", "TESTPRESS_USERNAME"),
        ({}, {"TESTPRESS_USERNAME": ""}, "of-file", "the file"),
        ({}, {}, "of-file", "the file"),
    ],
)
def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    options: dict[str, Any], environ: dict[str, str], expected: str, origin: str
):
    """For one value after the other, and it is known which it was."""
    found = target(Connection(**options), environ, FILE)
    assert (found.username, found.origins["username"]) == (expected, origin)
    assert (found.base_url, found.rate, found.institute) == ("https://main.example", "600/min", "main")


@pytest.mark.parametrize(
    ("options", "environ", "name"),
    [
        ({}, {}, "main"),
        ({}, {"TESTPRESS_INSTITUTE": "test"}, "test"),
        ({"institute": "main"}, {"TESTPRESS_INSTITUTE": "test"}, "main"),
        ({"base_url": "https://test.example", "institute": "test"}, {}, "test"),
        ({"base_url": "https://other.example"}, {}, None),
        ({}, {"TESTPRESS_BASE_URL": "https://other.example"}, None),
        ({}, {"TESTPRESS_BASE_URL": "https://main.example/"}, "main"),
    ],
)
def test_which_institute_is_meant(options: dict[str, Any], environ: dict[str, str], name: str | None):
    """The one named, else the default; but a default counts for no other address than its own."""
    found = target(Connection(**options), environ, FILE)
    assert found.institute == name
    assert found.username == (None if name is None else FILE.institutes[name].username)


@pytest.mark.parametrize("environ", [{}, {"TESTPRESS_BASE_URL": "https://other.example"}])
def test_a_name_and_another_address_contradict(environ: dict[str, str]):
    """One institute's account must not be sent to another."""
    options = {} if environ else {"base_url": "https://other.example"}
    with pytest.raises(
        ConfigError, match=r"test is at https://test\.example/, but .* https://other\.example"
    ):
        target(Connection(institute="test", **options), environ, FILE)


def test_an_institute_that_is_not_there_is_told_with_those_that_are():
    """The name is repeated, and the file."""
    with pytest.raises(ConfigError, match=r"c\.toml has no institute 'mian'; it has: main, test"):
        target(Connection(institute="mian"), {}, FILE)


def test_a_single_institute_needs_no_default():
    """With two of them and no default, none is meant."""
    one = ConfigFile(path=Path("c.toml"), institutes={"test": TEST})
    assert target(Connection(), {}, one).institute == "test"
    assert (
        target(Connection(), {}, ConfigFile(path=Path("c.toml"), institutes=FILE.institutes)).institute
        is None
    )


def test_settings_reach_the_client():
    """Timeouts of the file change what it names and leave the rest as the command line has it."""
    kept = Institute(base_url="http://a.example", timeouts={"try_s": 5}, allow_http=True, username="a")
    file = ConfigFile(path=Path("c.toml"), institutes={"a": kept})
    found = target(Connection(), {"TESTPRESS_PASSWORD": "x"}, file)
    assert (found.timeouts.try_s, found.timeouts.total_s) == (5, CALL_DEADLINE_S)
    assert client_for(found).base_url == "http://a.example"
    with pytest.raises(ConfigError, match="max_connections"):
        client_for(Target(base_url="https://a.example", token="a.b.c", max_connections=0))


# --- secrets -------------------------------------------------------------------------------------------


def test_where_a_password_is_looked_for(tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch):
    """A file named, then the environment, then the keyring for exactly this address and account."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    secret = tmp_path / "secret"
    secret.write_text("of-password-file\n")
    ring.kept["testpress https://main.example", "of-file"] = "of-ring"
    known = {"TESTPRESS_PASSWORD": "of-env"}
    assert account(target(Connection(password_file=secret), known, FILE)) == ("of-file", "of-password-file")
    assert account(target(Connection(), known, FILE)) == ("of-file", "of-env")
    assert account(target(Connection(), {}, FILE)) == ("of-file", "of-ring")
    for other in (Connection(username="other"), Connection(institute="test")):
        with pytest.raises(ConfigError, match="TESTPRESS_PASSWORD: is not set"):
            account(target(other, {}, FILE))


def test_a_token_goes_before_an_account_without_password():
    """The account of the file is left out then, one that was asked for is not."""
    known = {"TESTPRESS_TOKEN": "a.b.c"}
    assert account(target(Connection(), known, FILE)) == (None, None)
    assert account(target(Connection(), known | {"TESTPRESS_PASSWORD": "x"}, FILE)) == ("of-file", "x")


def test_a_machine_without_keyring_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch):
    """A keyring that cannot be used is as good as none; keeping a password there says what else to do."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hunter2\n"))
    import keyring.backends.fail

    keyring.set_keyring(keyring.backends.fail.Keyring())
    with pytest.raises(ConfigError, match="TESTPRESS_PASSWORD"):
        account(target(Connection(), {}, FILE))


def test_a_password_is_kept_used_shown_as_set_and_forgotten(
    home: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """The whole way: an institute in the file, its password in the keyring, an export of a table."""
    with served() as institute:
        written(home, f'[institutes.main]\nbase_url = "{institute.url}"\nusername = "{institute.username}"\n')
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{institute.password}\n"))
        assert run(["config", "--set-password", "main"]) == exits.DONE
        assert ring.kept == {(f"testpress {institute.url}", institute.username): institute.password}
        assert run(["stream", "exams", "-i", "main"]) == exits.DONE
        assert run(["config"]) == exits.DONE
        shown = [line.split() for line in capfd.readouterr().out.splitlines()]
        assert ["password", "set", "the", "keyring"] in shown
        for code in (exits.DONE, exits.USAGE):
            assert run(["config", "--forget-password", "main"]) == code
        assert run(["stream", "exams"]) == exits.USAGE
        told = capfd.readouterr()
        assert institute.password not in told.err.replace(str(home), "")
        assert ring.kept == {}


@pytest.mark.parametrize(
    ("typed", "name", "problem"),
    [
        ("\n", "main", "got no password"),
        ("x\n", "bare", "has no username"),
        ("x\n", "mian", "has no institute"),
    ],
)
def test_a_password_that_cannot_be_kept(
    home: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    typed: str, name: str, problem: str,
):  # fmt: skip
    """Nothing typed, nobody to keep it for: told, and nothing is changed."""
    written(
        home, '[institutes.main]\nbase_url="https://a.example"\nusername="a"\n[institutes.bare]\nbase_url="b"'
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert run(["config", "--set-password", name]) == exits.USAGE
    assert problem in capfd.readouterr().err
    assert ring.kept == {}


def test_config_shows_what_is_in_effect(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Each value with where it came from; secrets only as set."""
    monkeypatch.setenv("TESTPRESS_TOKEN", "eyJhbGciOi.eyJleHAi.c2ln")
    monkeypatch.setenv("TESTPRESS_BASE_URL", "https://env.example")
    assert run(["config", "--username", "anna"]) == exits.DONE
    told = capfd.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines()[1:]}
    assert rows["base_url"] == ["https://env.example", "TESTPRESS_BASE_URL"]
    assert rows["username"] == ["anna", "--username"]
    assert rows["token"] == ["set", "TESTPRESS_TOKEN"]
    assert rows["password"] == ["–", "not", "set"]
    assert "there is no such file" in told.replace("\n", " ")
    assert "eyJ" not in told


def test_a_broken_file_does_not_stop_the_sandbox(home: Path, capfd: pytest.CaptureFixture[str]):
    """It is not asked for there."""
    written(home, "not toml")
    assert run(["stream", "exams", "--sandbox"]) == exits.DONE


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_ctrl_c_at_a_question_is_no_bug(home: Path):
    """Asked for a password, somebody thinks better of it: code 130, no traceback, no log."""
    written(home, '[institutes.main]\nbase_url = "https://a.example"\nusername = "a"\n')
    ours, theirs = os.openpty()
    env = os.environ | {"XDG_STATE_HOME": str(home / "state")}
    process = subprocess.Popen(
        [sys.executable, "-m", "testpress_async", "config", "--set-password", "main"],
        env=env,
        stdin=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    told = b""
    while b"Password of main: " not in told:
        told += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait() == exits.INTERRUPTED
    os.close(ours)
    assert b"Traceback" not in told
    assert not (home / "state").exists()
