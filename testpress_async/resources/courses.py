"""Courses of the institute.

Source: https://developer.testpress.in/docs/server-api/admin-apis/courses
"""

from __future__ import annotations

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.contents import Course
from testpress_async.models.pages import COURSES
from testpress_async.resources import filters

PATH = "/api/v2.5/admin/courses/"


class Courses:
    """`client.courses`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self, *, q: str | None = None, bad_records: BadRecords = "raise") -> Listing[Course]:
        """All courses, or those that match a search text. Sends nothing yet."""
        target = filters.target(PATH, q=filters.text("q", q))
        return Listing(self._caller, target, COURSES, bad_records=bad_records)
