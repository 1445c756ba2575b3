"""The reference names all that is public: each name, each field and its source, each error and its facts."""

from __future__ import annotations

import json
import re
from inspect import signature

import pytest

import testpress_async as tp
from testpress_async import errors
from tests.support.fields import PAGE, RECORDS, ROW, TABLE, fields_of, rewritten
from tests.support.markdown import ROOT

PAGES = [*sorted((ROOT / "docs/reference").glob("*.md")), ROOT / "docs/events.md"]
REFERENCE = {page.name: page.read_text() for page in PAGES}
DIRECTIVE = re.compile(r"^::: testpress_async\.([\w.]+)$", re.MULTILINE)
NAMED = re.compile(r"^##+ `?([A-Za-z_]+)`?$", re.MULTILINE)


def documented() -> list[str]:
    """Names with a place of their own: taken from a docstring, or under a heading that is the name."""
    found: list[str] = []
    for text in REFERENCE.values():
        from_code = [path.rpartition(".")[2] for path in DIRECTIVE.findall(text)]
        headings = [name for name in NAMED.findall(text) if name in tp.__all__]
        found += from_code + [name for name in headings if name not in from_code]
    return found


def test_every_public_name_is_documented() -> None:
    """`__all__` is what the reference documents."""
    assert set(tp.__all__) - set(documented()) == set()


def test_nothing_is_documented_twice() -> None:
    """One place a name, so that a link leads to it."""
    names = documented()
    assert sorted(names) == sorted(set(names))


def test_what_is_documented_besides_hangs_on_the_client() -> None:
    """Only the classes of `client.attempts` and its like are not exported and documented all the same."""
    clients = {type(value).__name__ for value in vars(tp.Client("http://localhost", token="-")).values()}
    assert set(documented()) - set(tp.__all__) <= clients


# --- records -----------------------------------------------------------------------------------------

RECORDS_PAGE = PAGE.read_text()
SHOWN = {table["name"]: ROW.findall(table["rows"]) for table in TABLE.finditer(RECORDS_PAGE)}
SOURCE = re.compile(r"(DOC( courses| exams| users| students| webhook| live classes)?|OBS (apps|mirror)|INF)")
SAID_IN_WORDS = {"Attendance": {"joined_time"}, "User": {"id", "username", "email", "phone"}}


def keys(rows: object) -> set[str]:
    return {key for row in rows for key in row} if isinstance(rows, list) else keys([rows])


def samples() -> dict[str, set[str]]:
    """The fields of each record that the documentation's examples show."""

    def of(name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((ROOT / f"tests/samples/{name}.json").read_text())
        return found

    detail = of("attempt_detail")
    answers, contents = of("user_answers")["results"], of("content_attempts")["results"]
    assert isinstance(answers, dict)
    assert isinstance(contents, dict)
    return {
        "Attempt": keys(of("attempts_list")["results"]),
        "AttemptDetail": keys(detail),
        "AttemptSection": keys(detail["sections"]),
        "SubjectStats": keys(detail["subject_stats"]),
        "DifficultyStats": keys(list(detail["difficulty_level_stats"].values())),  # type: ignore[attr-defined]
        "UserAnswer": keys(answers["user_answers"]),
        "ExamQuestion": keys(answers["exam_questions"]),
        "AnswerChoice": keys(answers["exam_questions"][0]["answers"]),
        "Attendance": keys(of("video_conference")["results"]),
        "ContentAttempt": keys(contents["content_attempts"]),
        "UserVideo": keys(contents["user_videos"]),
        "UserExam": keys(contents["user_exams"]),
        "Course": keys(contents["courses"]),
        "ChapterContent": keys(contents["chapter_contents"]),
        "UserVideoConference": keys(contents["user_video_conferences"]),
        "VideoConference": keys([row["video_conference"] for row in contents["user_video_conferences"]]),
        "UserLiveStream": keys(contents["user_live_streams"]),
        "LiveStream": keys([row["live_stream"] for row in contents["user_live_streams"]]),
    }


IN_SAMPLES = samples()
every_record = pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)


def test_the_tables_are_those_of_the_code() -> None:
    """`python -m tests.support.fields` would change nothing; every record has one table."""
    assert rewritten(RECORDS_PAGE) == RECORDS_PAGE
    assert sorted(SHOWN) == sorted(kind.__name__ for kind in RECORDS)


@every_record
def test_every_field_has_a_source(kind: type[tp.Record]) -> None:
    """One of those the page explains."""
    for name, _, source, _ in SHOWN[kind.__name__]:
        assert SOURCE.fullmatch(source), name
        assert f"`{source}`" in RECORDS_PAGE


@every_record
def test_documented_is_what_the_examples_show(kind: type[tp.Record]) -> None:
    """Plain DOC stands at the fields of the examples, of the documentation's words, and at joins."""
    name = kind.__name__
    shown = {field for field, _, source, _ in SHOWN[name] if source == "DOC"}
    own = {field.name for field in fields_of(kind)}
    joins = own & {field.name for field in fields_of(kind) if field.about.startswith("The row of")}
    assert shown == (own & IN_SAMPLES.get(name, set())) | SAID_IN_WORDS.get(name, set()) | joins


@every_record
def test_a_record_has_no_field_the_page_does_not_tell(kind: type[tp.Record]) -> None:
    """Checked by what `dir` shows, not by what makes the tables."""
    shown = {field for field, *_ in SHOWN[kind.__name__]}
    shown |= {field for base in kind.__mro__ if base.__name__ in SHOWN for field, *_ in SHOWN[base.__name__]}
    readable = {name for name in dir(kind) if not name.startswith(("_", "raw_"))}
    assert readable - set(dir(tp.Record)) == shown


# --- errors ------------------------------------------------------------------------------------------

SECTIONS = dict(
    re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", REFERENCE["errors.md"], re.MULTILINE | re.DOTALL)
)


def readable(error: type[tp.Error]) -> set[str]:
    """What can be read of such an error, and not of any exception."""
    asked = [] if error is tp.Error else signature(error).parameters.values()
    values = [
        1 if each.annotation in ("int", "float") else "" for each in asked if each.default is each.empty
    ]
    return {name for name in set(dir(error(*values))) - set(dir(Exception())) if not name.startswith("_")}


def facts_of(error: type[tp.Error]) -> set[str]:
    """What it has and its base has not."""
    bases = [base for base in error.__mro__[1:] if base.__name__ in errors.__all__]
    return readable(error) - (readable(bases[0]) if bases else set[str]())


def test_every_error_has_its_section() -> None:
    """And nothing else has one."""
    assert set(SECTIONS) == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_errors_section_tells_cause_facts_and_remedy(name: str) -> None:
    """Every attribute it adds is named under its facts."""
    when, facts, remedy = re.split(
        r"^\*\*(?:When|Facts|What to do)\.\*\* ", SECTIONS[name], flags=re.MULTILINE
    )[1:]
    assert when.strip()
    assert remedy.strip()
    named = set(re.findall(r"`(\w+)`(?=[:,. ])", facts))
    assert facts_of(getattr(tp, name)) - named == set()


# --- environment -------------------------------------------------------------------------------------


def test_every_variable_is_on_the_page() -> None:
    """Those that the code names, and no other of ours."""
    sources = "".join(file.read_text() for file in (ROOT / "testpress_async").rglob("*.py"))
    page = (ROOT / "docs/environment.md").read_text()
    variable = re.compile(r"\bTESTPRESS_[A-Z_]+[A-Z]\b")
    assert set(variable.findall(page)) == set(variable.findall(sources))
