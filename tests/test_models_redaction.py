"""Nothing personal and no secret gets into a repr, a log line or a rich print."""

from __future__ import annotations

import io
import json
import logging

import msgspec
import pytest
from rich.console import Console
from rich.pretty import pretty_repr

from testpress_async.errors import DecodeFailed
from testpress_async.models import ATTEMPTS, Attempt, AttemptState, ContentAttempt, Head, Record, UserAnswer
from testpress_async.models.record import Discreet

from .test_models_records import RECORD_TYPES

SECRET = "Asha-Rao-4711"
# Tried in this order for each field: the first that decodes fills it, so that text goes wherever text can go.
FILLINGS: list[object] = [
    SECRET,
    [SECRET],
    {SECRET: {"total_count": 1}},
    [{"id": 1, "text_html": SECRET, "answer": SECRET, "section_name": SECRET, "subject_name": SECRET}],
    {"id": 1, "title": SECRET, "password": SECRET, "join_url": SECRET, "stream_url": SECRET},
    "2031-05-06T07:08:09Z",
    True,
    4711,
]


def full_of_secrets(record_type: type[Record]) -> tuple[Record, set[str]]:
    """A record with every field filled, and the names of those that hold the secret."""
    row: dict[str, object] = {"id": 7} if "id" in record_type.__struct_fields__ else {}
    for field in msgspec.structs.fields(record_type):
        for filling in FILLINGS:
            try:
                msgspec.json.decode(json.dumps({"id": 7, field.encode_name: filling}), type=record_type)
            except msgspec.ValidationError:
                continue
            row[field.encode_name] = filling
            break
    secret = {name for name, value in row.items() if SECRET in json.dumps(value)}
    return msgspec.json.decode(json.dumps(row), type=record_type), secret


def everything_printed(value: object) -> str:
    screen, log = io.StringIO(), io.StringIO()
    Console(file=screen, width=200).print(value, [value], {"record": value})
    handler = logging.StreamHandler(log)
    handler.emit(logging.LogRecord("t", logging.INFO, __file__, 1, "%s %r", (value, value), None))
    return " ".join(
        [
            repr(value),
            str(value),
            f"{value}",
            f"{value!r}",
            pretty_repr(value),
            screen.getvalue(),
            log.getvalue(),
        ]
    )


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_no_record_prints_a_text_it_holds(record_type: type[Record]) -> None:
    """With every field filled with a secret, no way of printing a record shows it."""
    record, secret = full_of_secrets(record_type)
    assert secret or record_type.__name__ == "DifficultyStats"
    printed = everything_printed(record)
    assert SECRET not in printed
    assert "2031" not in printed
    assert record_type.__name__ in printed


def test_the_fillings_reach_what_must_never_be_printed() -> None:
    """The test above does fill the fields that matter most."""
    filled = {(t.__name__, name) for t in RECORD_TYPES for name in full_of_secrets(t)[1]}
    assert filled >= {
        ("Attempt", "email"),
        ("Attempt", "state"),
        ("AttemptDetail", "username"),
        ("AttemptDetail", "subject_stats"),
        ("Attendance", "email"),
        ("ContentAttempt", "content_type"),
        ("ExamQuestion", "question_html"),
        ("User", "phone"),
        ("User", "password_hash"),
        ("UserAnswer", "user_response"),
        ("UserVideoConference", "video_conference"),
        ("VideoConference", "access_token"),
        ("VideoConference", "join_url"),
        ("VideoConference", "password"),
        ("LiveStream", "stream_url"),
    }


def test_a_new_record_that_says_nothing_shows_its_id_only() -> None:
    """Whoever forgets to choose what is shown has chosen the id."""

    class Fresh(Record, frozen=True, kw_only=True):
        id: int
        name: str

    assert repr(Fresh(id=7, name=SECRET)) == "Fresh(id=7)"


def test_a_discreet_value_shows_nothing_until_told() -> None:
    """The base of everything printable here prints no field by itself."""

    class Fresh(Discreet, frozen=True):
        token: str

    assert SECRET not in everything_printed(Fresh(token=SECRET))
    assert repr(Fresh(token=SECRET)) == "Fresh()"


def test_a_field_shown_by_mistake_shows_no_text() -> None:
    """Even a listed field prints only numbers and known words."""

    class Careless(Record, frozen=True, kw_only=True):
        _shown = ("id", "name", "missing")
        id: int
        name: str

    assert repr(Careless(id=7, name=SECRET)) == "Careless(id=7, name=…)"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            Attempt(id=68701, exam_id=133, state=AttemptState.COMPLETED),
            "Attempt(id=68701, exam_id=133, state='Completed')",
        ),
        (Attempt(id=1, state=AttemptState("Asha")), "Attempt(id=1, exam_id=None, state=…)"),
        (UserAnswer(id=1, exam_question_id=2), "UserAnswer(id=1, exam_question_id=2, result=None)"),
        (ContentAttempt(id=1), "ContentAttempt(id=1, content_type=None, state=None)"),
    ],
)
def test_a_repr_says_which_record_it_is(record: Record, text: str) -> None:
    """Ids and known words, the same for repr and rich."""
    assert repr(record) == text
    assert pretty_repr(record) == text


def test_a_page_prints_sizes_and_no_address() -> None:
    """`next` repeats the filters of the request, which can be a name; records print as ever."""
    rows = [{"id": 1, "name": SECRET}, {"id": "x", "name": SECRET}]
    body = json.dumps(
        {"count": 2, "per_page": 200, "next": f"https://x/?q={SECRET}", "results": rows}
    ).encode()
    reading, raw = ATTEMPTS.read(body), ATTEMPTS.split(body)
    assert repr(reading) == (
        "Reading(head=Head(count=2, per_page=200, next=…), items=1, tables={}, rejected=1)"
    )
    assert (
        repr(raw) == "RawReading(head=Head(count=2, per_page=200, next=…), rows={'attempts': 2}, rejected=0)"
    )
    assert repr(Head()) == "Head(count=None, per_page=None, next=None)"
    for value in (reading, raw, reading.head):
        assert SECRET not in everything_printed(value)


def test_an_error_shows_no_bytes_of_the_record() -> None:
    """The bytes are there to be looked at, not to be printed."""
    (fault,) = ATTEMPTS.read(
        json.dumps({"results": [{"id": 5, "name": SECRET, "date": SECRET}]}).encode()
    ).rejected
    assert isinstance(fault, DecodeFailed)
    assert SECRET.encode() in fault.raw
    assert SECRET not in everything_printed(fault)
