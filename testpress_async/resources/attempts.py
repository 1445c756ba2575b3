"""Exam attempts and the answers in them.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts
"""

from __future__ import annotations

from typing import Final

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.answers import UserAnswer
from testpress_async.models.attempts import Attempt, AttemptDetail
from testpress_async.models.enums import AttemptState
from testpress_async.models.pages import ATTEMPT_DETAIL, ATTEMPTS, USER_ANSWERS
from testpress_async.resources import filters

PATH = "/api/v2.5/admin/attempts/"
ANSWERS_PATH = "/api/v3/admin/attempts/{}/user_answers/"


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
        return Listing(self._caller, target, USER_ANSWERS, bad_records=bad_records)
