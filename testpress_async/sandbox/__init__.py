"""A Testpress institute on loopback: invented records, real logins, pages, limits and faults."""

from testpress_async.sandbox.book import Change
from testpress_async.sandbox.faults import KINDS, Fault, Kind, Scripted
from testpress_async.sandbox.recording import Recorder
from testpress_async.sandbox.server import Sandbox, Seen, serve
from testpress_async.sandbox.settings import Live, Options, RateLimit, Settings
from testpress_async.sandbox.truth import TABLES, Truth

__all__ = [
    "KINDS",
    "TABLES",
    "Change",
    "Fault",
    "Kind",
    "Live",
    "Options",
    "RateLimit",
    "Recorder",
    "Sandbox",
    "Scripted",
    "Seen",
    "Settings",
    "Truth",
    "serve",
]
