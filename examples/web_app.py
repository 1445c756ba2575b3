"""One client in an aiohttp.web application: an exam's attempts as JSON, failures as good answers."""

from collections.abc import AsyncIterator

from aiohttp import web

import testpress_async as tp

CLIENT = web.AppKey("client", tp.Client)


async def client_context(app: web.Application) -> AsyncIterator[None]:
    async with tp.Client.from_env() as client:
        app[CLIENT] = client.with_options(timeout_s=5, priority="interactive")
        yield


async def exam_attempts(request: web.Request) -> web.Response:
    exam_id = int(request.match_info["exam_id"])
    listing = request.app[CLIENT].attempts.list(exams=exam_id, ordering="-date")
    try:
        page = await listing
    except tp.RateLimited as error:
        wait_s = round(error.retry_after_s or 5)
        raise web.HTTPServiceUnavailable(headers={"Retry-After": str(wait_s)}) from error
    except tp.Error as error:
        raise web.HTTPBadGateway(text=str(error)) from error
    attempts = [{"id": a.id, "state": a.state, "score": str(a.score)} for a in page.items]
    return web.json_response({"total": page.count, "newest": attempts})


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(client_context)
    app.router.add_get(r"/exams/{exam_id:\d+}/attempts", exam_attempts)
    return app


if __name__ == "__main__":
    # handler_cancellation: a browser that goes away ends its handler, and so the call to the institute
    web.run_app(make_app(), host="127.0.0.1", handler_cancellation=True)
