"""Exports that are meant to be killed; arguments as those of `main`.

For every directory named on stdin a child is forked that exports into it; its process id, and when it has
ended its status, are told on stdout. Forking spares each export the start of an interpreter.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from pathlib import Path

import testpress_async as tp
from testpress_async.harvest import run

TABLES = ("exams", "attempts", "attempt_details", "user_answers", "content_attempts")


async def export(path: Path, url: str, username: str, password: str, concurrency: int) -> None:
    """One export, as a user's coroutine does it."""
    async with tp.Client(url, username=username, password=password) as client:
        reads = await tp.plan(client, list(TABLES))
        await tp.harvest(client, reads, into=tp.Dataset(path), concurrency=concurrency)


def main(url: str, username: str, password: str, records: str, concurrency: str) -> None:
    run.COMMIT_RECORDS = int(records)  # ten thousand are more than a small institute has
    for line in sys.stdin:
        child = os.fork()
        if child:
            print(child, flush=True)
            print(os.waitpid(child, 0)[1], flush=True)
            continue
        try:
            asyncio.run(export(Path(line.rstrip("\n")), url, username, password, int(concurrency)))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
