"""Stream exam attempts, answers and content attempts out of a Testpress institute with asyncio."""

from testpress_async._version import __version__
from testpress_async.client import Client
from testpress_async.errors import *  # noqa: F403
