"""Content attempts (videos, exams, conferences, live streams of a course) and what is sent along with them.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts (chapter content attempts)
"""

from __future__ import annotations

from typing import ClassVar, Final

from msgspec import UNSET, UnsetType, field

from .enums import AttemptResult, ChapterContentType, ContentAttemptState, ContentAttemptType
from .people import User
from .record import Duration, Exact, Join, JoinedRecord, Record, Whole
from .scalars import Id, Moment, WireDuration, WireNumber

_MINUTE_S: Final = 60


class UserVideo(Record, frozen=True, kw_only=True):
    """How far a user watched a video."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "video_id")

    id: Id
    video_id: Id | None = None
    created: Moment | None = None
    raw_watched_percentage: WireNumber | None = field(default=None, name="watched_percentage")
    raw_remaining_duration: WireDuration | None = field(default=None, name="remaining_duration")
    state: str | int | None = None
    is_live_class_recording: bool | None = None

    # Sent by some versions of the server only.
    raw_watched_duration: WireDuration | UnsetType | None = field(default=UNSET, name="watched_duration")
    raw_last_position: WireDuration | UnsetType | None = field(default=UNSET, name="last_position")
    video_content: object | UnsetType = UNSET

    watched_percentage = Exact()
    remaining_duration = Duration()
    watched_duration = Duration()
    last_position = Duration()


class UserExam(Record, frozen=True, kw_only=True):
    """A user's standing in an exam. Every count can be 0, with rank and result `NA`."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "exam_id")

    id: Id
    exam_id: Id | None = None
    user_id: Id | None = None
    raw_total_score: WireNumber | None = field(default=None, name="total_score")
    number_of_correct_answers: int | None = None
    number_of_incorrect_answers: int | None = None
    number_of_unanswered_questions: int | None = None
    number_of_answered_questions: int | None = None
    raw_percentage: WireNumber | None = field(default=None, name="percentage")
    raw_rank: WireNumber | None = field(default=None, name="rank")
    result: AttemptResult | None = None
    total_questions: int | None = None

    # Sent by some versions of the server only.
    raw_score: WireNumber | UnsetType | None = field(default=UNSET, name="score")
    raw_percentile: WireNumber | UnsetType | None = field(default=UNSET, name="percentile")
    raw_max_rank: WireNumber | UnsetType | None = field(default=UNSET, name="max_rank")

    total_score = Exact()
    percentage = Exact()
    rank = Whole()
    score = Exact()
    percentile = Exact()
    max_rank = Whole()


class Course(Record, frozen=True, kw_only=True):
    """A course. Content attempts come with its counts, the list of courses with its links.

    Source: https://developer.testpress.in/docs/server-api/admin-apis/courses
    """

    id: Id
    title: str | None = None
    description: str | None = None
    image: str | None = None
    created: Moment | None = None
    modified: Moment | None = None
    slug: str | None = None
    order: int | None = None

    # Sent along with content attempts.
    created_by: Id | UnsetType | None = UNSET
    chapters_count: int | UnsetType | None = UNSET
    contents_count: int | UnsetType | None = UNSET
    exams_count: int | UnsetType | None = UNSET
    videos_count: int | UnsetType | None = UNSET
    attachments_count: int | UnsetType | None = UNSET
    html_contents_count: int | UnsetType | None = UNSET
    max_allowed_views_per_video: int | UnsetType | None = UNSET
    max_allowed_watch_minutes: int | UnsetType | None = UNSET

    # The row of the list of courses.
    is_public: bool | UnsetType | None = UNSET
    enable_progressive_lock: bool | UnsetType | None = UNSET
    url: str | UnsetType | None = UNSET
    batches_url: str | UnsetType | None = UNSET
    chapters_url: str | UnsetType | None = UNSET
    contents_url: str | UnsetType | None = UNSET

    # Sent by some versions of the server only.
    video_conferences_count: int | UnsetType | None = UNSET
    live_streams_count: int | UnsetType | None = UNSET
    external_content_link: str | UnsetType | None = UNSET
    external_link_label: str | UnsetType | None = UNSET
    enable_discussions: bool | UnsetType | None = UNSET
    device_access_control: object | UnsetType = UNSET
    allowed_devices: object | UnsetType = UNSET
    layout: object | UnsetType = UNSET
    tag_ids: object | UnsetType = UNSET
    tags: object | UnsetType = UNSET
    allow_custom_test_generation: bool | UnsetType | None = UNSET
    expiry_date: str | UnsetType | None = UNSET
    show_scheduled_content: bool | UnsetType | None = UNSET


class ChapterContent(Record, frozen=True, kw_only=True):
    """One content of a chapter: which of the `…_id` fields is set depends on `content_type`."""

    _shown: ClassVar[tuple[str, ...]] = ("id", "chapter_id", "content_type")

    id: Id
    order: int | None = None
    chapter_id: Id | None = None
    free_preview: bool | None = None
    title: str | None = None
    course_id: Id | None = None
    exam_id: Id | None = None
    content_id: Id | None = None
    video_id: Id | None = None
    attachment_id: Id | None = None
    content_type: ChapterContentType | None = None
    start: Moment | None = None
    end: Moment | None = None
    description: str | None = None

    # Sent by some versions of the server only.
    video_conference_id: Id | UnsetType | None = UNSET
    live_stream_id: Id | UnsetType | None = UNSET
    uuid: str | UnsetType | None = UNSET
    url: str | UnsetType | None = UNSET
    course_url: str | UnsetType | None = UNSET
    icon: str | UnsetType | None = UNSET
    cover_image: str | UnsetType | None = UNSET
    cover_image_medium: str | UnsetType | None = UNSET
    cover_image_small: str | UnsetType | None = UNSET
    tags: object | UnsetType = UNSET
    raw_average_rating: WireNumber | UnsetType | None = field(default=UNSET, name="average_rating")
    number_of_ratings: int | UnsetType | None = UNSET
    created: Moment | UnsetType | None = UNSET
    modified: Moment | UnsetType | None = UNSET

    average_rating = Exact()


class VideoConference(Record, frozen=True, kw_only=True):
    """A video conference; `join_url`, `password` and `access_token` let anybody in, and are never printed."""

    id: Id
    title: str | None = None
    conference_id: str | int | None = None
    start: Moment | None = None
    raw_duration: WireDuration | None = field(default=None, name="duration")
    provider: str | None = None
    join_url: str | None = None
    password: str | int | None = None
    access_token: str | None = None
    show_recorded_video: bool | None = None
    state: str | int | None = None
    has_recording_expired: bool | None = None

    # Sent by some versions of the server only.
    description: str | UnsetType | None = UNSET
    created: Moment | UnsetType | None = UNSET
    modified: Moment | UnsetType | None = UNSET

    duration = Duration(unit_s=_MINUTE_S)
    """Planned length; the server counts minutes."""


class UserVideoConference(Record, frozen=True, kw_only=True):
    """A user's part in a video conference."""

    id: Id
    user_id: Id | None = None
    raw_duration: WireDuration | None = field(default=None, name="duration")
    join_time: Moment | None = None
    leave_time: Moment | None = None
    video_conference: VideoConference | None = None

    duration = Duration()
    """Time attended; the server counts seconds."""


class LiveStream(Record, frozen=True, kw_only=True):
    """A live stream; its addresses are never printed."""

    id: Id
    title: str | None = None
    stream_url: str | None = None
    raw_duration: WireDuration | None = field(default=None, name="duration")
    show_recorded_video: bool | None = None
    status: str | int | None = None
    chat_embed_url: str | None = None

    # Sent by some versions of the server only.
    provider: str | UnsetType | None = UNSET
    fermion_url: str | UnsetType | None = UNSET
    created: Moment | UnsetType | None = UNSET
    modified: Moment | UnsetType | None = UNSET

    duration = Duration(unit_s=_MINUTE_S)
    """Planned length; the server counts minutes."""


class UserLiveStream(Record, frozen=True, kw_only=True):
    """A user's part in a live stream."""

    id: Id
    user_id: Id | None = None
    live_stream: LiveStream | None = None


class ContentAttempt(JoinedRecord, frozen=True, kw_only=True):
    """A user's work on one content of a course.

    The joins (`course`, `user_video`, …) are None where the server did not send the row along, which it does
    not always do; the ids are there all the same.
    """

    _shown: ClassVar[tuple[str, ...]] = ("id", "content_type", "state")

    id: Id
    user_id: Id | None = None
    course_id: Id | None = None
    chapter_id: Id | None = None
    chapter_content_id: Id | None = None
    content_type: ContentAttemptType | None = None
    state: ContentAttemptState | None = None
    raw_remaining_time: WireDuration | None = field(default=None, name="remaining_time")
    assessment_id: Id | None = None
    user_video_conference_id: Id | None = None
    user_video_id: Id | None = None
    user_live_stream_id: Id | None = None
    user_content_id: Id | None = None
    user_attachment_id: Id | None = None
    correct_answers_count: int | UnsetType | None = UNSET
    """Absent, not null, on everything but exams."""
    incorrect_answers_count: int | UnsetType | None = UNSET
    """Absent, not null, on everything but exams."""
    created: Moment | None = None
    completed_on: Moment | None = None

    # Sent by some versions of the server only.
    user_wiziq_id: Id | UnsetType | None = UNSET
    type: object | UnsetType = UNSET
    object_id: Id | UnsetType | None = UNSET
    object_url: str | UnsetType | None = UNSET
    raw_trophies: WireNumber | UnsetType | None = field(default=UNSET, name="trophies")
    raw_coins: WireNumber | UnsetType | None = field(default=UNSET, name="coins")

    remaining_time = Duration()
    """The server counts seconds here, unlike in the `remaining_time` of an `Attempt`."""
    trophies = Exact()
    coins = Exact()

    user = Join("users", User, by="user_id")
    course = Join("courses", Course, by="course_id")
    chapter_content = Join("chapter_contents", ChapterContent, by="chapter_content_id")
    user_exam = Join("user_exams", UserExam, by="assessment_id")
    user_video = Join("user_videos", UserVideo, by="user_video_id")
    user_video_conference = Join("user_video_conferences", UserVideoConference, by="user_video_conference_id")
    user_live_stream = Join("user_live_streams", UserLiveStream, by="user_live_stream_id")
