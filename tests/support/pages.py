"""An institute without a socket: answers pages at the place where a caller's own middleware stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

import testpress_async as tp
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler

ORIGIN = "https://institute.test"
NO_RETRIES = tp.RetryPolicy(max_tries=1)


def page(
    ids: Iterable[object],
    *,
    next_page: int | None = None,
    next_url: str | None = None,
    count: object = None,
    per_page: object = None,
) -> bytes:
    """A page of attempts. An id that is no number makes a record that cannot be decoded."""
    link = f"{ORIGIN}/api/v2.5/admin/attempts/?page={next_page}" if next_page else next_url
    rows = [{"id": each} for each in ids]
    head = {"count": count, "next": link, "previous": None, "per_page": per_page}
    return json.dumps({**head, "results": rows}).encode()


def book(*pages: Iterable[object], count: object = None, per_page: object = None) -> dict[int, bytes]:
    """A whole listing: page 1, 2, … each with a `next` but the last."""
    last = len(pages)
    return {
        number: page(ids, next_page=number + 1 if number < last else None, count=count, per_page=per_page)
        for number, ids in enumerate(pages, 1)
    }


class Pages:
    """Middleware that answers page n out of *answers*; a page that is not there is a 404.

    Attributes:
        asked: Page numbers in the order they were asked for.
        targets: Path and query of every request.
        running: Requests that wait for their answer now; `most_running`: the most there ever were.
        held: Pages that are answered only when their event is set.
    """

    def __init__(self, answers: Mapping[int, bytes | tuple[int, bytes]] | Callable[[int], bytes]) -> None:
        self._answers = answers
        self.asked: list[int] = []
        self.targets: list[str] = []
        self.running = self.most_running = 0
        self.held: dict[int, asyncio.Event] = {}

    async def __call__(self, request: Request, handler: Handler) -> Response:
        number = int(parse_qs(urlsplit(request.target).query).get("page", ["1"])[0])
        self.asked.append(number)
        self.targets.append(request.target)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0)
            if number in self.held:
                await self.held[number].wait()
        finally:
            self.running -= 1
        return self._response(number)

    def _response(self, number: int) -> Response:
        if callable(self._answers):
            answer: bytes | tuple[int, bytes] = self._answers(number)
        else:
            answer = self._answers.get(number, (404, b'{"detail": "Invalid page."}'))
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return Response(status=status, headers={}, body=body)

    def client(self, **options: object) -> tp.Client:
        """A client that these pages answer."""
        given = {"token": "t", "retry": NO_RETRIES, **options}
        return tp.Client(ORIGIN, middleware=[self], **given)  # type: ignore[arg-type]


def other_tasks() -> set[asyncio.Task[object]]:
    """Tasks of the running loop besides the caller's."""
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}
