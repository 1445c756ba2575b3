"""A Testpress institute on loopback: invented records, real logins, pages, limits and faults."""

from testpress_async.sandbox.book import Change
from testpress_async.sandbox.faults import Fault, Scripted
from testpress_async.sandbox.server import Sandbox, Seen, serve
from testpress_async.sandbox.settings import Live, Options, RateLimit, Settings
from testpress_async.sandbox.truth import TABLES, Truth

__all__ = [
    "TABLES",
    "Change",
    "Fault",
    "Live",
    "Options",
    "RateLimit",
    "Sandbox",
    "Scripted",
    "Seen",
    "Settings",
    "Truth",
    "serve",
]
