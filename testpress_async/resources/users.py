"""Users of the institute.

Source: https://developer.testpress.in/docs/server-api/admin-apis/users
"""

from __future__ import annotations

from testpress_async.http.caller import Caller
from testpress_async.listing.listing import BadRecords, Listing
from testpress_async.models.pages import USERS
from testpress_async.models.people import User
from testpress_async.resources import filters

PATH = "/api/v2.5/admin/users/"


class Users:
    """`client.users`"""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self, *, q: str | None = None, email: str | None = None, bad_records: BadRecords = "raise"
    ) -> Listing[User]:
        """All users, or those that match a search text or an e-mail address. Sends nothing yet."""
        target = filters.target(PATH, q=filters.text("q", q), email=filters.text("email", email))
        return Listing(self._caller, target, USERS, bad_records=bad_records)
