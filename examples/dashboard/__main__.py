"""A live dashboard of an export: it runs in the background, browsers watch it over Server-Sent Events.

Run `testpress sandbox --rate 50`, set the variables it prints, `python -m examples.dashboard out`, and open
http://127.0.0.1:8080. Stop it half-way and start it again: the export goes on where it was.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiohttp import web

import testpress_async as tp
from examples.dashboard.board import Board

PAGE = Path(__file__).with_name("page.html")
EVERY_S = 0.2  # how often a browser is told
BOARD, FOLDER = web.AppKey("board", Board), web.AppKey("folder", Path)


async def export(app: web.Application) -> AsyncIterator[None]:
    async with tp.Client.from_env(on_event=app[BOARD].note) as client:
        job = asyncio.create_task(app[BOARD].run(client, tp.Dataset(app[FOLDER])))
        yield
        job.cancel()  # what has been stored stays
        await asyncio.wait([job])


async def page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    board, over = request.app[BOARD], False
    with contextlib.suppress(ConnectionResetError):  # the browser has gone
        while not over:
            over = board.phase in ("done", "failed")
            await response.write(b"data: " + msgspec.json.encode(board) + b"\n\n")
            await asyncio.sleep(0 if over else EVERY_S)
    return response


def make_app(folder: Path) -> web.Application:
    app = web.Application()
    app[BOARD], app[FOLDER] = Board(), folder
    app.cleanup_ctx.append(export)
    app.add_routes([web.get("/", page), web.get("/events", events)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(Path(*sys.argv[1:2] or ["out"])), host="127.0.0.1", shutdown_timeout=1)
