"""Users, and who attended a video conference.

Sources: https://developer.testpress.in/docs/server-api/admin-apis/users and …/attempts
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from .record import Day, Duration, Record
from .scalars import Id, Moment, WireDuration


class User(Record, frozen=True, kw_only=True):
    """A user. Sent along with content attempts it has the first four fields; the list of users sends all."""

    id: Id
    username: str | int | None = None
    email: str | None = None
    phone: str | int | None = None

    # The row of the list of users.
    url: str | UnsetType | None = UNSET
    first_name: str | UnsetType | None = UNSET
    last_name: str | UnsetType | None = UNSET
    display_name: str | UnsetType | None = UNSET
    photo: str | UnsetType | None = UNSET
    raw_birth_date: str | UnsetType | None = field(default=UNSET, name="birth_date")
    address1: str | UnsetType | None = UNSET
    address2: str | UnsetType | None = UNSET
    city: str | UnsetType | None = UNSET
    zip: str | int | UnsetType | None = UNSET
    state: str | int | UnsetType | None = UNSET
    """State of the country the user lives in."""
    batches_url: str | UnsetType | None = UNSET

    # Sent by some versions of the server only.
    state_code: str | int | UnsetType | None = UNSET
    gender: str | UnsetType | None = UNSET
    gender_code: str | int | UnsetType | None = UNSET
    custom_fields: dict[str, object] | UnsetType | None = UNSET
    batches: object | UnsetType = UNSET
    large_image: str | UnsetType | None = UNSET
    medium_image: str | UnsetType | None = UNSET
    medium_small_image: str | UnsetType | None = UNSET
    small_image: str | UnsetType | None = UNSET
    x_small_image: str | UnsetType | None = UNSET
    xsmall_image: str | UnsetType | None = UNSET
    mini_image: str | UnsetType | None = UNSET
    created: Moment | UnsetType | None = UNSET
    modified: Moment | UnsetType | None = UNSET
    is_active: bool | UnsetType | None = UNSET
    password_hash: str | UnsetType | None = UNSET

    birth_date = Day()


class Attendance(Record, frozen=True, kw_only=True):
    """One stay of a user in a video conference. It has no id, and none of the user: whoever leaves and comes
    back can have several rows.

    The documentation's table says `joined_time`, its example `join_time`; either is read by either name.
    """

    _shown: ClassVar[tuple[str, ...]] = ()

    name: str | None = None
    email: str | None = None
    raw_join_time: Moment | UnsetType | None = field(default=UNSET, name="join_time")
    raw_joined_time: Moment | UnsetType | None = field(default=UNSET, name="joined_time")
    leave_time: Moment | None = None
    raw_duration: WireDuration | None = field(default=None, name="duration")

    duration = Duration()
    """Time attended; the server counts seconds."""

    @property
    def join_time(self) -> datetime | None:
        """When the user came in, under whichever name it was sent."""
        return self.raw_join_time or self.raw_joined_time or None

    @property
    def joined_time(self) -> datetime | None:
        """The same as `join_time`."""
        return self.join_time
