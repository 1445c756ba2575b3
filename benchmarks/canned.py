"""A server whose answers are ready before the first request, so that it is not what is measured."""

from __future__ import annotations

import asyncio
import sys

import msgspec
from aiohttp import web

from testpress_async.sandbox import Sandbox, Settings

PER_PAGE = 200


async def bodies(pages: int) -> list[bytes]:
    """The bodies of *pages* pages of sandbox attempts, every id on them different."""
    async with Sandbox(Settings(attempts=pages * PER_PAGE)) as institute:
        records = list(institute.truth.records("attempts"))
    path = "http://127.0.0.1/api/v2.5/admin/attempts/?page="
    return [
        msgspec.json.encode(
            {
                "count": pages * PER_PAGE,
                "next": f"{path}{number + 2}" if number + 1 < pages else None,
                "previous": None,
                "per_page": PER_PAGE,
                "results": records[number * PER_PAGE : (number + 1) * PER_PAGE],
            }
        )
        for number in range(pages)
    ]


async def main(pages: int) -> None:
    """Serve until the parent ends; prints the port."""
    ready = await bodies(pages)

    async def listing(request: web.Request) -> web.Response:
        number = int(request.query.get("page", "1"))
        return web.Response(body=ready[number - 1], content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/v2.5/admin/attempts/", listing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], len(ready[0]), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
