"""The same documented fields as pydantic models."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pydantic


class Attempt(pydantic.BaseModel):
    id: int
    date: datetime | None
    exam_id: int
    user_id: int
    email: str | None
    name: str | None
    phone: str | None
    correct_answers_count: int
    incorrect_answers_count: int
    unanswered_count: int
    score: Decimal | None
    percentage: Decimal | None
    time_taken: str | None
    remaining_time: str | None
    result: str
    state: str
    last_started_time: datetime | None
    last_answer_updated_time: datetime | None
    speed: int | None
    exam_url: str
    user_url: str


class AttemptPage(pydantic.BaseModel):
    count: int
    per_page: int
    next: str | None
    results: list[Attempt]


class Choice(pydantic.BaseModel):
    id: int
    text_html: str


class Question(pydantic.BaseModel):
    id: int
    question_id: int
    section_id: int | None
    question_html: str
    type: str
    marks: Decimal | None
    negative_marks: Decimal | None
    partial_marks: Decimal | None
    direction: str | int | None
    answers: list[Choice] | None
    difficulty_level: str | int | None
    order: int
    is_bonus: bool
    exam_id: int


class UserAnswer(pydantic.BaseModel):
    id: int
    exam_question_id: int
    selected_answers: list[int] | None
    result: str
    duration: int | str | None
    review: bool | None
    guessed: bool | None


class AnswerTables(pydantic.BaseModel):
    user_answers: list[UserAnswer]
    exam_questions: list[Question]


class AnswerPage(pydantic.BaseModel):
    count: int
    next: str | None
    results: AnswerTables
