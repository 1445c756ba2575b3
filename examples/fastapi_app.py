"""One client in a FastAPI application: a page, an NDJSON stream, deadlines, failures as good answers.

Run `testpress sandbox`, set what it prints, `uvicorn examples.fastapi_app:app`, and open /exams/1 there.
"""

import asyncio
import contextlib
import html
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

import testpress_async as tp

PAGE = """<!doctype html><meta charset="utf-8"><title>{0}</title><style>
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui }} body {{ max-width: 46rem; margin: 3rem auto }}
table {{ width: 100%; border-collapse: collapse }} td {{ border-top: 1px solid #8883; padding: .5rem }}
td:nth-child(n + 3) {{ text-align: right }}</style><h1>{0}</h1>{1}"""
ANSWERS = {
    tp.NotFound: (404, "There is no such thing at the institute."),
    tp.RateLimited: (503, "Too many ask at once. Please try again in a moment."),
    tp.TimedOut: (504, "The institute did not answer in time. Please try again."),
}
Seconds = Annotated[float, Query(gt=0, le=30)]


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, tp.Client]]:
    async with tp.Client.from_env(coalesce=True) as client:
        yield {"client": client}  # found in request.state


async def ours(request: Request, timeout_s: Seconds = 5) -> AsyncIterator[tp.Client]:
    """The client for one request, with its own deadline; ends the handler when the browser goes away."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        handler.cancel()

    with anyio.CancelScope() as handler:
        watching = asyncio.create_task(watch())
        try:
            yield request.state.client.with_options(timeout_s=timeout_s, priority="interactive")
        finally:
            watching.cancel()
    if handler.cancelled_caught:
        raise HTTPException(499)  # nobody reads it


app = FastAPI(lifespan=lifespan)
Client = Annotated[tp.Client, Depends(ours, scope="function")]  # which ends when the handler does


@app.get("/exams/{exam_id}")
async def exam(exam_id: int, client: Client) -> Response:
    page = await client.attempts.list(exams=exam_id, ordering="-date")
    row = "<tr><td><a href='/attempts/{0}'>{0}</a><td>{1}<td>{2:.16}<td>{3}".format
    rows = [row(a.id, html.escape(a.name or "?"), str(a.date or "–"), a.score) for a in page.items]
    return HTMLResponse(PAGE.format(f"Exam {exam_id}: {page.count} attempts", "<table>" + "".join(rows)))


@app.get("/attempts/{attempt_id}")
async def attempt(attempt_id: int, client: Client) -> dict[str, Any]:
    found = await client.attempts.get(attempt_id)
    return {"id": found.id, "exam": found.exam_id, "score": found.score, "date": found.date}


@app.get("/exams/{exam_id}/attempts.ndjson")
async def download(exam_id: int, client: Client, resume: str | None = None) -> Response:
    listing = client.with_options(priority="bulk").attempts.list(exams=exam_id, ordering="date")
    pages = (listing.resume(resume) if resume else listing).pages(window=4)
    body = lines(await anext(pages), pages)  # a failure up to here has its status
    return StreamingResponse(body, media_type="application/x-ndjson")


async def lines(page: Any, pages: AsyncIterator[tp.Page[tp.Attempt]]) -> AsyncIterator[bytes]:
    encode = msgspec.json.Encoder().encode_lines
    try:
        while page is not None:
            yield encode({"id": a.id, "date": a.date, "score": a.score} for a in page.items)
            page = await anext(pages, None)
    except tp.Error as error:  # too late for a status: the last line tells, and where to go on
        yield encode([{"error": type(error).__name__, "resume": error.resume_token}])


@app.exception_handler(tp.Error)
async def failed(request: Request, error: tp.Error) -> Response:
    logging.warning("%s: %s", type(error).__name__, error)  # it holds no secrets
    status, text = ANSWERS.get(type(error), (502, "The institute cannot be asked at present."))
    wait_s = error.retry_after_s if isinstance(error, tp.RateLimited) else None
    headers = {} if wait_s is None else {"Retry-After": f"{wait_s + 1:.0f}"}
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(PAGE.format(text, ""), status, headers)
    return JSONResponse({"detail": text}, status, headers)
