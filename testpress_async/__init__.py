"""Stream exam attempts, answers and content attempts out of a Testpress institute with asyncio.

import testpress_async as tp

async with tp.Client("https://institute.testpress.in", username="admin", password="…") as client:
    async for attempt in client.attempts.list(exams=[5], ordering="date"):
        print(attempt.id, attempt.score)
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from testpress_async._version import __version__

if TYPE_CHECKING:
    from msgspec import UNSET, UnsetType

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
        Changes,
        FileStarted,
        PartsCommitted,
        RecordQuarantined,
        Report,
        RowsRead,
        ShardFinished,
        TableFinished,
        TableReport,
        TableStarted,
        UnknownField,
    )
    from testpress_async.harvest.run import harvest
    from testpress_async.harvest.shard import Shard
    from testpress_async.harvest.stream import BadRecord, HarvestStream, ReadShard, harvest_stream
    from testpress_async.http.events import (
        Event,
        LoggedIn,
        PageRead,
        RateWaited,
        RateWaiting,
        RequestFinished,
        RequestStarted,
        Throttled,
        TryFailed,
    )
    from testpress_async.http.message import Request, Response
    from testpress_async.http.pipeline import Handler, Middleware
    from testpress_async.http.policy import RetryPolicy, Timeouts
    from testpress_async.http.stats import Stats
    from testpress_async.http.window import Limit, RatePolicy
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
    from testpress_async.models.frames import to_arrow
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
    "BadRecord",
    "BadRequest",
    "BodyTooLarge",
    "Changes",
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
    "FileStarted",
    "ForeignOrigin",
    "GapFillResponse",
    "Handler",
    "HarvestStream",
    "Limit",
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
    "RateWaiting",
    "RawPage",
    "ReadShard",
    "Record",
    "RecordQuarantined",
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
    "Stats",
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
    "UnknownField",
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
    "harvest_stream",
    "plan",
    "to_arrow",
]

# Where the names are. They are loaded when they are first used: who only streams pays for nothing else.
_HOMES = {
    name: home
    for home, names in {
        "msgspec": "UNSET UnsetType",
        "testpress_async.client": "Client",
        "testpress_async.errors": (
            "AnswerLost AuthenticationFailed BadRequest BodyTooLarge ConfigError ConnectionFailed "
            "DatasetError DecodeFailed Error ForeignOrigin ListingChanged NotFound NotJSON PermissionDenied "
            "RateLimited ServerFault StatusError TimedOut"
        ),
        "testpress_async.harvest.dataset": "Dataset",
        "testpress_async.harvest.plan": "Plan TablePlan plan",
        "testpress_async.harvest.report": (
            "Changes FileStarted PartsCommitted RecordQuarantined Report RowsRead ShardFinished "
            "TableFinished TableReport TableStarted UnknownField"
        ),
        "testpress_async.harvest.run": "harvest",
        "testpress_async.harvest.shard": "Shard",
        "testpress_async.harvest.stream": "BadRecord HarvestStream ReadShard harvest_stream",
        "testpress_async.http.events": (
            "Event LoggedIn PageRead RateWaited RateWaiting RequestFinished RequestStarted Throttled "
            "TryFailed"
        ),
        "testpress_async.http.message": "Request Response",
        "testpress_async.http.pipeline": "Handler Middleware",
        "testpress_async.http.policy": "RetryPolicy Timeouts",
        "testpress_async.http.stats": "Stats",
        "testpress_async.http.window": "Limit RatePolicy",
        "testpress_async.listing.fan_out": "FanOut",
        "testpress_async.listing.listing": "Listing",
        "testpress_async.listing.page": "Page RawPage",
        "testpress_async.models": (
            "AnswerChoice AnswerFile AnswerResult Attempt AttemptDetail AttemptResult AttemptSection "
            "AttemptState Attendance ChapterContent ChapterContentType ContentAttempt ContentAttemptState "
            "ContentAttemptType ContentType Course DifficultyStats Exam ExamQuestion GapFillResponse "
            "LiveStream Record SubjectStats User UserAnswer UserExam UserLiveStream UserVideo "
            "UserVideoConference VideoConference"
        ),
        "testpress_async.models.frames": "to_arrow",
        "testpress_async.resources.attempts": "AttemptOrder",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The import system binds `harvest` to the subpackage of that name; here it is the function."""

    @property
    def harvest(self) -> object:
        return import_module("testpress_async.harvest.run").harvest

    @harvest.setter
    def harvest(self, subpackage: ModuleType) -> None: ...


sys.modules[__name__].__class__ = _Package
