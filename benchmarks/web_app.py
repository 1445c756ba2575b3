"""A web application with one client on its loop: `python -m benchmarks.web_app PORT`.

/ping                 an answer
/start?url=…&window=  begin to stream from there, again and again, and to measure how late the loop is
/stop                 end that; how late it was, and how many records came
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

import testpress_async as tp
from benchmarks.api import TOKEN

BEAT_S = 0.001
FEW_BEATS = 2  # without them there are no quantiles


class Work:
    """What runs beside the handler."""

    def __init__(self) -> None:
        self.records, self.cpu_s = 0, 0.0
        self.late_s, self.busy_s = list[float](), list[float]()
        self._tasks = list[asyncio.Task[None]]()

    def start(self, url: str, window: int) -> None:
        self.records, self.cpu_s, self.late_s, self.busy_s = 0, time.process_time(), [], []
        self._tasks = [asyncio.create_task(self._watch())]
        if url:
            self._tasks.append(asyncio.create_task(self._stream(url, window)))

    async def stop(self) -> None:
        while self._tasks and len(self.late_s) < FEW_BEATS:  # on a machine so busy that hardly a timer fired
            await self._beat()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        self.cpu_s = time.process_time() - self.cpu_s

    async def _stream(self, url: str, window: int) -> None:
        async with tp.Client(url, token=TOKEN) as client:
            while True:
                async for _ in client.attempts.list().prefetch(window):
                    self.records += 1

    async def _watch(self) -> None:
        while True:
            await self._beat()

    async def _beat(self) -> None:
        """How much later than asked for a timer fires, and how much of that this process computed."""
        loop = asyncio.get_running_loop()
        began_s, cpu_s = loop.time(), time.process_time()
        await asyncio.sleep(BEAT_S)
        self.late_s.append(max(0.0, loop.time() - began_s - BEAT_S))
        self.busy_s.append(max(0.0, time.process_time() - cpu_s - BEAT_S))


WORK = web.AppKey("work", Work)


async def ping(_request: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def start(request: web.Request) -> web.Response:
    request.app[WORK].start(request.query["url"], int(request.query["window"]))
    return web.json_response({})


async def stop(request: web.Request) -> web.Response:
    work = request.app[WORK]
    await work.stop()
    late, busy = (statistics.quantiles(beats, n=100) for beats in (work.late_s, work.busy_s))
    return web.json_response(
        {
            "lag_p50_ms": late[49] * 1_000,
            "lag_p99_ms": late[98] * 1_000,
            "busy_p99_ms": busy[98] * 1_000,
            "records": work.records,
            "cpu_s": work.cpu_s,
        }
    )


async def working(app: web.Application) -> AsyncIterator[None]:
    app[WORK] = Work()
    yield
    await app[WORK].stop()


def main(port: str) -> None:
    app = web.Application()
    app.cleanup_ctx.append(working)
    app.add_routes([web.get("/ping", ping), web.get("/start", start), web.get("/stop", stop)])
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main(sys.argv[1])
