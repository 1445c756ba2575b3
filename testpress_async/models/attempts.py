"""Exam attempts: the row of the list, and the single attempt with its sections and statistics.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from .enums import AttemptResult, AttemptState
from .record import Duration, Exact, Record, Whole
from .scalars import Id, Moment, WireDuration, WireNumber


class Attempt(Record, frozen=True, kw_only=True):
    """One sitting of an exam by a user, as in the list of attempts."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "exam_id", "state")

    id: Id
    date: Moment | None = None
    """Start of the attempt; the filters `started_after` and `started_before` are on it."""
    exam_id: Id | None = None
    user_id: Id | None = None
    email: str | None = None
    name: str | None = None
    phone: str | int | None = None
    correct_answers_count: int | None = None
    incorrect_answers_count: int | None = None
    unanswered_count: int | None = None
    raw_score: WireNumber | None = field(default=None, name="score")
    raw_percentage: WireNumber | None = field(default=None, name="percentage")
    raw_time_taken: WireDuration | None = field(default=None, name="time_taken")
    raw_remaining_time: WireDuration | None = field(default=None, name="remaining_time")
    result: AttemptResult | None = None
    state: AttemptState | None = None
    last_started_time: Moment | None = None
    last_answer_updated_time: Moment | None = None
    raw_speed: WireNumber | None = field(default=None, name="speed")
    exam_url: str | None = None
    user_url: str | None = None

    # Sent by some versions of the server only.
    completed_on: Moment | UnsetType | None = UNSET
    partial_correct_answers_count: int | UnsetType | None = UNSET
    correct_count: int | UnsetType | None = UNSET
    incorrect_count: int | UnsetType | None = UNSET
    total_questions: int | UnsetType | None = UNSET
    raw_total_score: WireNumber | UnsetType | None = field(default=UNSET, name="total_score")
    raw_total_bonus: WireNumber | UnsetType | None = field(default=UNSET, name="total_bonus")
    raw_accuracy: WireNumber | UnsetType | None = field(default=UNSET, name="accuracy")
    raw_rank: WireNumber | UnsetType | None = field(default=UNSET, name="rank")
    raw_max_rank: WireNumber | UnsetType | None = field(default=UNSET, name="max_rank")
    rank_enabled: bool | UnsetType | None = UNSET
    attempt_type: int | str | UnsetType | None = UNSET
    """1 for a quiz."""
    userexam_id: Id | UnsetType | None = UNSET
    last_viewed_question_id: Id | UnsetType | None = UNSET
    review_pdf: str | UnsetType | None = UNSET
    review_pdf_url: str | UnsetType | None = UNSET
    external_review_url: str | UnsetType | None = UNSET

    score = Exact()
    percentage = Exact()
    time_taken = Duration()
    remaining_time = Duration()
    speed = Exact()
    total_score = Exact()
    total_bonus = Exact()
    accuracy = Exact()
    rank = Whole()
    max_rank = Whole()


class AttemptSection(Record, frozen=True, kw_only=True):
    """What happened in one section of an attempt."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "section_id")

    id: Id
    order: int | None = None
    section_id: Id | None = None
    raw_time_taken: WireDuration | None = field(default=None, name="time_taken")
    correct_answers_count: int | None = None
    incorrect_answers_count: int | None = None
    unanswered_count: int | None = None
    raw_score: WireNumber | None = field(default=None, name="score")

    # Sent by some versions of the server only.
    section_name: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    state: str | int | UnsetType | None = UNSET
    partial_correct_answers_count: int | UnsetType | None = UNSET
    raw_remaining_time: WireDuration | UnsetType | None = field(default=UNSET, name="remaining_time")
    raw_duration: WireDuration | UnsetType | None = field(default=UNSET, name="duration")
    instructions: str | UnsetType | None = UNSET
    info: object | UnsetType = UNSET
    questions_url: str | UnsetType | None = UNSET
    start_url: str | UnsetType | None = UNSET
    end_url: str | UnsetType | None = UNSET

    time_taken = Duration()
    score = Exact()
    remaining_time = Duration()
    duration = Duration()


class SubjectStats(Record, frozen=True, kw_only=True):
    """Answers of one subject. Rows form a tree (`parent_subject_id`): adding up all of them counts twice,
    adding up those with `is_leaf` does not."""

    _shown: ClassVar[tuple[str, ...]] = ("subject_id", "parent_subject_id")

    subject_id: Id | None = None
    subject_name: str | None = None
    total_count: int | None = None
    correct_answers_count: int | None = None
    unanswered_count: int | None = None
    incorrect_answers_count: int | None = None
    parent_subject_id: Id | None = None
    is_leaf: bool | None = None
    raw_score: WireNumber | None = field(default=None, name="score")
    partial_correct_answers_count: int | None = None

    answered_count: int | UnsetType | None = UNSET
    """Sent by some versions of the server only."""

    score = Exact()


class DifficultyStats(Record, frozen=True, kw_only=True):
    """Answers to the questions of one level of difficulty."""

    _shown: ClassVar[tuple[str, ...]] = ("total_count",)

    correct_answers_count: int | None = None
    incorrect_answers_count: int | None = None
    partial_correct_answers_count: int | None = None
    unanswered_count: int | None = None
    total_count: int | None = None


class AttemptDetail(Attempt, frozen=True, kw_only=True):
    """One attempt asked for by id: an `Attempt` with sections and statistics."""

    raw_percentile: WireNumber | None = field(default=None, name="percentile")
    username: str | int | None = None
    sections: tuple[AttemptSection, ...] | None = None
    subject_stats: tuple[SubjectStats, ...] | None = None
    difficulty_level_stats: dict[str, DifficultyStats] | None = None
    """By level: `easy`, `medium`, `uncategorized` and whatever else the server names; may be empty."""
    institute_attempt_id: int | str | None = None

    percentile = Exact()
