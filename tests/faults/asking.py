"""What tests of the matrix share: a client whose time jumps, one question, and what no error may show."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

import testpress_async as tp
from tests.support.clock import AutoClock
from tests.support.pages import page
from tests.support.raw_server import http

TOKEN = "token-SECRET"
PERSON = "asha-SECRET"  # a search text, and what a broken answer may hold
IDS = [1, 2]
PAGE = page(IDS)
ANSWER = http(PAGE)
E = TypeVar("E", bound=tp.Error)


@asynccontextmanager
async def client_to(origin: str, **options: Any) -> AsyncIterator[tp.Client]:
    """A client of *origin*, opened; its waits take no time."""
    given = {"token": TOKEN, "clock": AutoClock(), "allow_http": True, **options}
    async with tp.Client(origin, **given) as client:
        yield client


async def ask(client: tp.Client) -> list[int]:
    """One page: one call, with a personal filter."""
    return [user.id for user in await client.users.list(q=PERSON)]


async def failure(client: tp.Client, kind: type[E]) -> E:
    """How `ask` fails; the error, however it is printed or stored, shows nothing secret."""
    with pytest.raises(kind) as caught:
        await ask(client)
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + str(error) + repr(error)
    assert "SECRET" not in shown
    assert b"SECRET" not in pickle.dumps(error)
    return error
