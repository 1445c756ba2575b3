"""`aioresponses` made to work with aiohttp 3.14, as a class to name in annotations."""

from __future__ import annotations

from testpress_async.testing import mocked_class

Mocked = mocked_class()
