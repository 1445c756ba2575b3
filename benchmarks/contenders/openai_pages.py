"""openai-python's async pages on its real client: the way generated SDKs page."""

from __future__ import annotations

import ssl
from typing import Any, Generic, TypeVar

from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from openai._base_client import URL, BaseAsyncPage, BasePage, PageInfo

from benchmarks.api import ATTEMPTS_PATH, TOKEN
from benchmarks.contenders.pydantic_records import Attempt

T = TypeVar("T")
TLS = ssl.create_default_context()  # not needed here, and otherwise loaded for every client


class NumberedPage(BaseAsyncPage[T], BasePage[T], Generic[T]):
    results: list[T]
    next: str | None = None

    def _get_page_items(self) -> list[T]:
        return self.results

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(url=URL(self.next)) if self.next else None


async def attempts(url: str) -> int:
    seen = 0
    http = DefaultAsyncHttpxClient(base_url=url, verify=TLS)
    async with AsyncOpenAI(base_url=url, api_key=TOKEN, http_client=http) as client:
        pages: Any = client.get_api_list(ATTEMPTS_PATH, page=NumberedPage[Attempt], model=Attempt)
        async for _ in pages:
            seen += 1
    return seen
