"""Who attended a video conference.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts, "Get Video Conference Attempts"
"""

from __future__ import annotations

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.pages import ATTENDANCE
from testpress_async.models.people import Attendance
from testpress_async.resources import filters

PATH = "/api/v3/admin/attempts/{}/video-conference/"


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
        target = PATH.format(filters.one_id("conference_id", conference_id))
        return Listing(self._caller, target, ATTENDANCE, bad_records=bad_records)
