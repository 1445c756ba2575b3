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
