"""The commands: what they print, write and ask for."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from urllib.parse import parse_qs

import duckdb
import msgspec
import pytest

from testpress_async import __version__
from testpress_async.cli import exits
from testpress_async.cli.app import run
from testpress_async.cli.connect import Connection, client_for, rate_policy, target
from testpress_async.cli.filters import chosen, id_list
from testpress_async.cli.sandbox import limit_of
from testpress_async.errors import ConfigError
from testpress_async.harvest.plan import Plan
from testpress_async.harvest.report import Report
from testpress_async.http.window import RatePolicy
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.support.exporting import (
    ANSWERS,
    ATTEMPTS,
    CONTENT_ATTEMPTS,
    SMALL,
    command,
    entries,
    environment,
    files,
    lines,
    rows,
    served,
    tables,
    until,
)


@pytest.fixture
def institute(monkeypatch: pytest.MonkeyPatch) -> Generator[Sandbox]:
    """A small institute, named by the environment."""
    with served() as sandbox:
        for name in [name for name in os.environ if name.startswith("TESTPRESS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("TESTPRESS_BASE_URL", sandbox.url)
        monkeypatch.setenv("TESTPRESS_USERNAME", sandbox.username)
        monkeypatch.setenv("TESTPRESS_PASSWORD", sandbox.password)
        yield sandbox


# --- export ------------------------------------------------------------------------------------------


def test_export_writes_every_table(institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """`export` lands the whole institute and tells on stderr what it did; stdout stays empty."""
    assert run(["export", "--out", str(tmp_path)]) == 0
    counts = institute.truth.export_counts()
    assert {table: len(found) for table, found in tables(tmp_path).items()} == counts
    out, told = capfd.readouterr()
    assert out == ""
    assert re.search(r"user_answers +" + f"{counts['user_answers']:,}", told)
    assert f"{sum(counts.values()):,} records in " in told
    assert institute.password not in told.replace("/sandbox", "")


@pytest.mark.row(106)
def test_an_unusable_place_is_told_before_anything_is_asked(
    institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """A directory full of something else ends with 8 and a remedy, and not one request was sent."""
    (tmp_path / "letter.txt").write_text("mine")
    assert run(["export", "--out", str(tmp_path)]) == 8
    assert "is not empty and no dataset" in capfd.readouterr().err
    assert not institute.log


def test_export_of_some_tables_with_filters(institute: Sandbox, tmp_path: Path):
    """Named tables bring what they depend on; filters reach the institute."""
    arguments = ["--exams", "1,2", "--users", "3,4,5", "--state", "1", "--started-after", "2023-02-01"]
    assert run(["export", "attempt_details", "--out", str(tmp_path), "--quiet", *arguments]) == 0
    asked = [parse_qs(seen.query) for seen in institute.log if seen.path == ATTEMPTS]
    assert all(
        each["exams"] == ["1,2"]
        and each["users"] == ["3,4,5"]
        and each["state"] == ["1"]
        and each["date_0"] == ["2023-02-01"]
        for each in asked
    )
    assert len(asked) == 3  # the plan, the page, and the probe that closes it
    assert set(tables(tmp_path)) == {"attempts", "attempt_details"}
    found = rows(tmp_path / "attempts.jsonl")
    assert {row["id"] for row in found} == set(
        institute.truth.ids("attempts", exams="1,2", users="3,4,5", state=1, date_0="2023-02-01")
    )


def test_export_without_finished_tables(institute: Sandbox, tmp_path: Path):
    """--format none keeps the landed parts only."""
    assert run(["export", "exams", "--out", str(tmp_path), "--format", "none", "--quiet"]) == 0
    assert tables(tmp_path) == {}
    assert len(files(tmp_path)) == 1


def test_export_to_a_database(institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """--format duckdb makes one file, named in the summary, in which answers join their questions."""
    assert run(["export", "--out", str(tmp_path), "--format", "duckdb"]) == 0
    database = tmp_path / "testpress.duckdb"
    assert f"Written: {database}\n" in capfd.readouterr().err
    counts = institute.truth.export_counts()
    query = """SELECT answer.id, answer.attempt_id, question.type FROM user_answers AS answer
        JOIN exam_questions AS question ON question.id = answer.exam_question_id"""
    with duckdb.connect(str(database), read_only=True) as opened:
        kept = dict(opened.execute("SELECT table_name, estimated_size FROM duckdb_tables()").fetchall())
        joined = opened.execute(query).fetchall()
        ready = opened.execute("SELECT id, attempt_id, question_type FROM answers_with_questions").fetchall()
    assert kept == counts
    assert len(ready) == counts["user_answers"]
    assert sorted(joined) == sorted(row for row in ready if row[2] is not None)
    assert len(joined) > 0


def test_export_to_csv(institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """--format csv makes a file a table that was read; the guard reaches it."""
    arguments = ["export", "attempts", "--out", str(tmp_path), "--format", "csv", "--formula-guard"]
    assert run(arguments) == 0
    assert f"Written: {tmp_path / 'attempts.csv'}\n" in capfd.readouterr().err
    with open(tmp_path / "attempts.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert {int(row["id"]) for row in found} == set(institute.truth.ids("attempts"))
    assert {row["phone"][:2] for row in found if row["phone"]} == {"'+"}


def test_a_format_that_cannot_be_written(
    institute: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """A missing extra, or a guard that guards nothing, is told before the first request."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    arguments = ["export", "--out", str(tmp_path / "out"), "--format"]
    assert run([*arguments, "parquet"]) == exits.USAGE
    assert "pip install 'testpress-async[duckdb]'" in capfd.readouterr().err
    assert run([*arguments, "jsonl", "--formula-guard"]) == exits.USAGE
    assert "--formula-guard: is for --format csv" in capfd.readouterr().err
    assert not institute.log
    assert not (tmp_path / "out").exists()


def test_a_dry_run_costs_a_request_per_list(
    institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """--dry-run shows the cost of every table and writes nothing."""
    out = tmp_path / "out"
    assert run(["export", "--out", str(out), "--dry-run"]) == 0
    told = capfd.readouterr().err
    assert re.search(r"attempt_details +60 +60", told)
    assert re.search(r"attendance +\? +\?", told)
    assert "At least 123 requests: 12 seconds at 10 a second (assumed); at least 46.5 kB.\n" in told
    assert not out.exists()
    assert len([seen for seen in institute.log if seen.method == "GET"]) == 3


def test_a_dry_run_as_json_is_the_plan(
    institute: Sandbox, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
):
    """--dry-run --json prints the plan on stdout."""
    assert run(["export", "exams", "--out", str(tmp_path), "--dry-run", "--json"]) == 0
    plan = msgspec.json.decode(capfdbinary.readouterr().out, type=Plan)
    assert plan.tables == ("exams",)
    assert plan.requests == 1


def test_a_summary_as_json_is_the_report(
    institute: Sandbox, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
):
    """--json --quiet prints the report on stdout and nothing on stderr."""
    assert run(["export", "exams", "attempts", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    out, told = capfdbinary.readouterr()
    report = msgspec.json.decode(out, type=Report)
    assert {table.table: table.records for table in report.tables} == {"exams": 3, "attempts": 60}
    assert not report.resumed
    assert told == b""


def test_export_of_an_invented_institute(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """--sandbox needs neither address nor account."""
    assert run(["export", "exams", "--sandbox", "--out", str(tmp_path)]) == 0
    assert len(lines(tmp_path / "exams.jsonl")) == 8
    assert "exams: 8 records" in capfd.readouterr().err


def test_formats_can_be_repeated(institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """--format twice makes both; what an earlier export made in another is removed, and that is said."""
    out = str(tmp_path)
    assert run(["export", "--format", "csv", "exams", "--out", out]) == 0  # it takes one name, not the table
    assert run(["export", "exams", "--out", out, "--format", "parquet", "--format", "duckdb"]) == 0
    told = capfd.readouterr().err
    assert f"Written: exams.parquet, testpress.duckdb in {tmp_path}\n" in told
    assert f"Removed, as out of date: {tmp_path / 'exams.csv'}\n" in told
    assert {file.name for file in tmp_path.glob("exams.*")} == {"exams.jsonl", "exams.parquet"}


async def test_the_summary_of_an_update(tmp_path: Path):
    """What is new, changed, gone and unchanged stands in the grid; what was saved and is unknown, below."""

    async def told() -> str:
        env = environment(institute, COLUMNS="140")
        process = command("export", "user_answers", "--out", str(tmp_path), env=env)
        _, told = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
        return told.decode()

    async with Sandbox(**SMALL) as institute:
        first = await told()
        institute.delete_attempts([7, 8])
        institute.edit_attempt(9, score="99.25")
        institute.insert_attempts(3)
        second = await told()
    assert re.search(r"records +new +certified +unverified", first)
    assert re.search(r"attempts +60 +60 +1 +0", first)
    assert re.search(r"\nSaved [0-9.]+ MB: what is sent along again and again is stored once\.\n", first)
    assert "\nattempts: unknown field 'proctoring' in 3 records, first 21; kept as it is.\n" in first
    assert "what they would bring is stored" not in first
    assert re.search(r"records +new +changed +gone +unchanged +certified", second)
    assert re.search(r"attempts +61 +3 +1 +2 +57", second)
    assert "\nSaved 57 requests: what they would bring is stored and still counts.\n" in second


def test_options_of_an_update_reach_it(institute: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """--strict reads a list until it came twice the same; a look-back of years reads all windows again."""
    arguments = ["export", "exams", "--out", str(tmp_path / "out"), "--quiet"]
    counts: list[int] = []
    for option in ([], ["--strict"]):
        institute.log.clear()
        assert run([*arguments, *option]) == 0
        counts.append(len([seen for seen in institute.log if seen.method == "GET"]))
    assert counts[1] > counts[0]
    assert run([*arguments, "--look-back-days", "-1"]) == exits.USAGE
    assert "--look-back-days: expected at least 0" in capfd.readouterr().err


def test_a_look_back_reads_windows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """--look-back-days: windows of the last so many days are read though their counts have not changed."""
    asked: list[int] = []
    with served(attempts=400, per_page=20) as institute:
        for name, value in environment(institute).items():
            monkeypatch.setenv(name, value)
        for days in ("2", "2", "99999"):
            institute.log.clear()
            out = ["--out", str(tmp_path), "--look-back-days", days, "--started-before", "2024-12-31"]
            assert run(["export", "attempts", *out, "--quiet"]) == 0
            asked.append(sum(seen.path == ATTEMPTS for seen in institute.log))
    assert asked[1] < asked[2]


async def test_a_killed_export_is_completed_by_the_next(tmp_path: Path):
    """kill -9 half-way: what was committed is not asked for again, leftovers vanish, all is there."""
    rough = tmp_path / "rough"
    async with Sandbox(**SMALL) as sandbox:
        sandbox.script(Fault(path=ANSWERS.format(30), hold=asyncio.Event(), times=None))
        process = command("export", "--out", str(rough), "--concurrency", "2", env=environment(sandbox))
        await until(lambda: "attempt_details" in {d.shard.table for e in entries(rough) for d in e.shards})
        process.kill()
        await asyncio.to_thread(process.communicate)
        assert process.returncode == -signal.SIGKILL
        leftover = rough / "user_answers" / f"part-0001-{len(entries(rough)) + 1:08}.jsonl"
        leftover.parent.mkdir(exist_ok=True)
        leftover.write_bytes(b'{"id":1,"torn')
        landed = {name: data for name, data in files(rough).items() if "user_answers" not in name}
        sandbox.clear_faults()
        sandbox.log.clear()
        for path in (rough, tmp_path / "calm"):
            again = command("export", "--out", str(path), env=environment(sandbox))
            _, told = await asyncio.to_thread(again.communicate)
            assert again.returncode == 0, told.decode()
            if path == rough:
                assert b"(resumed)" in told
                assert not any(seen.path == f"{ATTEMPTS}1/" for seen in sandbox.log)
        assert {t: len(found) for t, found in tables(rough).items()} == sandbox.truth.export_counts()
    assert tables(rough) == tables(tmp_path / "calm")
    assert landed.items() <= files(rough).items()
    assert entries(rough)[-1].kind == "finished"


# --- stream and get ----------------------------------------------------------------------------------


def _streamed(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> list[bytes]:
    assert run(["stream", *arguments]) == 0
    out = capfdbinary.readouterr().out
    assert out == b"" or out.endswith(b"\n")
    return out.splitlines()


def _ids(found: list[bytes]) -> list[int]:
    return [msgspec.json.decode(line)["id"] for line in found]


@pytest.mark.parametrize("table", ["attempts", "content_attempts", "exams", "users", "courses"])
def test_stream_prints_a_table(institute: Sandbox, capfdbinary: pytest.CaptureFixture[bytes], table: str):
    """Each table that is a list is printed as the institute lists it, a record a line."""
    assert _ids(_streamed(capfdbinary, table)) == institute.truth.ids(table)


def test_stream_filters_attempts(institute: Sandbox, capfdbinary: pytest.CaptureFixture[bytes]):
    """Filters and ordering of attempts reach the institute."""
    found = _streamed(
        capfdbinary, "attempts", "--exams", "1", "--started-before", "2024-06-30", "--ordering=-date"
    )
    asked = {"exams": 1, "date_1": "2024-06-30", "ordering": "-date"}
    assert _ids(found) == institute.truth.ids("attempts", **asked)
    assert 0 < len(found) < 60


def test_stream_filters_content_attempts(institute: Sandbox, capfdbinary: pytest.CaptureFixture[bytes]):
    """Filters of content attempts reach the institute."""
    _streamed(capfdbinary, "content_attempts", "--users", "3,4", "--course-ids", "2", "--content-state", "1")
    (asked,) = [parse_qs(seen.query) for seen in institute.log if seen.path == CONTENT_ATTEMPTS]
    assert asked == {"user_ids": ["3,4"], "course_ids": ["2"], "state": ["1"]}


def test_stream_prints_answers_of_some_attempts(
    institute: Sandbox, capfdbinary: pytest.CaptureFixture[bytes]
):
    """Answers are streamed attempt by attempt, each naming its attempt."""
    found = [msgspec.json.decode(line) for line in _streamed(capfdbinary, "user_answers", "--ids", "7,3")]
    expected = [(n, each) for n in (7, 3) for each in institute.truth.ids("user_answers", parent=n)]
    assert [(row["attempt_id"], row["id"]) for row in found] == expected


def test_stream_prints_attendance(institute: Sandbox, capfdbinary: pytest.CaptureFixture[bytes]):
    """Attendance is streamed per conference, each row naming it."""
    conference = institute.truth.conference_ids()[0]
    found = [msgspec.json.decode(x) for x in _streamed(capfdbinary, "attendance", "--ids", str(conference))]
    assert len(found) == institute.truth.count("attendance", parent=conference)
    assert {row["video_conference_id"] for row in found} <= {conference}


def test_stream_of_an_invented_institute(capfdbinary: pytest.CaptureFixture[bytes]):
    """--sandbox streams without an institute."""
    assert len(_streamed(capfdbinary, "exams", "--sandbox")) == 8


async def test_a_closed_pipe_ends_the_stream_quietly():
    """When the reader goes, the stream stops asking and ends with 0, without a traceback."""
    async with Sandbox(attempts=20_000, users=20, per_page=50) as sandbox:
        process = command("stream", "attempts", "--window", "1", env=environment(sandbox))
        assert process.stdout is not None
        assert process.stderr is not None
        first = await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        told = await asyncio.to_thread(process.stderr.read)
        assert await asyncio.to_thread(process.wait) == 0
        process.stderr.close()
        assert sandbox.requests < 100
    assert msgspec.json.decode(first)["id"] > 0
    assert told == b""


def test_get_prints_one_attempt(institute: Sandbox, capfdbinary: pytest.CaptureFixture[bytes]):
    """`get attempt` prints the server's record, indented."""
    assert run(["get", "attempt", "7"]) == 0
    out = capfdbinary.readouterr().out
    (expected,) = [each for each in institute.truth.records("attempt_details") if each["id"] == 7]
    assert msgspec.json.decode(out) == msgspec.json.decode(msgspec.json.encode(expected))
    assert out.startswith(b'{\n  "id": 7,')


# --- check, sandbox, help ----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--sandbox"]])
def test_check_is_green(institute: Sandbox, capfd: pytest.CaptureFixture[str], arguments: list[str]):
    """`check` prints its findings on stdout."""
    assert run(["check", *arguments]) == 0
    out = capfd.readouterr().out
    assert "✓ login" in out
    assert (institute.url in out) == (arguments == [])


async def test_sandbox_serves_until_it_is_told_to_stop(tmp_path: Path):
    """`sandbox --port 0` prints a line to paste that works, and ends with 130 on SIGTERM."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TESTPRESS_")}
    options = ("--port", "0", "--attempts", "30", "--users", "5", "--rate", "1000", "--live", "--exams", "2")
    process = command("sandbox", *options, env=env)
    assert process.stderr is not None
    told = ""
    while "export TESTPRESS_" not in told:
        line = (await asyncio.to_thread(process.stderr.readline)).decode()
        assert line, f"ended early: {told}"
        told += line
    known = dict(re.findall(r"(TESTPRESS_[A-Z_]+)=(\S+)", told))
    assert set(known) == {"TESTPRESS_BASE_URL", "TESTPRESS_USERNAME", "TESTPRESS_PASSWORD"}
    assert f"username {known['TESTPRESS_USERNAME']}, password {known['TESTPRESS_PASSWORD']}" in told
    reader = command("stream", "exams", env=env | known)
    out, _ = await asyncio.to_thread(reader.communicate)
    assert len(out.splitlines()) == 2
    process.send_signal(signal.SIGTERM)
    _, rest = await asyncio.to_thread(process.communicate)
    assert process.returncode == 130, rest.decode()
    assert rest == b"Stopped.\n"


def test_rates_of_the_sandbox_are_those_of_servers():
    """By the second or the minute: a client that knows what servers count by is not misled."""
    assert limit_of(50) == RateLimit(50, 1.0)
    assert limit_of(2.5) == RateLimit(150, 60.0)
    assert limit_of(0.001) == RateLimit(1, 60.0)


def test_help_and_version_end_well(capfd: pytest.CaptureFixture[str]):
    """--help names commands and exit codes, --version the version."""
    assert run(["--help"]) == 0
    out = capfd.readouterr().out
    assert all(name in out for name in ("export", "stream", "get", "check", "sandbox", "Exit code", "130"))
    assert run(["--version"]) == 0
    assert capfd.readouterr().out.strip() == __version__


# --- password, rate, ids -----------------------------------------------------------------------------


def test_a_password_file_goes_before_the_environment(
    institute: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """The first line of --password-file is the password; it is never printed."""
    monkeypatch.setenv("TESTPRESS_PASSWORD", "wrong-one")
    secret = tmp_path / "secret"
    secret.write_text(f"{institute.password}\nnot this\n")
    assert run(["stream", "exams", "--password-file", str(secret)]) == 0
    secret.write_text("wrong-two\n")
    assert run(["stream", "exams", "--password-file", str(secret)]) == 3
    assert "wrong" not in capfd.readouterr().err


def test_a_token_is_enough(institute: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """With TESTPRESS_TOKEN and no username nobody logs in."""
    monkeypatch.delenv("TESTPRESS_USERNAME")
    monkeypatch.setenv("TESTPRESS_TOKEN", institute.token())
    assert run(["stream", "exams"]) == 0
    assert [seen.method for seen in institute.log] == ["GET"]


@pytest.mark.parametrize(
    ("options", "environ", "parameter"),
    [
        (Connection(), {}, "--base-url"),
        (Connection(base_url="https://a.example"), {"TESTPRESS_PASSWORD": "x"}, "--username"),
        (Connection(base_url="https://a.example", username="a"), {}, "TESTPRESS_PASSWORD"),
        (
            Connection(base_url="https://a.example", username="a", password_file=Path("/nowhere/secret")),
            {"TESTPRESS_PASSWORD": "x"},
            "--password-file",
        ),
        (Connection(base_url="https://a.example", rate="fast"), {"TESTPRESS_TOKEN": "a.b.c"}, "--rate"),
        (Connection(base_url="http://a.example"), {"TESTPRESS_TOKEN": "a.b.c"}, "base_url"),
    ],
)
def test_what_is_missing_is_named(
    options: Connection, environ: dict[str, str], parameter: str, monkeypatch: pytest.MonkeyPatch
):
    """A missing or unusable setting is named by its option or variable."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal to ask on
    with pytest.raises(ConfigError, match=f"^{parameter}: "):
        client_for(target(options, environ))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (None, RatePolicy()),
        ("600/min", RatePolicy(requests=600, per_s=60.0)),
        ("10/s", RatePolicy(requests=10, per_s=1.0)),
        ("1000/h", RatePolicy(requests=1000, per_s=3600.0)),
        ("7", RatePolicy(requests=7, per_s=1.0)),
    ],
)
def test_rates_are_understood(text: str | None, policy: RatePolicy):
    """A rate is a number and a unit of time; a second if none is given."""
    assert rate_policy(text) == policy


@pytest.mark.parametrize("text", ["", "0/s", "-1/s", "10/day", "1.5/s", "10 / s", "10/s/s", "١/s"])
def test_odd_rates_are_refused(text: str):
    """Everything else is an error, not a guess."""
    with pytest.raises(ConfigError, match="--rate"):
        rate_policy(text)


def test_ids_are_understood():
    """One id or several with commas; anything else names the option."""
    assert id_list("--ids", None) is None
    assert id_list("--ids", "3") == [3]
    assert id_list("--ids", "3,4,5") == [3, 4, 5]
    for text in ("", "3,", "a", "3;4"):
        with pytest.raises(ConfigError, match="--ids"):
            id_list("--ids", text)


def test_all_tables_unless_some_are_named():
    """No name means everything."""
    assert chosen((), ("a", "b")) == ("a", "b")
    assert chosen(("b",), ("a", "b")) == ("b",)


@pytest.mark.parametrize(
    "arguments",
    [
        ["stream", "exams", "--ids", "1,2"],
        ["stream", "content_attempts", "--exams", "3"],
        ["stream", "user_answers", "--ids", "1", "--exams", "3"],
        ["export", "exams", "--users", "1", "--out", "unused"],
        ["export", "--out", "unused", "--concurrency", "0"],
    ],
    ids=" ".join,
)
def test_an_option_that_means_nothing_here_is_refused(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A filter that were ignored would export more than was asked for."""
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "--sandbox"]) == exits.USAGE
    assert list(tmp_path.iterdir()) == []


def test_the_sandbox_can_be_exported_twice_into_one_directory(tmp_path: Path):
    """Its port differs from time to time, the institute is the same."""
    for _ in range(2):
        assert run(["export", "exams", "--sandbox", "--quiet", "--out", str(tmp_path / "out")]) == exits.DONE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["stream", "exams", "--sandbox"], ["config"]], ids=" ".join)
def test_a_full_stdout_is_one_sentence(arguments: list[str]):
    """Not a traceback, nor a bug: what cannot be written ends with the code for that."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "testpress_async", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == exits.DISK
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_export_goes_on_when_nobody_watches_it_any_more(tmp_path: Path):
    """`2>&1 | head -1`: the reader of the messages goes, the data comes all the same."""
    async with Sandbox(**SMALL) as sandbox:
        process = command("export", "exams", "attempts", "--out", str(tmp_path), env=environment(sandbox))
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.read) == b""
        process.stdout.close()
        assert await asyncio.to_thread(process.wait) == exits.DONE
    assert {table: len(found) for table, found in tables(tmp_path).items()} == {"exams": 3, "attempts": 60}


def test_warnings_of_the_library_are_shown():
    """A `next` that leads away is told once; a try that failed and went well then is not."""

    def away(body: bytes) -> bytes:
        return body.replace(institute.url.encode(), b"http://elsewhere.example")

    with served(per_page=20) as institute:
        institute.script(Fault(path=ATTEMPTS, status=503), Fault(path=ATTEMPTS, change=away, times=None))
        with command("stream", "attempts", env=environment(institute)) as program:
            out, told = program.communicate()
    assert len(out.splitlines()) == institute.truth.count("attempts")
    assert told.decode().count("testpress: `next` of attempts points to http://elsewhere.example") == 1
    assert "503" not in told.decode()
