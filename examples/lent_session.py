"""An aiohttp.web application that lends its own `ClientSession`: one pool for all it talks to.

Connections, proxy, TLS, tracing and name servers are then the application's business. The client uses the
session and never closes it. Run `testpress sandbox`, set the variables it prints, then this file.
"""

from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

import testpress_async as tp

SESSION = web.AppKey("session", aiohttp.ClientSession)
CLIENT = web.AppKey("client", tp.Client)


async def session_context(app: web.Application) -> AsyncIterator[None]:
    """The application's session, used for other services, too."""
    connector = aiohttp.TCPConnector(limit=100, limit_per_host=16)
    # An institute needs no cookies, and should not get those of other services.
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        app[SESSION] = session
        yield


async def client_context(app: web.Application) -> AsyncIterator[None]:
    """Comes after the session, so it ends before it. `max_connections` is what the pool allows per host."""
    async with tp.Client.from_env(session=app[SESSION], max_connections=16) as client:
        app[CLIENT] = client.with_options(timeout_s=5, priority="interactive")
        yield


async def attempt(request: web.Request) -> web.Response:
    try:
        found = await request.app[CLIENT].attempts.get(int(request.match_info["attempt_id"]))
    except tp.NotFound as error:
        raise web.HTTPNotFound from error
    except tp.Error as error:
        raise web.HTTPBadGateway(text=str(error)) from error
    return web.json_response({"id": found.id, "score": str(found.score)})


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.extend([session_context, client_context])
    app.router.add_get(r"/attempts/{attempt_id:\d+}", attempt)
    return app


if __name__ == "__main__":
    # handler_cancellation: a browser that goes away ends its handler, and so the call to the institute
    web.run_app(make_app(), host="127.0.0.1", handler_cancellation=True)
