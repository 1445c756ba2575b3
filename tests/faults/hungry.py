"""Run as a program: read what a hostile server sends, one client after the other; tell the memory it took.

    python -m tests.faults.hungry ORIGIN CALL …

Prints a line for each CALL ("get", "list" or "login"): what it ended with, and by how many KiB the process
has grown above its size after a harmless answer. The memory is the kernel's own high-water mark.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import testpress_async as tp


async def end_of(origin: str, call: str) -> str:
    """Name of the error that one *call* of a new client ends with."""
    password = "p" if call == "login" else None
    token, username = (None, "u") if password else ("t", None)
    once = tp.RetryPolicy(max_tries=1)
    async with tp.Client(origin, token=token, username=username, password=password, retry=once) as client:
        try:
            if call == "list":
                await client.attempts.list(bad_records="skip").collect()
            else:
                await client.attempts.get(1)
        except tp.Error as error:
            return type(error).__name__
    return "ok"


def peak_kib() -> int:
    """Most memory this process ever held at once."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main(origin: str, *calls: str) -> None:
    before_kib = None
    for call in calls:
        end = asyncio.run(end_of(origin, call))
        before_kib = peak_kib() if before_kib is None else before_kib
        print(end, peak_kib() - before_kib, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
