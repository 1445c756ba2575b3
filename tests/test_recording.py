"""Recording an institute into a file, and the institute that gives its answers again."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import stat
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import testpress_async as tp
from testpress_async.cli import exits
from testpress_async.cli.app import run
from testpress_async.testing import FastClock, Fault, Recorder, Sandbox
from tests.support.exporting import served

SIZE: dict[str, Any] = {
    "attempts": 50,
    "users": 30,
    "exams": 3,
    "courses": 3,
    "content_attempts": 40,
    "conferences": 4,
    "per_page": 20,
    "answers_per_page": 25,
}
EVERY_TABLE = ("attempts", "content_attempts", "exams", "users", "courses")
PER_PARENT = ("attempt_details", "user_answers", "attendance")


@contextlib.asynccontextmanager
async def client_of(institute: Sandbox, **options: Any) -> AsyncGenerator[tp.Client]:
    clock = FastClock()
    async with tp.Client(
        institute.url, username=institute.username, password=institute.password, clock=clock, **options
    ) as client:
        yield client


async def read_all(client: tp.Client) -> dict[str, list[Any]]:
    """Everything that a small institute has, table by table, with each attempt's own."""
    found: dict[str, list[Any]] = {
        "attempts": await client.attempts.list().collect(),
        "ordered": await client.attempts.list(exams=[1, 2], ordering="-date").collect(),
        "content_attempts": await client.content_attempts.list().collect(),
        "users": await client.users.list().collect(),
        "exams": await client.exams.list().collect(),
        "courses": await client.courses.list().collect(),
        "attendance": await client.video_conferences.attendees(1).collect(),
    }
    found["details"] = [await client.attempts.get(attempt.id) for attempt in found["attempts"][:10]]
    found["answers"] = [
        answer
        for attempt in found["attempts"][:10]
        for answer in await client.attempts.user_answers(attempt.id).collect()
    ]
    return found


async def recorded(path: Path, read: Callable[[tp.Client], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What *read* got of an institute while it was recorded into *path*."""
    async with Sandbox(**(SIZE | options)) as institute:
        recorder = Recorder()
        async with client_of(institute, middleware=[recorder]) as client:
            got = await read(client)
    recorder.save(path)
    return got


async def replayed(path: Path, read: Callable[[tp.Client], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async with Sandbox.from_recording(path, **options) as institute, client_of(institute) as client:
        return await read(client)


# --- what comes back ---------------------------------------------------------------------------------


async def test_a_replay_answers_as_the_institute_did(tmp_path: Path) -> None:
    """The same numbers of the same records in the same order, with their joins, and nobody's name."""
    file = tmp_path / "institute.jsonl"
    before = await recorded(file, read_all)
    after = await replayed(file, read_all)
    assert {table: len(rows) for table, rows in before.items()} == {t: len(rows) for t, rows in after.items()}
    for table in (*EVERY_TABLE, "ordered", "details", "answers"):
        assert [row.id for row in before[table]] == [row.id for row in after[table]]
    assert [each.score for each in before["attempts"]] == [each.score for each in after["attempts"]]
    assert [each.duration for each in before["answers"]] == [each.duration for each in after["answers"]]
    assert [each.question.marks for each in before["answers"]] == [
        each.question.marks for each in after["answers"]
    ]
    emails = [{user.email for user in rows["users"]} - {None} for rows in (before, after)]
    known = [[each.email in emails[0] for each in before["attempts"]]]
    known += [[each.email in emails[1] for each in after["attempts"]]]
    assert known[0] == known[1]
    assert True in known[0]
    assert not emails[0] & emails[1]


async def test_pages_are_those_that_were_recorded(tmp_path: Path) -> None:
    """Counts, page sizes and numbers of pages stay; links lead to the institute that replays."""

    async def read(client: tp.Client) -> list[tuple[int, int | None, int | None, int, bool]]:
        return [
            (page.number, page.count, page.per_page, len(page), page.is_last)
            async for page in client.attempts.list().pages(window=4)
        ]

    file = tmp_path / "institute.jsonl"
    before = await recorded(file, read)
    assert before == [(1, 50, 20, 20, False), (2, 50, 20, 20, False), (3, 50, 20, 10, True)]
    assert await replayed(file, read) == before


async def test_bad_days_while_recording_leave_no_trace(tmp_path: Path) -> None:
    """429s, outages, HTML and cut answers are tried again; each good answer is recorded once."""
    quiet, stormy = tmp_path / "quiet.jsonl", tmp_path / "stormy.jsonl"
    await recorded(quiet, read_all)
    faults = {"429": 0.1, "503": 0.1, "cut": 0.05, "html": 0.05, "not-json": 0.05, "expired-token": 0.05}
    await recorded(stormy, read_all, faults=faults)

    def places(file: Path) -> list[tuple[str, str, int]]:
        lines = [json.loads(line) for line in file.read_bytes().splitlines()[1:-1]]
        return sorted((line["path"], line["filters"], line["page"]) for line in lines)

    assert places(stormy) == places(quiet)
    assert len(set(places(quiet))) == len(places(quiet))
    assert len(await replayed(stormy, lambda client: client.attempts.list().collect())) == 50


async def test_a_part_is_replayed_as_a_whole(tmp_path: Path) -> None:
    """A list of which two pages were recorded ends after them, and counts what there is."""

    async def read(client: tp.Client) -> list[int]:
        return [attempt.id for attempt in await client.attempts.list().collect(max_items=40)]

    file = tmp_path / "institute.jsonl"
    before = await recorded(file, read)

    async def read_more(client: tp.Client) -> tuple[list[int], int]:
        listing = client.attempts.list()
        return [attempt.id async for attempt in listing], await listing.count()

    assert await replayed(file, read_more) == (before, 40)


async def test_side_loads_are_not_counted(tmp_path: Path) -> None:
    """A cut list of content attempts counts content attempts, not the users that come along, even first."""
    recorder, file = Recorder(), tmp_path / "institute.jsonl"

    async def handler(request: tp.Request) -> tp.Response:
        tables = {"users": [{"id": 1}, {"id": 2}], "content_attempts": [{"id": 7}]}
        page = {"count": 9, "next": "https://a.example/?page=2", "results": tables}
        return tp.Response(status=200, headers={}, body=json.dumps(page).encode())

    await recorder(tp.Request(target="/api/v3/admin/chapter-content-attempts/"), handler)
    recorder.save(file)
    assert await replayed(file, lambda client: client.content_attempts.list().count()) == 1


async def test_refusals_are_not_recorded(tmp_path: Path) -> None:
    """What was not found while recording is not found afterwards, and no record of that kind."""

    async def read(client: tp.Client) -> None:
        await client.attempts.get(1)
        with pytest.raises(tp.NotFound):
            await client.attempts.get(9_999)

    file = tmp_path / "institute.jsonl"
    await recorded(file, read)
    await replayed(file, read)
    with pytest.raises(tp.NotFound, match=r"It has 1 of these: 1$"):
        await replayed(file, lambda client: client.attempts.get(9_999))


async def test_searches_find_the_same_people(tmp_path: Path) -> None:
    """An e-mail address asked for is replaced like that in the records, so that one can ask for it again."""

    async def read(client: tp.Client) -> list[Any]:
        return await client.users.list(email="student3@students.example").collect()

    file = tmp_path / "institute.jsonl"
    (before,) = await recorded(file, read)
    assert b"student3" not in file.read_bytes()
    shown = json.loads(file.read_bytes().splitlines()[1])["body"]["results"][0]["email"]
    (after,) = await replayed(file, lambda client: client.users.list(email=shown).collect())
    assert (after.id, after.email) == (before.id, shown)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (
            lambda c: c.attempts.list(exams=[2]).collect(),
            "It has of this list pages with no filters (3), exams=1",
        ),
        (lambda c: c.attempts.get(47), "It has 10 of these: 1, 2, 3, 4, 5, 6, 7, 8, …"),
        (lambda c: c.attempts.list().raw_page(4), "It has of this list pages with no filters (3)"),
        (lambda c: c.attempts.user_answers(47).collect(), "It has 10 of these: 1, 2, 3"),
    ],
)
async def test_what_was_not_recorded_is_not_found(
    tmp_path: Path, ask: Callable[[tp.Client], Coroutine[Any, Any, Any]], told: str
) -> None:
    """The error says what there is instead."""
    file = tmp_path / "institute.jsonl"
    await recorded(file, read_all)
    with pytest.raises(tp.NotFound) as caught:
        await replayed(file, ask)
    assert told in caught.value.detail


async def test_a_kind_that_was_not_recorded_lists_the_kinds(tmp_path: Path) -> None:
    """Whoever asks for another endpoint reads which there are."""
    file = tmp_path / "institute.jsonl"
    await recorded(file, lambda client: client.attempts.get(1))
    with pytest.raises(tp.NotFound, match=r"It has /api/v2\.5/admin/attempts/…/"):
        await replayed(file, lambda client: client.users.list().collect())


async def test_limits_logins_and_faults_work_as_ever(tmp_path: Path) -> None:
    """A replay is a sandbox: other credentials, refused ones, faults by share and by script."""
    file = tmp_path / "institute.jsonl"
    await recorded(file, lambda client: client.attempts.list().collect())
    clock = FastClock()
    async with Sandbox.from_recording(file, username="me", faults={"503": 0.3}, clock=clock) as institute:
        (scripted,) = institute.script(Fault(path="/api/v2.5/admin/attempts/", status=429))
        async with client_of(institute) as client:
            assert len(await client.attempts.list().collect()) == 50
        assert scripted.hits == 1
        async with tp.Client(institute.url, username="admin", password="wrong") as stranger:
            with pytest.raises(tp.AuthenticationFailed):
                await stranger.attempts.list()


async def test_a_replay_cannot_be_changed(tmp_path: Path) -> None:
    """Inserting or editing what was recorded is refused instead of being without effect."""
    file = tmp_path / "institute.jsonl"
    await recorded(file, lambda client: client.attempts.list().collect())
    institute = Sandbox.from_recording(file)
    for change in (
        lambda: institute.insert_attempts(1),
        lambda: institute.edit_attempt(1, score="1"),
        lambda: institute.insert_content_attempts(1),
        lambda: institute.truth.count("attempts"),
        lambda: institute.history,
    ):
        with pytest.raises(RuntimeError, match="a recording stays as it is"):
            change()


# --- the file ----------------------------------------------------------------------------------------


async def test_an_answer_that_was_never_good_fails_the_recording() -> None:
    """What the client was given and the recorder could not read is told, not left out."""
    recorder = Recorder()

    async def handler(request: tp.Request) -> tp.Response:
        return tp.Response(status=200, headers={}, body=b'{"count": 1, "results": [{"id": NaN}]}')

    await recorder(tp.Request(target="/api/v2.5/admin/attempts/"), handler)
    with pytest.raises(tp.DatasetError, match=r"admin/attempts/: an answer could not be recorded"):
        recorder.file("x")


def test_an_empty_recording_is_refused() -> None:
    """A file without answers helps nobody."""
    with pytest.raises(tp.DatasetError, match="nothing was answered"):
        Recorder().file("x")


async def test_tokens_and_passwords_are_not_recorded(tmp_path: Path) -> None:
    """Logins are no reads."""
    file = tmp_path / "institute.jsonl"
    await recorded(file, lambda client: client.attempts.list().collect())
    text = file.read_text()
    assert "auth-token" not in text
    assert "eyJ" not in text


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "is no recording"),
    "something else": (lambda data: b'{"id": 1}\n', "is no recording"),
    "binary": (lambda data: b"\x00\xff" * 40, "is no recording"),
    "cut in a line": (lambda data: data[:-200], "is cut off"),
    "cut between lines": (lambda data: data[: data.rindex(b"\n", 0, -1) + 1], "is cut off"),
    "a digit": (lambda data: data.replace(b'"count":50', b'"count":51', 1), "has been changed"),
    "a line less": (
        lambda data: b"\n".join(data.split(b"\n")[:1] + data.split(b"\n")[2:]),
        "has been changed",
    ),
    "newer": (lambda data: data.replace(b'"version":1', b'"version":2'), "was made by a newer version"),
    "half a gzip": (lambda data: gzip.compress(data)[:-30], "is cut off or damaged"),
    "a broken gzip": (lambda data: b"\x1f\x8b" + data, "is cut off or damaged"),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("recording") / "institute.jsonl"
    asyncio.run(recorded(file, lambda client: client.attempts.list().collect()))
    return file.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_a_remedy(intact: bytes, tmp_path: Path, damage: str) -> None:
    """Cut, edited, foreign and newer files are told apart; none is replayed in part."""
    change, told = DAMAGES[damage]
    (tmp_path / "institute.jsonl").write_bytes(change(intact))
    with pytest.raises(tp.DatasetError, match=rf"institute\.jsonl: {told}.*(testpress record|pip install)"):
        Sandbox.from_recording(tmp_path / "institute.jsonl")


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """There is none, or a directory of that name."""
    with pytest.raises(tp.DatasetError, match=r"No such file|Is a directory"):
        Sandbox.from_recording(tmp_path / name)


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TESTPRESS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`testpress record`, in a small institute."""

    def record(*arguments: str) -> int:
        with served(**SIZE) as institute:
            monkeypatch.setenv("TESTPRESS_BASE_URL", institute.url)
            monkeypatch.setenv("TESTPRESS_USERNAME", institute.username)
            monkeypatch.setenv("TESTPRESS_PASSWORD", institute.password)
            return run(["record", *arguments])

    return record


@pytest.mark.parametrize("name", ["institute.jsonl", "institute.jsonl.gz"])
def test_the_command_writes_a_file_that_replays(
    command: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """All tables, plain or gzipped, for the owner only; what it read is told on stderr."""
    file = tmp_path / name
    arguments = [*EVERY_TABLE, *PER_PARENT, "--max-pages", "9", "--max-parents", "10", "--out", str(file)]
    assert command(*arguments) == exits.DONE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert file.read_bytes().startswith(b"\x1f\x8b" if name.endswith(".gz") else b"{")
    out, err = capfd.readouterr()
    assert out == ""
    assert "attempts: 50 records" in err
    assert err.splitlines()[-1].startswith("Recorded ")

    async def read(client: tp.Client) -> list[int]:
        return [
            len(await client.attempts.list().collect()),
            len(await client.content_attempts.list().collect()),
            len(await client.exams.list().collect()),
            len(await client.users.list().collect()),
            len(await client.courses.list().collect()),
            (await client.attempts.get(1)).id,
            len(await client.attempts.user_answers(1).collect()) > 0,
            len(await client.video_conferences.attendees(1).collect()) >= 0,
        ]

    assert asyncio.run(replayed(file, read)) == [50, 40, 3, 30, 3, 1, True, True]


def test_filters_and_limits_reach_it(command: Callable[..., int], tmp_path: Path) -> None:
    """Only what was named is asked for, as often as allowed; what others depend on is recorded too."""
    file = tmp_path / "institute.jsonl"
    limits = "--exams", "1", "--max-pages", "1", "--max-parents", "2", "--quiet"
    assert command("user_answers", *limits, "--out", str(file)) == exits.DONE
    lines = [json.loads(line) for line in file.read_bytes().splitlines()[1:-1]]
    assert [(line["path"].rpartition("/admin/")[2], line["filters"]) for line in lines][:1] == [
        ("attempts/", "exams=1")
    ]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["exam_questions"], "tables: 'exam_questions' is not among attempts, content_attempts"),
        (["exams", "--exams", "3"], "--exams: means nothing for exams"),
        (["--max-pages", "0"], "--max-pages and --max-parents: expected at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sent."""
    assert run(["record", *arguments, "--sandbox", "--out", str(tmp_path / "file")]) == exits.USAGE
    assert told in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_recording_keeps_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old recording stays whole when the new one does not come to its end."""
    file = tmp_path / "institute.jsonl"
    file.write_bytes(b"old")
    with served(**SIZE) as institute:
        institute.script(Fault(path="/api/v3/", status=403))
        monkeypatch.setenv("TESTPRESS_BASE_URL", institute.url)
        monkeypatch.setenv("TESTPRESS_TOKEN", institute.token())
        assert run(["record", "attempts", "content_attempts", "--out", str(file)]) == exits.REFUSED
    assert [file.read_bytes(), *tmp_path.iterdir()] == [b"old", file]


def test_a_record_that_is_none_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that is a number, or has no id, is recorded; its answers are not asked for."""
    with served(**SIZE) as institute:
        page = b'{"count": 3, "next": null, "results": [7, {"name": "Asha"}, {"id": 2}]}'
        institute.script(Fault(path="/api/v2.5/admin/attempts/", status=200, body=page))
        monkeypatch.setenv("TESTPRESS_BASE_URL", institute.url)
        monkeypatch.setenv("TESTPRESS_TOKEN", institute.token())
        file = tmp_path / "institute.jsonl"
        assert run(["record", "attempts", "user_answers", "--quiet", "--out", str(file)]) == exits.DONE
        assert {seen.path.partition("attempts/")[2] for seen in institute.log} == {"", "2/user_answers/"}
    assert b"Asha" not in file.read_bytes()


def test_a_place_that_cannot_be_written_is_told(
    command: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A directory in the file's place, by its name and with a remedy."""
    (tmp_path / "file").mkdir()
    assert command("exams", "--out", str(tmp_path / "file")) == exits.DISK
    assert f"{tmp_path}/file: Is a directory. Move it away" in capfd.readouterr().err
