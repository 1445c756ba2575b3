"""Run as a program: harvest the attempts of an institute, and tell the memory and open files it took.

    python -m tests.support.lean URL USERNAME PASSWORD DIRECTORY [CONCURRENCY]

Prints one JSON object with what is in `Took`; with TELL=1 in the environment, how it goes on stderr besides.
The memory is the kernel's own high-water mark.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

import testpress_async as tp
from testpress_async.harvest.report import PartsCommitted
from testpress_async.http.events import Event


class Took(msgspec.Struct):
    """What a harvest took.

    Attributes:
        records: Rows of the finished table.
        read_kib: Most memory held at once until everything was read.
        peak_kib: The same until the finished table was there.
        files: Most files open at once when something was committed; `files_early` in the first half.
    """

    records: int = 0
    read_kib: int = 0
    peak_kib: int = 0
    files: int = 0
    files_early: int = 0


class Watch:
    """Looks at this process whenever something is committed."""

    def __init__(self, expected: int) -> None:
        self.took, self._expected, self._read = Took(), expected, 0

    def __call__(self, event: Event) -> None:
        if not isinstance(event, PartsCommitted):
            return
        self._read += event.records
        self.took.read_kib = peak_kib()
        self.took.files = max(self.took.files, open_files())
        if self._read <= self._expected / 2:
            self.took.files_early = self.took.files
        if os.environ.get("TELL"):
            print(self._read, self.took, _now_kib(), file=sys.stderr, flush=True)


def peak_kib() -> int:
    """Most memory this process ever held at once."""
    return _status_kib("VmHWM:")


def _now_kib() -> int:
    return _status_kib("VmRSS:")


def _status_kib(name: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(name)[2].split()[0])


def open_files() -> int:
    """File descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def harvested(url: str, username: str, password: str, directory: str, concurrency: int) -> Took:
    """Plan, read, finish."""
    async with tp.Client(url, username=username, password=password) as client:
        reads = await tp.plan(client, ["attempts"])
        watch = Watch(reads.costs[0].records or 0)
        report = await tp.harvest(
            client, reads, into=tp.Dataset(directory), concurrency=concurrency, on_event=watch
        )
    changes = report.tables[0].changes
    assert changes is not None
    watch.took.records, watch.took.peak_kib = changes.records, peak_kib()
    return watch.took


def main(url: str, username: str, password: str, directory: str, concurrency: str = "8") -> None:
    took = asyncio.run(harvested(url, username, password, directory, int(concurrency)))
    print(msgspec.json.encode(took).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
