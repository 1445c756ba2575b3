"""A harvest takes the same memory and files however much it reads.

The institute answers from another process, so that only the reader is measured. At ten million attempts it is
`python -m tests.support.lean` beside `testpress sandbox --attempts 10000000`.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.lean import Took

FEW, MANY = 20_000, 400_000
MOST_KIB = 200 << 10
"""For any number of attempts."""
GROWTH_KIB = 32 << 10
"""Busy days make large shards, which are in files beyond a limit; the rows of MANY are 220 MB."""


@contextlib.contextmanager
def institute(attempts: int) -> Iterator[str]:
    """Address of an institute in a process of its own."""
    command = [sys.executable, "-m", "testpress_async", "sandbox", "--port", "0", "--attempts", f"{attempts}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://[0-9.:]+", process.stderr.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


def took(attempts: int, directory: Path) -> Took:
    """What reading that many attempts takes."""
    with institute(attempts) as url:
        command = [sys.executable, "-m", "tests.support.lean", url, "admin", "sandbox", str(directory)]
        done = subprocess.run(command, capture_output=True, check=True, timeout=150)
    return msgspec.json.decode(done.stdout, type=Took)


@pytest.mark.long
@pytest.mark.row(115)
@pytest.mark.timeout(200)
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory and open files are read from /proc"
)
def test_a_harvest_of_any_size_fits_into_200_mib(tmp_path: Path):
    """Twenty times as many attempts take hardly more memory and no more open files."""
    few, many = took(FEW, tmp_path / "few"), took(MANY, tmp_path / "many")
    print(few, many, sep="\n")
    assert (few.records, many.records) == (FEW, MANY)
    assert many.peak_kib < MOST_KIB
    assert many.peak_kib - few.peak_kib < GROWTH_KIB
    assert many.files <= many.files_early + 8  # a temporary file for each shard being read
    assert many.files <= few.files + 16
