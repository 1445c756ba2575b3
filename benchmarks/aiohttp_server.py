"""An aiohttp server with bodies ready in memory: `python -m benchmarks.aiohttp_server KIND … PORT`.

files DIRECTORY                   canned files, where nginx is not installed
pages DIRECTORY PAGES LATENCY_MS  a list of any length, made of the canned pages: every id another
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from benchmarks.api import ATTEMPTS_PATH, PER_PAGE

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
ANSWERS = re.compile(r"/api/v3/admin/attempts/\d*(\d)/user_answers/")
READY_PAGES = 600


def json_response(body: bytes | None) -> web.Response:
    if body is None:
        return web.Response(status=404)
    return web.Response(body=body, content_type="application/json")


def files(directory: str) -> Answer:
    """What stands in *directory*."""
    root = Path(directory)
    ready = {f"/{file.relative_to(root)}": file.read_bytes() for file in root.rglob("*.json")}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        found = ANSWERS.fullmatch(request.path)
        name = f"/answers/{found[1]}" if found else f"{request.path}{request.query_string}"
        return json_response(ready.get(f"{name}.json"))

    return answer


def pages(directory: str, count: str, latency_ms: str) -> Answer:
    """*count* pages of attempts, each after *latency_ms*."""
    last, latency_s, rows = int(count), float(latency_ms) / 1_000, _rows(Path(directory))

    @lru_cache(READY_PAGES)
    def body(number: int) -> bytes:
        following = f'"http://127.0.0.1:{sys.argv[-1]}{ATTEMPTS_PATH}?page={number + 1}"'
        head = f'{{"count":{last * PER_PAGE},"next":{following if number < last else "null"},"previous":null,'
        start, *parts = rows[number % len(rows)]
        first_id = (number - 1) * PER_PAGE + 1
        numbered = (b"%d%b" % (first_id + place, part) for place, part in enumerate(parts))
        return b"".join((head.encode(), start, *numbered))

    for number in range(1, 1 + min(last, READY_PAGES)):
        body(number)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if latency_s:
            await asyncio.sleep(latency_s)
        return json_response(body(int(request.query.get("page", "1"))))

    return answer


def _rows(root: Path) -> list[list[bytes]]:
    """The full pages in *root*, cut where each id stands; without their heads."""
    found = (file.read_bytes() for file in sorted((root / ATTEMPTS_PATH[1:]).glob("page=*.json")))
    bodies = (body[body.index(b'"per_page":') :] for body in found)
    cut = [re.split(rb'(?<={"id":)\d+', body) for body in bodies]
    return [parts for parts in cut if len(parts) == PER_PAGE + 1]


KINDS: dict[str, Callable[..., Answer]] = {"files": files, "pages": pages}


async def main(kind: str, *arguments: str) -> None:
    runner = web.ServerRunner(web.Server(KINDS[kind](*arguments[:-1]), access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(arguments[-1])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
