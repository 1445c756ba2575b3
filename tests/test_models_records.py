"""Records: every quirk of the server's types, absent against null, joins, and values of what is frozen."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TypeVar

import msgspec
import pytest
from msgspec import UNSET

from testpress_async.errors import DecodeFailed
from testpress_async.models import (
    CONTENT_ATTEMPTS,
    USER_ANSWERS,
    AnswerFile,
    AnswerResult,
    Attempt,
    AttemptDetail,
    AttemptResult,
    AttemptSection,
    AttemptState,
    Attendance,
    ChapterContent,
    ContentAttempt,
    Course,
    Exam,
    ExamQuestion,
    GapFillResponse,
    JoinedRecord,
    LiveStream,
    Reading,
    Record,
    SideLoads,
    SubjectStats,
    User,
    UserAnswer,
    UserExam,
    UserVideo,
    UserVideoConference,
    VideoConference,
)
from testpress_async.models.record import attach_side_loads

R = TypeVar("R", bound=Record)
INDIA = timezone(timedelta(hours=5, minutes=30))


def record_types(base: type[Record] = Record) -> Iterator[type[Record]]:
    for record_type in base.__subclasses__():
        yield record_type
        yield from record_types(record_type)


RECORD_TYPES = [t for t in record_types() if t is not JoinedRecord]


def made(record_type: type[R], **fields: object) -> R:
    return msgspec.json.decode(json.dumps({"id": 7, **fields}), type=record_type)


QUIRKS: list[tuple[type[Record], dict[str, object], str, object]] = [
    # One quantity, several types; texts are exact; "NA" is nothing.
    (Attempt, {"score": "90.00"}, "score", Decimal("90.00")),
    (Attempt, {"score": "-2.00"}, "score", Decimal("-2.00")),
    (Attempt, {"score": "15.0000"}, "score", Decimal("15.0000")),
    (Attempt, {"score": 0}, "score", Decimal(0)),
    (Attempt, {"score": "NA"}, "score", None),
    (Attempt, {"percentage": 0}, "percentage", Decimal(0)),
    (Attempt, {"percentage": "12"}, "percentage", Decimal(12)),
    (Attempt, {"percentage": 83.64}, "percentage", Decimal("83.64")),
    (Attempt, {"speed": 0}, "speed", Decimal(0)),
    (Attempt, {"accuracy": 12.5}, "accuracy", Decimal("12.5")),
    (Attempt, {"total_score": 80}, "total_score", Decimal(80)),
    (Attempt, {"total_bonus": "1.00"}, "total_bonus", Decimal(1)),
    (Attempt, {"rank": "NA"}, "rank", None),
    (Attempt, {"rank": 4}, "rank", 4),
    (Attempt, {"max_rank": 165}, "max_rank", 165),
    (Attempt, {"max_rank": "NA"}, "max_rank", None),
    (AttemptDetail, {"percentile": 0}, "percentile", Decimal(0)),
    (AttemptDetail, {"percentile": 83.64}, "percentile", Decimal("83.64")),
    (AttemptDetail, {"percentile": "100.0"}, "percentile", Decimal(100)),
    (UserExam, {"percentage": "0.00"}, "percentage", Decimal(0)),
    (UserExam, {"total_score": "7.00"}, "total_score", Decimal(7)),
    (UserExam, {"total_score": 80}, "total_score", Decimal(80)),
    (UserExam, {"rank": "NA", "result": "NA"}, "rank", None),
    (UserExam, {"rank": "4"}, "rank", 4),
    (UserExam, {"max_rank": "NA"}, "max_rank", None),
    (UserExam, {"result": "NA"}, "result", AttemptResult.NOT_AVAILABLE),
    (ExamQuestion, {"marks": "1.00"}, "marks", Decimal(1)),
    (ExamQuestion, {"negative_marks": "0.33"}, "negative_marks", Decimal("0.33")),
    (ExamQuestion, {"partial_marks": None}, "partial_marks", None),
    (ExamQuestion, {"percentage_got_correct": "45.5"}, "percentage_got_correct", Decimal("45.5")),
    (UserVideo, {"watched_percentage": 12.5}, "watched_percentage", Decimal("12.5")),
    (UserVideo, {"watched_percentage": None}, "watched_percentage", None),
    (ContentAttempt, {"trophies": "NA"}, "trophies", None),
    (ContentAttempt, {"trophies": 12}, "trophies", Decimal(12)),
    (ContentAttempt, {"coins": 3}, "coins", Decimal(3)),
    (ChapterContent, {"average_rating": "4.5"}, "average_rating", Decimal("4.5")),
    # The same name, another unit or spelling.
    (Attempt, {"remaining_time": "0:10:00"}, "remaining_time", timedelta(minutes=10)),
    (ContentAttempt, {"remaining_time": "1171.627827"}, "remaining_time", timedelta(seconds=1171.627827)),
    (ContentAttempt, {"remaining_time": "0.00"}, "remaining_time", timedelta(0)),
    (Attempt, {"time_taken": "20 days, 3:58:48"}, "time_taken", timedelta(days=20, seconds=14328)),
    (UserVideo, {"remaining_duration": "593.0"}, "remaining_duration", timedelta(seconds=593)),
    (UserVideo, {"watched_duration": "18 seconds"}, "watched_duration", timedelta(seconds=18)),
    (UserVideo, {"last_position": "10.5"}, "last_position", timedelta(seconds=10.5)),
    (UserAnswer, {"duration": 5}, "duration", timedelta(seconds=5)),
    (UserAnswer, {"duration": "NA"}, "duration", None),
    (UserAnswer, {"duration": "1 day, 0:00:05"}, "duration", timedelta(days=1, seconds=5)),
    (UserVideoConference, {"duration": 120}, "duration", timedelta(minutes=2)),
    (VideoConference, {"duration": 15}, "duration", timedelta(minutes=15)),
    (LiveStream, {"duration": 15}, "duration", timedelta(minutes=15)),
    (Attendance, {"duration": 120}, "duration", timedelta(minutes=2)),
    (Exam, {"duration": "17:15:12"}, "duration", timedelta(hours=17, minutes=15, seconds=12)),
    (Exam, {"duration": None}, "duration", None),
    (AttemptSection, {"duration": "0:20:00"}, "duration", timedelta(minutes=20)),
    # Times are aware, whichever zone and however many digits.
    (Attempt, {"date": "2021-03-16T03:59:21Z"}, "date", datetime(2021, 3, 16, 3, 59, 21, tzinfo=UTC)),
    (
        Attempt,
        {"date": "2021-03-16T03:59:21.860+05:30"},
        "date",
        datetime(2021, 3, 16, 3, 59, 21, 860_000, INDIA),
    ),
    (
        Attempt,
        {"date": "2015-03-16T03:59:21.860924+07:00"},
        "date",
        datetime(2015, 3, 16, 3, 59, 21, 860924, timezone(timedelta(hours=7))),
    ),
    # Odd but seen.
    (Attempt, {"state": "Did not finish"}, "state", AttemptState("Did not finish")),
    (Attempt, {"result": "Withheld"}, "result", AttemptResult("Withheld")),
    (UserAnswer, {"result": "Half right"}, "result", AnswerResult("Half right")),
    (Attempt, {"phone": 9876543210}, "phone", 9876543210),
    (Attempt, {"attempt_type": 1}, "attempt_type", 1),
    (AttemptDetail, {"institute_attempt_id": 100101}, "institute_attempt_id", 100101),
    (AttemptDetail, {"institute_attempt_id": "REF-1"}, "institute_attempt_id", "REF-1"),
    (AttemptDetail, {"institute_attempt_id": None}, "institute_attempt_id", None),
    (AttemptDetail, {"username": 38}, "username", 38),
    (AttemptDetail, {"difficulty_level_stats": {}}, "difficulty_level_stats", {}),
    (AttemptDetail, {"sections": []}, "sections", ()),
    (SubjectStats, {"subject_id": None, "answered_count": 3}, "answered_count", 3),
    (SubjectStats, {"score": "0.00"}, "score", Decimal(0)),
    (UserAnswer, {"selected_answers": None}, "selected_answers", None),
    (UserAnswer, {"selected_answers": []}, "selected_answers", ()),
    (UserAnswer, {"selected_answer_ids": [5]}, "selected_answer_ids", (5,)),
    (UserAnswer, {"review": None, "guessed": True}, "guessed", True),
    (UserAnswer, {"files": ["a.pdf"]}, "files", ("a.pdf",)),
    (UserAnswer, {"files": [{"id": 1, "url": "u"}]}, "files", (AnswerFile(id=1, url="u"),)),
    (UserAnswer, {"files": ["a.pdf", {"path": "p"}]}, "files", ("a.pdf", AnswerFile(path="p"))),
    (
        UserAnswer,
        {"gap_fill_responses": [{"order": 1, "answer": "a"}, {"order": "2", "answer": None}]},
        "gap_fill_responses",
        (GapFillResponse(order=1, answer="a"), GapFillResponse(order="2", answer=None)),
    ),
    (UserAnswer, {"user_response": {"any": ["thing"]}}, "user_response", {"any": ["thing"]}),
    (ExamQuestion, {"answers": None}, "answers", None),
    (ExamQuestion, {"answers": []}, "answers", ()),
    (ExamQuestion, {"type": "R"}, "type", "R"),
    (ExamQuestion, {"translations": [{"language": "ta"}]}, "translations", [{"language": "ta"}]),
    (UserVideo, {"state": 1}, "state", 1),
    (UserVideo, {"state": "Started"}, "state", "Started"),
    (VideoConference, {"conference_id": 79401700412}, "conference_id", 79401700412),
    (User, {"custom_fields": {"Graduation Year": 2020}}, "custom_fields", {"Graduation Year": 2020}),
    (Course, {"tags": ["a"], "layout": None}, "tags", ["a"]),
]


@pytest.mark.parametrize(("record_type", "wire", "name", "meaning"), QUIRKS)
def test_every_known_quirk_is_read_and_sent_back_unchanged(
    record_type: type[Record], wire: dict[str, object], name: str, meaning: object
) -> None:
    """The value means what it should, and encodes to what was sent."""
    record = made(record_type, **wire)
    value = getattr(record, name)
    assert value == meaning
    assert type(value) is type(meaning)
    encoded = json.loads(msgspec.json.encode(record))
    if isinstance(meaning, datetime):
        encoded = {name: datetime.fromisoformat(encoded[name])}
        wire = {name: meaning}
    assert {key: encoded[key] for key in wire} == wire


@pytest.mark.parametrize("record_id", [2**31, 1_021_279_043, 2**53 + 1, 2**63 - 1])
def test_large_ids_are_kept_to_the_last_digit(record_id: int) -> None:
    """Ids up to 64 bits are integers, never floats."""
    attempt = made(Attempt, id=record_id, exam_id=record_id)
    assert (attempt.id, attempt.exam_id) == (record_id, record_id)


@pytest.mark.parametrize("record_id", [2**63, -(2**63) - 1, 10**30, 1.0, "7", True, None])
def test_what_is_no_64_bit_integer_is_no_id(record_id: object) -> None:
    """Such an id would break the tables built from it."""
    with pytest.raises(msgspec.ValidationError):
        made(Attempt, id=record_id)


def test_a_time_without_zone_is_refused() -> None:
    """A naive time could be any of 24 hours."""
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        made(Attempt, date="2021-03-16T03:59:21")


@pytest.mark.parametrize("name", ["join_time", "joined_time"])
def test_coming_to_a_conference_is_read_under_either_name(name: str) -> None:
    """The documentation's table and example disagree; both names give the time, and only one is sent back."""
    row = {name: "2024-06-10T16:20:26+05:30"}
    attendance = msgspec.json.decode(json.dumps(row), type=Attendance)
    assert attendance.join_time == attendance.joined_time == datetime(2024, 6, 10, 16, 20, 26, tzinfo=INDIA)
    encoded = json.loads(msgspec.json.encode(attendance))
    assert {key for key in encoded if key.startswith("join")} == {name}


@pytest.mark.parametrize("row", [{}, {"join_time": None}, {"joined_time": None}])
def test_coming_to_a_conference_may_be_unknown(row: dict[str, object]) -> None:
    """Null and absent both mean that the time is not known."""
    assert msgspec.json.decode(json.dumps(row), type=Attendance).join_time is None


def test_absent_and_null_differ() -> None:
    """A content attempt that is no exam has no counts; one whose counts are null has null."""
    absent, null = made(ContentAttempt), made(ContentAttempt, correct_answers_count=None)
    assert absent.correct_answers_count is UNSET
    assert null.correct_answers_count is None
    assert absent != null
    assert "correct_answers_count" not in json.loads(msgspec.json.encode(absent))
    assert json.loads(msgspec.json.encode(null))["correct_answers_count"] is None


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_only_ids_are_required_and_unknown_fields_are_ignored(record_type: type[Record]) -> None:
    """A record of nothing but an id is read, whatever else is there."""
    record = made(record_type, a_field_of_next_year={"deep": [1]})
    required = [f.name for f in msgspec.structs.fields(record_type) if f.required]
    assert required in ([], ["id"])
    assert not hasattr(record, "a_field_of_next_year")


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_records_are_frozen_values_made_by_keyword(record_type: type[Record]) -> None:
    """Nobody can change a record under another's feet; equal ones are equal and survive pickle and copy."""
    record = made(record_type)
    name = record_type.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(record, name, 8)
    with pytest.raises(TypeError):
        record_type(7)
    assert record == made(record_type)
    assert hash(record) == hash(made(record_type))
    for again in (pickle.loads(pickle.dumps(record)), copy.copy(record), copy.deepcopy(record)):
        assert again == record
        assert type(again) is record_type


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_every_raw_value_has_a_meaning_under_its_name_on_the_wire(record_type: type[Record]) -> None:
    """`raw_x` is the field `x` of the server, and `x` is its meaning: None if there is none."""
    record = made(record_type)
    for field in msgspec.structs.fields(record_type):
        if field.name.startswith("raw_"):
            assert field.encode_name == field.name.removeprefix("raw_")
            assert getattr(record, field.encode_name) is None
        else:
            assert field.encode_name == field.name


@pytest.mark.parametrize(
    ("record_type", "field", "expected"),
    [
        (Attempt, "time_taken", "expected a duration"),
        (Attempt, "score", "expected a number or `NA`"),
        (Attempt, "rank", "expected a number or `NA`"),
        (UserAnswer, "duration", "expected a duration"),
        (User, "birth_date", "expected a day as DD/MM/YYYY"),
    ],
)
def test_a_text_without_meaning_is_kept_and_reported_on_access(
    record_type: type[Record], field: str, expected: str
) -> None:
    """The record is read; only asking for the meaning raises, naming field and record but not the text."""
    record = made(record_type, **{field: "Asha Rao"})
    assert getattr(record, f"raw_{field}") == "Asha Rao"
    with pytest.raises(DecodeFailed) as caught:
        getattr(record, field)
    assert (caught.value.path, caught.value.record_id) == (f"$.{field}", 7)
    assert expected in caught.value.expected
    assert "Asha" not in str(caught.value) + repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_text_without_meaning_in_a_record_without_id_names_no_id() -> None:
    """Attendance has no id to name."""
    with pytest.raises(DecodeFailed) as caught:
        Attendance(raw_duration="soon").duration
    assert caught.value.record_id is None


def content_page() -> Reading[ContentAttempt]:
    row = {
        "id": 1,
        "user_id": 2,
        "course_id": 3,
        "chapter_content_id": 4,
        "assessment_id": 5,
        "user_video_id": 6,
        "user_video_conference_id": 7,
        "user_live_stream_id": 8,
    }
    tables = {
        "users": 2,
        "courses": 3,
        "chapter_contents": 4,
        "user_exams": 5,
        "user_videos": 6,
        "user_video_conferences": 7,
        "user_live_streams": 8,
    }
    side_loads = {table: [{"id": 99}, {"id": row_id}] for table, row_id in tables.items()}
    results = {"content_attempts": [row, {"id": 10}], **side_loads}
    return CONTENT_ATTEMPTS.read(json.dumps({"results": results}).encode())


JOINS = {
    "user": ("users", 2),
    "course": ("courses", 3),
    "chapter_content": ("chapter_contents", 4),
    "user_exam": ("user_exams", 5),
    "user_video": ("user_videos", 6),
    "user_video_conference": ("user_video_conferences", 7),
    "user_live_stream": ("user_live_streams", 8),
}


@pytest.mark.parametrize(("join", "table", "row_id"), [(join, *target) for join, target in JOINS.items()])
def test_a_join_is_the_very_row_that_was_sent_along(join: str, table: str, row_id: int) -> None:
    """Each join follows its own id into its own table; without an id there is no row."""
    reading = content_page()
    joined, bare = reading.items
    assert getattr(joined, join) is reading.tables[table][1]
    assert getattr(joined, join).id == row_id
    assert getattr(bare, join) is None


def test_a_record_made_by_hand_has_no_joins() -> None:
    """A join of a record that came with nothing is None, not an error."""
    assert UserAnswer(id=1, exam_question_id=2).question is None


def test_joins_take_no_part_in_comparing_hashing_and_encoding() -> None:
    """A record equals, hashes and encodes as it would alone."""
    joined = content_page().items[0]
    alone = msgspec.structs.replace(joined)
    assert alone.course is None
    assert joined == alone
    assert hash(joined) == hash(alone)
    assert msgspec.json.encode(joined) == msgspec.json.encode(alone)


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda record: pickle.loads(pickle.dumps(record))],
    ids=["copy", "deep", "pickle"],
)
def test_joins_survive_copy_and_pickle(again: object) -> None:
    """A copied or pickled record still finds everything it was joined to."""
    joined = content_page().items[0]
    assert callable(again)
    copied = again(joined)
    assert copied == joined
    for join in JOINS:
        assert getattr(copied, join) is not None
        assert getattr(copied, join) == getattr(joined, join)


def test_a_pickled_record_leaves_its_page_behind() -> None:
    """Sending one answer elsewhere sends one question, not all of the page's."""
    questions = [{"id": number, "question_html": "x" * 1000} for number in range(100)]
    results = {"user_answers": [{"id": 1, "exam_question_id": 50}], "exam_questions": questions}
    (answer,) = USER_ANSWERS.read(json.dumps({"results": results}).encode()).items
    assert len(pickle.dumps(answer)) < 3000


def test_a_join_into_a_table_of_other_records_is_none() -> None:
    """A row of the wrong type is not passed off as the right one."""
    answer = UserAnswer(id=1, exam_question_id=2)
    attach_side_loads([answer], SideLoads({"exam_questions": [Course(id=2)]}))
    assert answer.question is None


def test_meanings_and_joins_describe_themselves_on_the_class() -> None:
    """On the class they are themselves, as properties are."""
    assert type(Attempt.score).__name__ == "Exact"
    assert UserAnswer.question.table == "exam_questions"
