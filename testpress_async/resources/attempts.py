"""Exam attempts and the answers in them; attempts at contents of courses, such as videos and live classes.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts
"""

from __future__ import annotations

from typing import Final

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.answers import UserAnswer
from testpress_async.models.attempts import Attempt, AttemptDetail
from testpress_async.models.contents import ContentAttempt
from testpress_async.models.enums import AttemptState, ContentAttemptState, ContentType
from testpress_async.models.pages import ATTEMPT_DETAIL, ATTEMPTS, CONTENT_ATTEMPTS, USER_ANSWERS
from testpress_async.resources import filters

PATH = "/api/v2.5/admin/attempts/"
ANSWERS_PATH = "/api/v3/admin/attempts/{}/user_answers/"
CONTENT_PATH = "/api/v3/admin/chapter-content-attempts/"


class AttemptOrder:
    """Orderings of `attempts.list`. Only the two dates are documented without misprints."""

    OLDEST_FIRST: Final = "date"
    NEWEST_FIRST: Final = "-date"
    FEWEST_CORRECT_FIRST: Final = "correct_answers_count"
    MOST_CORRECT_FIRST: Final = "-correct_answers_count"
    FEWEST_INCORRECT_FIRST: Final = "incorrect_answers_count"
    MOST_INCORRECT_FIRST: Final = "-incorrect_answers_count"
    FEWEST_UNANSWERED_FIRST: Final = "unanswered_count"
    MOST_UNANSWERED_FIRST: Final = "-unanswered_count"


class Attempts:
    """`client.attempts`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self,
        *,
        exams: filters.Ids | None = None,
        users: filters.Ids | None = None,
        state: AttemptState | int | None = None,
        started_after: filters.Day | None = None,
        started_before: filters.Day | None = None,
        ordering: str | None = None,
        bad_records: BadRecords = "raise",
    ) -> Listing[Attempt]:
        """All attempts, or those of some exams, users, a state or a time. Sends nothing yet.

        Args:
            exams: Exam id, or several.
            users: User id, or several.
            state: Running, completed or not started.
            started_after: First day (`date_0`); the institute's days, most likely inclusive.
            started_before: Last day (`date_1`), likewise.
            ordering: One of `AttemptOrder`, or any other the server knows. Without one the order is the
                server's own; "date" is the steadiest while students keep writing exams.
            bad_records: "raise" DecodeFailed at a record that cannot be decoded, or "skip" it.
        Raises:
            ConfigError: A filter's value is unusable.
        """
        return Listing(
            self._caller,
            filters.target(
                PATH,
                exams=filters.ids("exams", exams),
                users=filters.ids("users", users),
                state=filters.code("state", state, AttemptState),
                date_0=filters.day("started_after", started_after),
                date_1=filters.day("started_before", started_before),
                ordering=filters.text("ordering", ordering),
            ),
            ATTEMPTS,
            bad_records=bad_records,
        )

    async def get(self, attempt_id: int) -> AttemptDetail:
        """One attempt with its sections, subject and difficulty statistics.

        Raises:
            NotFound: There is no such attempt.
        """
        return ATTEMPT_DETAIL.read(await self.get_raw(attempt_id))

    async def get_raw(self, attempt_id: int) -> bytes:
        """The same as the server's own JSON."""
        target = f"{PATH}{filters.one_id('attempt_id', attempt_id)}/"
        return (await self._caller.get(target)).body

    def user_answers(self, attempt_id: int, *, bad_records: BadRecords = "raise") -> Listing[UserAnswer]:
        """The student's answers of one attempt, each with its `question`. Sends nothing yet."""
        target = ANSWERS_PATH.format(filters.one_id("attempt_id", attempt_id))
        return Listing(self._caller, target, USER_ANSWERS, bad_records=bad_records, parent_id=attempt_id)


class ContentAttempts:
    """`client.content_attempts`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self,
        *,
        user_ids: filters.Ids | None = None,
        course_ids: filters.Ids | None = None,
        chapter_ids: filters.Ids | None = None,
        chapter_content_ids: filters.Ids | None = None,
        exam_id: filters.Ids | None = None,
        content_type: ContentType | int | None = None,
        state: ContentAttemptState | int | None = None,
        completed_date: filters.Day | None = None,
        completed_before: filters.Day | None = None,
        completed_after: filters.Day | None = None,
        bad_records: BadRecords = "raise",
    ) -> Listing[ContentAttempt]:
        """Content attempts of all users, or a part of them. Sends nothing yet.

        Each record finds what was sent along: `user_video`, `user_exam`, `course`, `chapter_content`,
        `user_video_conference`, `user_live_stream`, `user`; None where the server did not send it.

        Args:
            user_ids, course_ids, chapter_ids, chapter_content_ids, exam_id: An id, or several.
            content_type: What kind of content.
            state: Started, completed, evaluation pending or completed.
            completed_date, completed_before, completed_after: Days of completion; `created` has no filter.
            bad_records: "raise" DecodeFailed at a record that cannot be decoded, or "skip" it.
        Raises:
            ConfigError: A filter's value is unusable.
        """
        return Listing(
            self._caller,
            filters.target(
                CONTENT_PATH,
                user_ids=filters.ids("user_ids", user_ids),
                course_ids=filters.ids("course_ids", course_ids),
                chapter_ids=filters.ids("chapter_ids", chapter_ids),
                chapter_content_ids=filters.ids("chapter_content_ids", chapter_content_ids),
                exam_id=filters.ids("exam_id", exam_id),
                content_type=filters.code("content_type", content_type, ContentType),
                state=filters.code("state", state, ContentAttemptState),
                completed_date=filters.day("completed_date", completed_date),
                completed_before=filters.day("completed_before", completed_before),
                completed_after=filters.day("completed_after", completed_after),
            ),
            CONTENT_ATTEMPTS,
            bad_records=bad_records,
        )
