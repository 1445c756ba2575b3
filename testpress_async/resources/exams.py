"""Exams of the institute.

Source: https://developer.testpress.in/docs/server-api/admin-apis/exams
"""

from __future__ import annotations

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.exams import Exam
from testpress_async.models.pages import EXAMS
from testpress_async.resources import filters

PATH = "/api/v2.5/admin/exams/"


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
                PATH,
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
