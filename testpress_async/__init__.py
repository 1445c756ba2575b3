"""Stream exam attempts, answers and content attempts out of a Testpress institute with asyncio.

import testpress_async as tp

async with tp.Client("https://institute.testpress.in", username="admin", password="…") as client:
    async for attempt in client.attempts.list(exams=[5], ordering="date"):
        print(attempt.id, attempt.score)
"""

from msgspec import UNSET, UnsetType

from testpress_async._version import __version__
from testpress_async.client import Client
from testpress_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    BadRequest,
    BodyTooLarge,
    ConfigError,
    ConnectionFailed,
    DatasetError,
    DecodeFailed,
    Error,
    ForeignOrigin,
    ListingChanged,
    NotFound,
    NotJSON,
    PermissionDenied,
    RateLimited,
    ServerFault,
    StatusError,
    TimedOut,
)
from testpress_async.harvest.dataset import Dataset
from testpress_async.harvest.plan import Plan, TablePlan, plan
from testpress_async.harvest.report import (
    PartsCommitted,
    Report,
    RowsRead,
    ShardFinished,
    TableFinished,
    TableReport,
    TableStarted,
)
from testpress_async.harvest.run import harvest
from testpress_async.harvest.shard import Shard
from testpress_async.http.events import (
    Event,
    LoggedIn,
    PageRead,
    RateWaited,
    RequestFinished,
    RequestStarted,
    Throttled,
    TryFailed,
)
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler, Middleware
from testpress_async.http.policy import RetryPolicy, Timeouts
from testpress_async.http.window import RatePolicy
from testpress_async.listing.fan_out import FanOut
from testpress_async.listing.listing import Listing
from testpress_async.listing.page import Page, RawPage
from testpress_async.models import (
    AnswerChoice,
    AnswerFile,
    AnswerResult,
    Attempt,
    AttemptDetail,
    AttemptResult,
    AttemptSection,
    AttemptState,
    Attendance,
    ChapterContent,
    ChapterContentType,
    ContentAttempt,
    ContentAttemptState,
    ContentAttemptType,
    ContentType,
    Course,
    DifficultyStats,
    Exam,
    ExamQuestion,
    GapFillResponse,
    LiveStream,
    Record,
    SubjectStats,
    User,
    UserAnswer,
    UserExam,
    UserLiveStream,
    UserVideo,
    UserVideoConference,
    VideoConference,
)
from testpress_async.resources.attempts import AttemptOrder

__all__ = [
    "UNSET",
    "AnswerChoice",
    "AnswerFile",
    "AnswerLost",
    "AnswerResult",
    "Attempt",
    "AttemptDetail",
    "AttemptOrder",
    "AttemptResult",
    "AttemptSection",
    "AttemptState",
    "Attendance",
    "AuthenticationFailed",
    "BadRequest",
    "BodyTooLarge",
    "ChapterContent",
    "ChapterContentType",
    "Client",
    "ConfigError",
    "ConnectionFailed",
    "ContentAttempt",
    "ContentAttemptState",
    "ContentAttemptType",
    "ContentType",
    "Course",
    "Dataset",
    "DatasetError",
    "DecodeFailed",
    "DifficultyStats",
    "Error",
    "Event",
    "Exam",
    "ExamQuestion",
    "FanOut",
    "ForeignOrigin",
    "GapFillResponse",
    "Handler",
    "Listing",
    "ListingChanged",
    "LiveStream",
    "LoggedIn",
    "Middleware",
    "NotFound",
    "NotJSON",
    "Page",
    "PageRead",
    "PartsCommitted",
    "PermissionDenied",
    "Plan",
    "RateLimited",
    "RatePolicy",
    "RateWaited",
    "RawPage",
    "Record",
    "Report",
    "Request",
    "RequestFinished",
    "RequestStarted",
    "Response",
    "RetryPolicy",
    "RowsRead",
    "ServerFault",
    "Shard",
    "ShardFinished",
    "StatusError",
    "SubjectStats",
    "TableFinished",
    "TablePlan",
    "TableReport",
    "TableStarted",
    "Throttled",
    "TimedOut",
    "Timeouts",
    "TryFailed",
    "UnsetType",
    "User",
    "UserAnswer",
    "UserExam",
    "UserLiveStream",
    "UserVideo",
    "UserVideoConference",
    "VideoConference",
    "__version__",
    "harvest",
    "plan",
]
