"""What is listed as it is: exams, users, courses, and who attended a video conference.

Sources: https://developer.testpress.in/docs/server-api/admin-apis/exams, …/users, …/courses,
and …/attempts, "Get Video Conference Attempts"
"""

from __future__ import annotations

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.contents import Course
from testpress_async.models.exams import Exam
from testpress_async.models.pages import ATTENDANCE, COURSES, EXAMS, USERS
from testpress_async.models.people import Attendance, User
from testpress_async.resources import filters

EXAMS_PATH = "/api/v2.5/admin/exams/"
USERS_PATH = "/api/v2.5/admin/users/"
COURSES_PATH = "/api/v2.5/admin/courses/"
ATTENDANCE_PATH = "/api/v3/admin/attempts/{}/video-conference/"


class Exams:
    """`client.exams`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self,
        *,
        status: str | None = None,
        start_date: filters.Day | None = None,
        end_date: filters.Day | None = None,
        subject: str | None = None,
        batch: str | None = None,
        exam_type: str | None = None,
        ordering: str | None = None,
        bad_records: BadRecords = "raise",
    ) -> Listing[Exam]:
        """All exams, or a part of them. Sends nothing yet. `status`: running, upcoming or completed."""
        return Listing(
            self._caller,
            filters.target(
                EXAMS_PATH,
                status=filters.text("status", status),
                start_date=filters.day("start_date", start_date),
                end_date=filters.day("end_date", end_date),
                subject=filters.text("subject", subject),
                batch=filters.text("batch", batch),
                exam_type=filters.text("exam_type", exam_type),
                ordering=filters.text("ordering", ordering),
            ),
            EXAMS,
            bad_records=bad_records,
        )


class Users:
    """`client.users`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self, *, q: str | None = None, email: str | None = None, bad_records: BadRecords = "raise"
    ) -> Listing[User]:
        """All users, or those that match a search text or an e-mail address. Sends nothing yet."""
        target = filters.target(USERS_PATH, q=filters.text("q", q), email=filters.text("email", email))
        return Listing(self._caller, target, USERS, bad_records=bad_records)


class Courses:
    """`client.courses`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self, *, q: str | None = None, bad_records: BadRecords = "raise") -> Listing[Course]:
        """All courses, or those that match a search text. Sends nothing yet."""
        target = filters.target(COURSES_PATH, q=filters.text("q", q))
        return Listing(self._caller, target, COURSES, bad_records=bad_records)


class VideoConferences:
    """`client.video_conferences`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def attendees(self, conference_id: int, *, bad_records: BadRecords = "raise") -> Listing[Attendance]:
        """Attendance rows of one conference; a user who joins again has several. Sends nothing yet.

        Args:
            conference_id: Id of the video conference, as in `user_video_conference.video_conference.id` of
                a content attempt. (The path of this endpoint says "attempts".)
        """
        target = ATTENDANCE_PATH.format(filters.one_id("conference_id", conference_id))
        return Listing(self._caller, target, ATTENDANCE, bad_records=bad_records, parent_id=conference_id)
