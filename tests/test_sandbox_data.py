"""The sandbox's records: pure functions of the seed, with every oddity of the real API."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async import models
from testpress_async.sandbox import TABLES, Live, Options, RateLimit, Sandbox, Settings
from testpress_async.sandbox.data import NEVER, Institute, dated_index, day_start_us, nulls_before, to_us
from testpress_async.sandbox.records import duration, hundredths, moment

DAY_US = 86_400_000_000


def every(table: str, **options: int) -> list[dict[str, object]]:
    return list(Sandbox(**options).truth.records(table))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "table", ["attempts", "attempt_details", "content_attempts", "exams", "users", "courses"]
)
def test_same_seed_same_records(table: str) -> None:
    """Two institutes with one seed are equal, another seed makes another institute."""
    assert every(table, attempts=200) == every(table, attempts=200)
    assert every(table, attempts=200) != every(table, attempts=200, seed=2)


@given(count=st.integers(0, 5_000), seed=st.integers(0, 2**70), days=st.integers(1, 400))
def test_start_times_never_fall(count: int, seed: int, days: int) -> None:
    """Whatever the size, attempts by id are attempts by date, inside the days of the institute."""
    first = date(2024, 1, 1)
    settings = Settings(attempts=count, seed=seed, first_day=first, last_day=first + timedelta(days=days - 1))
    institute = Institute(settings)
    order = institute.attempt_order
    times = [institute.attempt(order[place]).at_us for place in range(count)]
    assert all(before <= after for before, after in pairwise(times))
    dated = [at_us for at_us in times if at_us != NEVER]
    assert len(dated) == order.dated
    start_us = day_start_us(first)
    assert all(start_us <= at_us < start_us + days * DAY_US for at_us in dated)
    assert sorted(order[place] for place in range(count)) == list(range(count))


@given(st.integers(0, 10**9))
def test_dated_attempts_are_numbered_without_a_gap(rank: int) -> None:
    """Rank and index of a dated attempt are inverse."""
    index = dated_index(rank)
    assert index - nulls_before(index) == rank


def test_days_are_uneven_and_some_attempts_tie() -> None:
    """One day has a large share of all attempts, some days have few, and some starts are equal."""
    institute = Institute(Settings(attempts=20_000))
    calendar = institute.calendar
    starts = [calendar.at_us(rank) for rank in range(institute.attempt_order.dated)]
    per_day: dict[int, int] = {}
    for at_us in starts:
        per_day[at_us // DAY_US] = per_day.get(at_us // DAY_US, 0) + 1
    assert max(per_day.values()) > 1_000
    assert min(per_day.values()) < 30
    assert len(set(starts)) < len(starts)
    assert starts == sorted(starts)


def test_ten_million_attempts_cost_nothing() -> None:
    """Facts far out are as quick as near ones, and ids go beyond 2**31 if wanted."""
    institute = Sandbox(attempts=10_000_000, first_attempt_id=2**33)
    record = next(institute.truth.records("attempts"))
    assert record["id"] == 2**33
    facts = Institute(institute.settings).attempt(9_999_999)
    assert facts.at_us > day_start_us(date(2025, 6, 1))


def test_attempts_show_every_oddity() -> None:
    """Null people, both zones, three fractions, three types of percentage, negative scores, new fields."""
    rows = every("attempts")
    dates = [str(row["date"]) for row in rows if row["date"]]
    assert {date[-1] for date in dates} == {"Z", "0"}
    assert {len(re.sub(r".*?:\d\d:\d\d(\.(\d+))?(Z|\+.*)", r"\2", date)) for date in dates} == {0, 3, 6}
    assert sum(row["date"] is None for row in rows) == 21
    assert {type(row["percentage"]) for row in rows} == {int, str, float}
    assert {row["email"] is None for row in rows} == {True, False}
    assert any(not str(row["name"]).isascii() for row in rows)
    assert any(str(row["score"]).startswith("-") for row in rows)
    states = {"Completed", "Running", "Not Started", "Did Not Finish", "Evaluation Completed"}
    assert {row["state"] for row in rows} == states
    assert {row["result"] for row in rows} == {"Pass", "Fail", "Not taken"}
    assert any("proctoring" in row for row in rows)
    taken = " ".join(str(row["time_taken"]) for row in rows)
    assert re.search(r"\d+ days?, ", taken)
    assert re.search(r"\d+ \d\d:\d\d:\d\d", taken)
    assert any(row["remaining_time"] == "-1 day, 23:59:55" for row in rows)
    assert any(isinstance(row["user_id"], int) and row["user_id"] > 2**31 for row in rows)


def test_attempts_have_a_heavy_tail() -> None:
    """Some exams are taken far more often than others, and so do some people take them."""
    rows = every("attempts")
    for field in ("exam_id", "user_id"):
        values = [row[field] for row in rows]
        counts = sorted(values.count(value) for value in set(values))
        assert counts[-1] > 4 * counts[0]


def test_details_show_every_oddity() -> None:
    """Three types of institute id, several of percentile, empty sections, a tree of subjects, open levels."""
    rows = every("attempt_details", attempts=500)
    assert {type(row["institute_attempt_id"]) for row in rows} == {int, str, type(None)}
    assert {type(row["percentile"]) for row in rows} == {int, float, str, type(None)}
    assert {bool(row["sections"]) for row in rows} == {True, False}
    assert {bool(row["difficulty_level_stats"]) for row in rows} == {True, False}
    stats = [row["subject_stats"] for row in rows]
    assert any(stat[1]["subject_id"] is None for stat in stats)  # type: ignore[index]


def test_answers_show_every_oddity() -> None:
    """Null and empty choices, text, files in both shapes, several types of duration and question."""
    institute = Sandbox(attempts=300)
    answers = list(institute.truth.records("user_answers"))
    assert {type(answer["selected_answers"]) for answer in answers} == {list, type(None)}
    assert [] in [answer["selected_answers"] for answer in answers]
    assert {type(answer["duration"]) for answer in answers} == {int, str, type(None)}
    assert {answer["result"] for answer in answers} == {"Correct", "Incorrect", "Unanswered"}
    files = [answer["files"][0] for answer in answers if "files" in answer]  # type: ignore[index]
    assert {type(file) for file in files} == {str, dict}
    assert any("gap_fill_responses" in answer for answer in answers)
    assert any("essay_text" in answer for answer in answers)
    assert any("user_response" in answer for answer in answers)
    questions = list(institute.truth.records("exam_questions"))
    assert {str(question["type"]).split(",")[0] for question in questions} >= {
        "MCQ",
        "NAT",
        "Essay",
        "Hotspot",
    }
    assert {type(question["answers"]) for question in questions} == {list, type(None)}
    assert any(question["question_id"] > 2**31 for question in questions)  # type: ignore[operator]
    assert len({question["id"] for question in questions}) == len(questions)
    assert len({answer["id"] for answer in answers}) == len(answers)


def test_answers_add_up_to_the_counts_of_the_attempt() -> None:
    """An attempt's counts are what its answers say, unless it was never started."""
    institute = Sandbox(attempts=120)
    for attempt in institute.truth.records("attempts"):
        answers = institute.truth.records("user_answers", parent=attempt["id"])  # type: ignore[arg-type]
        results = [answer["result"] for answer in answers]
        if attempt["state"] == "Not Started":
            assert results == []
            continue
        assert results.count("Correct") == attempt["correct_answers_count"]
        assert results.count("Incorrect") == attempt["incorrect_answers_count"]
        assert results.count("Unanswered") == attempt["unanswered_count"]


def test_content_attempts_show_every_oddity() -> None:
    """Counts absent on rows that are no exam, all kinds and states, and dangling references."""
    institute = Sandbox()
    rows = list(institute.truth.records("content_attempts"))
    assert len(rows) == 1_000
    kinds = {
        "assessment",
        "quiz",
        "video",
        "attachment",
        "notes",
        "videoConference",
        "live_stream",
        "assignment",
    }
    assert {row["content_type"] for row in rows} == kinds
    assert {"correct_answers_count" in row for row in rows if row["content_type"] == "quiz"} == {True}
    assert {"correct_answers_count" in row for row in rows if row["content_type"] == "video"} == {False}
    states = {"Started", "Completed", "Pending Evaluation", "Evaluation Completed", "Expired"}
    assert {row["state"] for row in rows} == states
    assert {row["completed_on"] is None for row in rows} == {True, False}
    courses = set(institute.truth.ids("content_attempts.courses"))
    assert {row["course_id"] for row in rows} - courses == {5}
    exams = set(institute.truth.ids("content_attempts.user_exams"))
    assert {row["assessment_id"] for row in rows if row["assessment_id"]} - exams
    user_exams = list(institute.truth.records("content_attempts.user_exams"))
    assert {row["rank"] == "NA" for row in user_exams} == {True, False}


def test_conferences_hold_invented_secrets_and_can_all_be_found() -> None:
    """Every conference is reached from some content attempt, and brings what must never be shown."""
    institute = Sandbox()
    assert institute.truth.conference_ids() == list(range(1, 21))
    found = next(institute.truth.records("content_attempts.user_video_conferences"))
    conference = found["video_conference"]
    assert isinstance(conference, dict)
    assert all(conference[secret] for secret in ("password", "access_token", "join_url"))


def test_attendance_shows_every_oddity() -> None:
    """Both names of the joining time, null people and times; conferences of 0 to 60 rows."""
    institute = Sandbox()
    rows = list(institute.truth.records("attendance"))
    assert {"join_time" in row for row in rows} == {"joined_time" in row for row in rows} == {True, False}
    assert {row["duration"] is None for row in rows} == {True, False}
    assert {row["email"] is None for row in rows} == {True, False}
    sizes = [institute.truth.count("attendance", parent=conference_id) for conference_id in range(1, 21)]
    assert sum(sizes) == len(rows)
    assert max(sizes) > 20
    assert institute.truth.count("attendance", parent=99) == 0


def test_every_datetime_is_aware() -> None:
    """No date of any table needs a guess."""
    institute = Sandbox(attempts=300)
    for table in ("attempts", "content_attempts", "content_attempts.user_videos", "exams"):
        for record in institute.truth.records(table):
            for name in ("date", "created", "completed_on", "modified", "start_date"):
                if text := record.get(name):
                    assert datetime.fromisoformat(str(text)).tzinfo is not None


def test_smallest_institute_works() -> None:
    """An institute without attempts, with one exam, one user and no conference, has empty tables."""
    counts = Sandbox(attempts=0, exams=1, users=1, courses=1, conferences=0).truth.export_counts()
    assert counts.pop("exams") == 1
    assert set(counts.values()) == {0}
    assert len(every("attempts", attempts=60, exams=1, users=1, courses=1)) == 60


def test_truth_counts_an_export() -> None:
    """The counts of a full export are the sizes of its tables."""
    truth = Sandbox(attempts=150).truth
    counts = truth.export_counts()
    for table in (
        "attempts",
        "attempt_details",
        "user_answers",
        "exam_questions",
        "content_attempts",
        "exams",
    ):
        assert counts[table] == truth.count(table)
    for table in ("user_videos", "courses", "users", "user_live_streams"):
        assert counts[table] == truth.count(f"content_attempts.{table}")
    with pytest.raises(KeyError):
        truth.count("teachers")


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(0, 1))  # noqa: DTZ001
def test_moments_say_what_they_mean(at: datetime, utc: int) -> None:
    """Either zone spells the same instant."""
    at_us = to_us(at)
    text = moment(at_us, utc)
    assert text is not None
    assert datetime.fromisoformat(text) == at.replace(tzinfo=UTC)
    assert to_us(datetime.fromisoformat(text)) == at_us


@pytest.mark.parametrize(
    ("seconds", "spelling", "text"),
    [
        (0, 0, "0:00:00"),
        (10_073.076906, 1, "2:47:53.076906"),
        (1_742_328.044696, 0, "20 days, 3:58:48.044696"),
        (1_742_328.044696, 1, "20 03:58:48.044696"),
        (-5, 0, "-1 day, 23:59:55"),
    ],
)
def test_durations_have_three_spellings(seconds: float, spelling: int, text: str) -> None:
    """Hours, Python's days and Django's days."""
    assert duration(round(seconds * 1_000_000), spelling) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0.00"), (-200, "-2.00"), (-25, "-0.25"), (9_000, "90.00")])
def test_hundredths(value: int, text: str) -> None:
    """Two places, the sign in front."""
    assert hundredths(value) == text


def test_every_setting_is_an_option() -> None:
    """The keyword arguments of the sandbox are the fields of its settings."""
    assert list(Options.__annotations__) == list(Settings.__dataclass_fields__)
    assert Sandbox(Settings(attempts=7, seed=3), seed=4).settings == Settings(attempts=7, seed=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": -1},
        {"exams": 0},
        {"content_attempts": -1},
        {"fail_rate": 1.5},
        {"token_ttl_s": 0.0},
        {"utc_offset_min": 900},
        {"first_day": date(2026, 1, 1)},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """A setting that means nothing is named before anything is opened."""
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("first", "last")):
        Settings(**wrong)  # type: ignore[arg-type]


def test_wrong_limits_and_rates_are_refused() -> None:
    """No request in a window, a window of nothing, and events that unhappen are no settings."""
    with pytest.raises(ValueError, match="rate"):
        RateLimit(0, 1.0)
    with pytest.raises(ValueError, match="rate"):
        RateLimit(1, 0.0)
    with pytest.raises(ValueError, match="live"):
        Live(edits_per_s=-1.0)


TYPES: dict[str, type[msgspec.Struct]] = {
    "attempts": models.Attempt,
    "attempt_details": models.AttemptDetail,
    "user_answers": models.UserAnswer,
    "exam_questions": models.ExamQuestion,
    "content_attempts": models.ContentAttempt,
    "content_attempts.user_videos": models.UserVideo,
    "content_attempts.user_exams": models.UserExam,
    "content_attempts.courses": models.Course,
    "content_attempts.chapter_contents": models.ChapterContent,
    "content_attempts.user_video_conferences": models.UserVideoConference,
    "content_attempts.user_live_streams": models.UserLiveStream,
    "content_attempts.users": models.User,
    "attendance": models.Attendance,
    "exams": models.Exam,
    "users": models.User,
    "courses": models.Course,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_record_can_be_read_typed(table: str) -> None:
    """No oddity is odder than the library's records allow, and no id is lost on the way."""
    records = list(Sandbox(attempts=400).truth.records(table))
    read = [msgspec.json.decode(msgspec.json.encode(record), type=TYPES[table]) for record in records]
    assert read
    assert [getattr(one, "id", None) for one in read] == [record.get("id") for record in records]
