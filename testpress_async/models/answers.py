"""What a user answered in an attempt, and the questions sent along.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts (student exam responses)
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from .enums import AnswerResult
from .record import Duration, Exact, Join, JoinedRecord, Record
from .scalars import Id, WireDuration, WireNumber


class AnswerChoice(Record, frozen=True, kw_only=True):
    """One choice of a question. No key is documented: only `UserAnswer.result` tells what was right."""

    id: Id
    text_html: str | None = None

    # Sent by some versions of the server only.
    is_correct: bool | UnsetType | None = UNSET
    raw_marks: WireNumber | UnsetType | None = field(default=UNSET, name="marks")
    question_id: Id | UnsetType | None = UNSET

    marks = Exact()


class ExamQuestion(Record, frozen=True, kw_only=True):
    """A question as placed in an exam."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "question_id", "exam_id")

    id: Id
    question_id: Id | None = None
    section_id: Id | None = None
    question_html: str | None = None
    type: str | None = None
    """In words, such as `MCQ, Single Correct`; older versions send letters, such as `R`."""
    raw_marks: WireNumber | None = field(default=None, name="marks")
    raw_negative_marks: WireNumber | None = field(default=None, name="negative_marks")
    raw_partial_marks: WireNumber | None = field(default=None, name="partial_marks")
    direction: str | int | None = None
    answers: tuple[AnswerChoice, ...] | None = None
    """Its choices; None or empty for questions answered in writing."""
    difficulty_level: str | int | None = None
    order: int | None = None
    is_bonus: bool | None = None
    exam_id: Id | None = None

    # Sent by some versions of the server only.
    explanation_html: str | UnsetType | None = UNSET
    reference: str | UnsetType | None = UNSET
    subject: object | UnsetType = UNSET
    subject_id: Id | UnsetType | None = UNSET
    direction_id: Id | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    translations: object | UnsetType = UNSET
    is_case_sensitive: bool | UnsetType | None = UNSET
    raw_percentage_got_correct: WireNumber | UnsetType | None = field(
        default=UNSET, name="percentage_got_correct"
    )

    marks = Exact()
    negative_marks = Exact()
    partial_marks = Exact()
    percentage_got_correct = Exact()


class AnswerFile(Record, frozen=True, kw_only=True):
    """A file handed in as an answer; some versions send its address only, as a text."""

    id: int | str | UnsetType | None = UNSET
    url: str | UnsetType | None = UNSET
    path: str | UnsetType | None = UNSET
    pdf_preview_url: str | UnsetType | None = UNSET


class GapFillResponse(Record, frozen=True, kw_only=True):
    """What was written into one gap."""

    order: int | str | UnsetType | None = UNSET
    answer: str | int | float | UnsetType | None = UNSET


class UserAnswer(JoinedRecord, frozen=True, kw_only=True):
    """The answer to one question of an attempt; `question` is the question, if the server sent it along."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "exam_question_id", "result")

    id: Id
    exam_question_id: Id | None = None
    selected_answers: tuple[Id, ...] | None = None
    """Ids of the chosen `AnswerChoice`s; empty or None if none was chosen."""
    result: AnswerResult | None = None
    raw_duration: WireDuration | None = field(default=None, name="duration")
    review: bool | None = None
    """Marked for review; None if the question was never visited."""
    guessed: bool | None = None

    # Sent by some versions of the server only.
    attempt_id: Id | UnsetType | None = UNSET
    attempt_section_id: Id | UnsetType | None = UNSET
    adaptive_question_pool_id: Id | UnsetType | None = UNSET
    selected_answer_ids: tuple[Id, ...] | UnsetType | None = UNSET
    """Older name of `selected_answers`."""
    user_response: object | UnsetType = UNSET
    short_text: str | UnsetType | None = UNSET
    essay_text: str | UnsetType | None = UNSET
    essay_topic: object | UnsetType = UNSET
    gap_fill_responses: tuple[GapFillResponse, ...] | UnsetType | None = UNSET
    files: tuple[str | AnswerFile, ...] | UnsetType | None = UNSET
    raw_marks: WireNumber | UnsetType | None = field(default=UNSET, name="marks")
    raw_best_duration: WireDuration | UnsetType | None = field(default=UNSET, name="best_duration")
    raw_average_duration: WireDuration | UnsetType | None = field(default=UNSET, name="average_duration")
    raw_correct_percentage: WireNumber | UnsetType | None = field(default=UNSET, name="correct_percentage")
    bookmark_id: Id | UnsetType | None = UNSET
    comments_count: int | UnsetType | None = UNSET

    duration = Duration()
    """Time spent on the question; the server counts seconds."""
    marks = Exact()
    best_duration = Duration()
    average_duration = Duration()
    correct_percentage = Exact()
    question = Join("exam_questions", ExamQuestion, by="exam_question_id")
