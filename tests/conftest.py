"""Fixtures: a small institute on loopback, and a client that is logged in to it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

import testpress_async as tp
from testpress_async.sandbox import Sandbox

# On a fresh machine the first draw of a text builds Hypothesis's tables, which takes seconds; a slow machine
# is not a failure, as nothing here is about time.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Where a script runs these in its background, Ctrl-C is ignored, and would be by every program started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def institute() -> AsyncIterator[Sandbox]:
    """An institute whose lists take several pages: 11 of attempts, 3 of content attempts, 3 of users."""
    async with Sandbox(
        attempts=210,
        content_attempts=60,
        exams=3,
        users=45,
        courses=3,
        conferences=4,
        per_page=20,
        answers_per_page=25,
        rows_per_page=20,
    ) as opened:
        yield opened


@pytest.fixture
async def client(institute: Sandbox) -> AsyncIterator[tp.Client]:
    """A client of that institute, open."""
    async with tp.Client(institute.url, username=institute.username, password=institute.password) as opened:
        yield opened
