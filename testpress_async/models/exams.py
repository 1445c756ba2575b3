"""Exams, as the list of exams has them.

Source: https://developer.testpress.in/docs/server-api/admin-apis/exams
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from .record import Duration, Exact, Record
from .scalars import Id, Moment, WireDuration, WireNumber


class Exam(Record, frozen=True, kw_only=True):
    """An exam. The documentation's example has no `id`; servers are known to send one."""

    id: Id | None = None
    created: Moment | None = None
    description: str | None = None
    raw_duration: WireDuration | None = field(default=None, name="duration")
    enable_ranks: bool | None = None
    end_date: Moment | None = None
    raw_mark_per_question: WireNumber | None = field(default=None, name="mark_per_question")
    modified: Moment | None = None
    raw_negative_marks: WireNumber | None = field(default=None, name="negative_marks")
    number_of_questions: int | None = None
    raw_pass_percentage: WireNumber | None = field(default=None, name="pass_percentage")
    published: bool | None = None
    start_date: Moment | None = None
    """May lie years before anybody sits the exam."""
    title: str | None = None
    show_score: bool | None = None
    show_percentile: bool | None = None
    show_pass_or_fail: bool | None = None
    raw_total_marks: WireNumber | None = field(default=None, name="total_marks")

    # Sent by some versions of the server only.
    slug: str | UnsetType | None = UNSET
    url: str | UnsetType | None = UNSET

    duration = Duration()
    mark_per_question = Exact()
    negative_marks = Exact()
    pass_percentage = Exact()
    total_marks = Exact()
