"""`aioresponses` made to work with aiohttp 3.14, whose responses ask for a stream writer.

In your own tests copy `MockedResponse` and pass it as ``response_class``, or use `Mocked` as it is.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import aiohttp
from aioresponses import aioresponses


class MockedResponse(aiohttp.ClientResponse):
    """A response that no request was written for."""

    def __init__(self, method: str, url: Any, **given: Any) -> None:
        super().__init__(method, url, stream_writer=Mock(output_size=0), **given)


class Mocked(aioresponses):
    """`aioresponses` with that response as the default."""

    def add(self, url: Any, method: str = "GET", **given: Any) -> None:
        given.setdefault("response_class", MockedResponse)
        super().add(url, method, **given)
