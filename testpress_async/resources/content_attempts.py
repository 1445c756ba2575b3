"""Attempts at course contents: exams, videos, attachments, live classes.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts, "Get Chapter Content Attempts"
"""

from __future__ import annotations

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.contents import ContentAttempt
from testpress_async.models.enums import ContentAttemptState, ContentType
from testpress_async.models.pages import CONTENT_ATTEMPTS
from testpress_async.resources import filters

PATH = "/api/v3/admin/chapter-content-attempts/"


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
                PATH,
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
