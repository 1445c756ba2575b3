"""Answers that are ready before the first request: bodies in files, named after what is asked.

The answer to `/api/v2.5/admin/attempts/?page=2` is the file `api/v2.5/admin/attempts/page=2.json`. The
records are the sandbox's own; nothing of it is committed.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

import testpress_async as tp
from benchmarks.api import ATTEMPTS_PATH, PER_PAGE
from testpress_async.sandbox import Sandbox, Settings

ANSWER_BODIES, ANSWER_BYTES = 10, 38_500


def file_of(root: Path, target: str) -> Path:
    """Where the answer to *target*, path and query, stands."""
    path, _, query = target.partition("?")
    return root / f"{path[1:]}{query}.json"


def page(records: list[object], number: int, pages: int, origin: str) -> bytes:
    """Page *number* of *pages* of attempts, as the API sends it."""
    following = f"{origin}{ATTEMPTS_PATH}?page={number + 1}" if number < pages else None
    return msgspec.json.encode(
        {
            "count": pages * PER_PAGE,
            "next": following,
            "previous": None,
            "per_page": PER_PAGE,
            "results": records,
        }
    )


async def write(root: Path, origin: str, pages: int, *, export: bool = False) -> None:
    """Write *pages* pages of attempts and bodies of answers; with *export* all that an export asks for."""
    async with Sandbox(Settings(attempts=pages * PER_PAGE, gzip=False)) as institute:
        records = institute.truth.records("attempts")
        for number in range(1, pages + 1):
            body = page(list(islice(records, PER_PAGE)), number, pages, origin)
            target = ATTEMPTS_PATH + (f"?page={number}" if number > 1 else "")
            _put(root, target, body)
            _put(root, f"{ATTEMPTS_PATH}?page={number}", body)  # those who count pages ask so
        for digit, body in enumerate(_answers(institute)):
            _put(root, f"/answers/{digit}", body)
        if export:
            await _record_export(root, origin, institute)


def _answers(institute: Sandbox) -> Iterator[bytes]:
    """Bodies of `user_answers` of 39 kB: the answers of a few attempts as if they were one's."""
    parents = iter(institute.truth.ids("attempts"))
    for _ in range(ANSWER_BODIES):
        results: dict[str, list[object]] = {"user_answers": [], "exam_questions": []}
        while len(msgspec.json.encode(results)) < ANSWER_BYTES:
            parent = next(parents)
            for table, rows in results.items():
                rows += institute.truth.records(table, parent=parent)
        count = len(results["user_answers"])
        yield msgspec.json.encode(
            {"count": count, "next": None, "previous": None, "per_page": 250, "results": results}
        )


async def _record_export(root: Path, origin: str, institute: Sandbox) -> None:
    """Export from *institute* once, and keep every answer."""

    async def keep(request: tp.Request, handler: tp.Handler) -> tp.Response:
        response = await handler(request)
        _put(root, request.target, response.body.replace(institute.url.encode(), origin.encode()))
        return response

    with tempfile.TemporaryDirectory() as directory:
        async with tp.Client(institute.url, token=institute.token(), middleware=[keep]) as client:
            plan = await tp.plan(client, ["attempts"])
            await tp.harvest(client, plan, into=tp.Dataset(directory), formats="none")


def _put(root: Path, target: str, body: bytes) -> None:
    file = file_of(root, target)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)


def write_all(root: Path, origin: str, pages: int, *, export: bool = False) -> None:
    asyncio.run(write(root, origin, pages, export=export))
