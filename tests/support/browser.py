"""Headless Chromium, driven through chromedriver's own HTTP protocol (W3C WebDriver)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
needs_chromium = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {' and '.join(MISSING)} (Debian packages chromium, chromium-driver)"
)
QUIET = (  # no window, no other machine is spoken to
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)

UNTIL = """
const [condition, done] = arguments, look = () => { if (eval(condition)) { watch.disconnect(); done() } }
const watch = new MutationObserver(look)
watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true })
look()
"""


class Browser:
    """One window. A script runs in its page; `arguments` are JSON."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session, self._address = session, address

    async def open(self, url: str) -> None:
        """Load *url*."""
        await self._tell("url", url=url)

    async def run(self, script: str, *arguments: Any) -> Any:
        """What *script* returns."""
        return await self._tell("execute/sync", script=script, args=arguments)

    async def until(self, condition: str) -> None:
        """Wait until *condition*, an expression, holds; looked at whenever the page changes."""
        await self._tell("execute/async", script=UNTIL, args=[condition])

    async def errors(self) -> list[str]:
        """What went wrong on the page, in the console's words."""
        entries = await self._tell("se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    async def colours(self, scheme: Literal["light", "dark"]) -> None:
        """Prefer *scheme* from now on."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self._tell("goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features})

    async def picture(self) -> bytes:
        """A screenshot, as PNG."""
        return base64.b64decode(await self._tell("screenshot", get=True))

    async def _tell(self, command: str, get: bool = False, **values: Any) -> Any:
        return await _told(self._session, f"{self._address}/{command}", None if get else values)


@contextlib.asynccontextmanager
async def chromium(profile: Path, width: int = 1000, height: int = 900) -> AsyncGenerator[Browser]:
    """A browser with a new profile in the empty directory *profile*; gone afterwards."""
    driver = await asyncio.create_subprocess_exec(
        "chromedriver", "--port=0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        origin = f"http://127.0.0.1:{await _port(driver)}"
        async with aiohttp.ClientSession() as session:
            arguments = [*QUIET.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"]
            wanted = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
            made = await _told(session, f"{origin}/session", {"capabilities": {"alwaysMatch": wanted}})
            address = f"{origin}/session/{made['sessionId']}"
            await _told(session, f"{address}/timeouts", {"script": 50_000})
            try:
                yield Browser(session, address)
            finally:
                async with session.delete(address):
                    pass
    finally:
        driver.terminate()
        await driver.communicate()


async def _port(driver: asyncio.subprocess.Process) -> int:
    assert driver.stdout is not None
    async for line in driver.stdout:
        if found := re.search(rb"started successfully on port (\d+)", line):
            return int(found[1])
    raise RuntimeError("chromedriver did not start")


async def _told(session: aiohttp.ClientSession, address: str, values: dict[str, Any] | None) -> Any:
    """The value of a WebDriver answer; *values* None: a GET."""
    method = "GET" if values is None else "POST"
    async with session.request(method, address, json=values) as answer:
        value = (await answer.json())["value"]
    if answer.status != 200:
        raise RuntimeError(f"{value['error']}: {value['message']}")
    return value
