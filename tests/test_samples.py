"""The documentation's own examples decode into typed records and come back out unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from testpress_async.models import (
    ATTEMPT_DETAIL,
    ATTEMPTS,
    ATTENDANCE,
    CONTENT_ATTEMPTS,
    COURSES,
    EXAMS,
    USER_ANSWERS,
    USERS,
    AnswerResult,
    AttemptResult,
    AttemptState,
    ChapterContentType,
    ContentAttemptState,
    ContentAttemptType,
    PageReader,
    Record,
)

SAMPLES = Path(__file__).parent / "samples"
INDIA = timezone(timedelta(hours=5, minutes=30))

PAGES: list[tuple[str, PageReader]] = [
    ("attempts_list", ATTEMPTS),
    ("user_answers", USER_ANSWERS),
    ("content_attempts", CONTENT_ATTEMPTS),
    ("video_conference", ATTENDANCE),
]


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def as_json(value: object) -> object:
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize(("name", "reader"), PAGES)
def test_a_sample_page_comes_back_as_it_went_in(name: str, reader: PageReader) -> None:
    """Every record of a sample page, side-loaded ones included, encodes to the JSON values it was made of."""
    results = json.loads(sample(name))["results"]
    reading = reader.read(sample(name))
    read = {reader.table: reading.items, **{table: rows for table, rows in reading.tables.items() if rows}}
    assert as_json(read) == (results if isinstance(results, dict) else {reader.table: results})
    assert reading.rejected == ()


def test_the_sample_attempt_comes_back_as_it_went_in() -> None:
    """The single attempt encodes to the JSON values it was made of."""
    assert as_json(ATTEMPT_DETAIL.read(sample("attempt_detail"))) == json.loads(sample("attempt_detail"))


@pytest.mark.parametrize(("name", "reader"), PAGES)
def test_a_sample_page_splits_into_the_bytes_of_its_records(name: str, reader: PageReader) -> None:
    """`split` gives, for every list of the page, the JSON of each of its records."""
    results = json.loads(sample(name))["results"]
    rows = reader.split(sample(name)).rows
    split = {table: [json.loads(bytes(row)) for row in pieces] for table, pieces in rows.items()}
    assert split == (results if isinstance(results, dict) else {reader.table: results})


def test_the_sample_of_a_list_of_attempts_is_typed() -> None:
    """Scores are exact, times aware, durations and words typed."""
    reading = ATTEMPTS.read(sample("attempts_list"))
    (attempt,) = reading.items
    assert (reading.head.count, reading.head.per_page) == (1, 200)
    assert reading.head.next == "https://sandbox.testpress.in/api/v2.5/admin/attempts/?page=2"
    assert attempt.date == datetime(2021, 3, 16, 3, 59, 21, 860924, UTC)
    assert (str(attempt.score), attempt.percentage, attempt.speed) == ("90.00", Decimal(0), Decimal(0))
    assert (attempt.time_taken, attempt.remaining_time) == (timedelta(0), None)
    assert (attempt.result, attempt.state) == (AttemptResult.NOT_TAKEN, AttemptState.COMPLETED)


def test_the_sample_attempt_is_typed() -> None:
    """Sections, subjects and levels of difficulty are records of their own."""
    attempt = ATTEMPT_DETAIL.read(sample("attempt_detail"))
    assert attempt.date == datetime(2023, 1, 23, 11, 35, 37, 930389, INDIA)
    assert attempt.time_taken == timedelta(hours=2, minutes=47, seconds=53, microseconds=76906)
    assert (attempt.percentile, attempt.institute_attempt_id) == (Decimal(100), 100101)
    assert [section.section_id for section in attempt.sections or ()] == [2, 3, 4, 5]
    assert [stats.subject_id for stats in attempt.subject_stats or ()] == [1, 2, None]
    assert {level: s.total_count for level, s in (attempt.difficulty_level_stats or {}).items()} == {
        "easy": 70,
        "medium": 10,
    }
    assert attempt.sections is not None
    assert attempt.sections[0].score == Decimal("0.00")
    assert attempt.sections[0].time_taken == timedelta(0)


def test_the_sample_answer_is_joined_to_its_question() -> None:
    """`question` is the side-loaded question with its choices and exact marks."""
    (answer,) = USER_ANSWERS.read(sample("user_answers")).items
    assert (answer.result, answer.duration) == (AnswerResult.INCORRECT, timedelta(seconds=5))
    question = answer.question
    assert question is not None
    assert (question.id, str(question.marks), question.partial_marks) == (39, "1.00", None)
    assert [choice.id for choice in question.answers or ()] == [5, 6, 7, 8]
    assert answer.selected_answers == (6,)


def test_the_sample_content_attempts_are_joined_to_what_was_sent_along() -> None:
    """Each join gives the row its id points to, and None where the sample does not send that row."""
    video, exam, conference, stream = CONTENT_ATTEMPTS.read(sample("content_attempts")).items
    assert video.user_video is not None
    assert video.user_video.video_id == 18
    assert video.course is not None
    assert video.course.title == "Course 3"
    assert video.chapter_content is not None
    assert video.chapter_content.content_type is ChapterContentType.VIDEO
    assert (exam.assessment_id, exam.user_exam, exam.user) == (55, None, None)
    assert (exam.state, exam.remaining_time) == (ContentAttemptState.COMPLETED, timedelta(0))
    assert conference.content_type is ContentAttemptType.VIDEO_CONFERENCE
    assert conference.user_video_conference is not None
    assert conference.user_video_conference.video_conference is not None
    assert conference.user_video_conference.video_conference.duration == timedelta(minutes=15)
    assert (conference.course, conference.chapter_content) == (None, None)
    assert stream.user_live_stream is not None
    assert stream.user_live_stream.live_stream is not None
    assert stream.user_live_stream.live_stream.duration == timedelta(minutes=1)


def test_the_sample_attendance_is_typed() -> None:
    """Time attended is a duration, coming and going are aware times."""
    deva, alwin = ATTENDANCE.read(sample("video_conference")).items
    assert (deva.duration, alwin.duration) == (timedelta(minutes=2), timedelta(seconds=152))
    assert deva.join_time == deva.joined_time == datetime(2024, 6, 10, 16, 20, 26, tzinfo=INDIA)


# Examples of https://developer.testpress.in/docs/server-api/admin-apis/{exams,users,courses}
EXAM = {
    "id": 12,
    "created": "2021-04-13T11:45:28.582267Z",
    "description": "",
    "duration": "17:15:12",
    "enable_ranks": False,
    "end_date": None,
    "mark_per_question": "1.00",
    "modified": "2021-04-16T10:25:47.838579Z",
    "negative_marks": "0.00",
    "number_of_questions": 8,
    "pass_percentage": 50,
    "published": True,
    "start_date": "2021-04-13T11:45:12Z",
    "title": "All Question Types",
    "show_score": True,
    "show_percentile": True,
    "show_pass_or_fail": False,
    "total_marks": "7.00",
}
USER = {
    "id": 1889,
    "url": "http://demo.testpress.in/api/v2.5/admin/users/",
    "username": "lorem",
    "first_name": "John",
    "last_name": "Appleseed",
    "display_name": "John Appleseed",
    "email": "test@example.com",
    "photo": None,
    "birth_date": "03/07/2016",
    "address1": "",
    "address2": "",
    "city": "",
    "zip": "",
    "state": "IN-TN",
    "phone": "",
    "batches_url": "http://demo.testpress.in/api/v2.5/admin/users/1/batches/",
}
SIDE_LOADED_USER = {"id": 9, "username": "lorem", "email": None, "phone": "12345"}
COURSE = {
    "id": 278,
    "title": "Master of Business Administration",
    "slug": "master-of-business-administration",
    "description": "",
    "image": "https://static.testpress.in/image.jpg",
    "is_public": True,
    "created": "2020-12-09T09:39:53.863767Z",
    "modified": "2020-12-14T12:58:36.148936Z",
    "enable_progressive_lock": False,
    "order": 8,
    "url": "https://lmsdemo.testpress.in/api/v2.5/admin/courses/278/",
    "batches_url": "https://lmsdemo.testpress.in/api/v2.5/admin/courses/278/batches/",
    "chapters_url": "https://lmsdemo.testpress.in/api/v2.5/admin/courses/278/chapters/",
    "contents_url": "https://lmsdemo.testpress.in/api/v2.5/admin/courses/278/contents/",
}


@pytest.mark.parametrize(
    ("reader", "row"), [(EXAMS, EXAM), (USERS, USER), (USERS, SIDE_LOADED_USER), (COURSES, COURSE)]
)
def test_the_examples_of_the_other_lists_come_back_as_they_went_in(
    reader: PageReader[Record], row: dict[str, object]
) -> None:
    """Exams, users (also the short form sent along) and courses encode to the JSON they were made of."""
    reading = reader.read(json.dumps({"count": 1, "next": None, "per_page": 20, "results": [row]}).encode())
    assert as_json(reading.items) == [row]


def test_an_exam_needs_no_id() -> None:
    """The documentation's exam has no id; it is read nevertheless."""
    row = {name: value for name, value in EXAM.items() if name != "id"}
    (exam,) = EXAMS.read(json.dumps({"results": [row]}).encode()).items
    assert exam.id is None
    assert exam.duration == timedelta(hours=17, minutes=15, seconds=12)
    assert (exam.pass_percentage, str(exam.total_marks)) == (Decimal(50), "7.00")
