"""`python -m benchmarks [--pages N] [--rounds N]`: decode, stream, memory."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import timeit
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

import msgspec

from benchmarks.contender import CONTENDERS, Envelope
from testpress_async.models import ATTEMPTS


def machine() -> str:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cpu = next(names, platform.processor())
    parts = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "msgspec"))
    return f"{cpu}, {os.cpu_count()} cores; {platform.system()}; Python {platform.python_version()}; {parts}"


def decode(body: bytes) -> None:
    """A page of 200 attempts: the library's reader beside msgspec alone."""
    plain = msgspec.json.Decoder(Envelope)
    raw = ATTEMPTS.split
    figures = {
        "msgspec alone, typed": lambda: plain.decode(body),
        "PageReader.read, typed": lambda: ATTEMPTS.read(body),
        "PageReader.split, raw rows": lambda: raw(body),
        "json.loads": lambda: json.loads(body),
    }
    print(f"\nDecode one page of 200 attempts ({len(body) / 1e3:.0f} kB)")
    times = {name: min(timeit.repeat(call, number=50, repeat=7)) / 50 for name, call in figures.items()}
    floor = times["msgspec alone, typed"]
    for name, spent_s in times.items():
        print(f"  {name:<28} {spent_s * 1e6:8.0f} µs   {spent_s / floor:5.2f} ×")


def stream(url: str, rounds: int) -> None:
    """All contenders in turn, each in its own process, medians."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, runs in results.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.contender", name, url],
                capture_output=True,
                check=True,
                text=True,
            )
            runs.append(json.loads(done.stdout))
    records = int(next(iter(results.values()))[0]["records"])
    print(f"\nStream {records:,} typed attempts over loopback, median of {rounds} rounds")
    floor = None
    for name, runs in results.items():
        assert {run["records"] for run in runs} == {records}, f"{name} lost records"
        rate = records / statistics.median(run["elapsed_s"] for run in runs)
        floor = floor or rate
        grown = statistics.median(run["grown_mib"] for run in runs)
        print(f"  {name:<50} {rate:>10,.0f} records/s  {rate / floor:5.2f} ×   +{grown:4.1f} MiB")
    print("  (memory: highest resident memory above that of one decoded page)")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--pages", type=int, default=500, help="pages of 200 attempts (default 500)")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds of each contender (default 3)")
    chosen = arguments.parse_args()
    print(machine())
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.canned", str(chosen.pages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split()[0]
        url = f"http://127.0.0.1:{port}"
        print(f"Server: aiohttp in its own process, {chosen.pages} prebuilt pages")
        decode(urlopen(f"{url}/api/v2.5/admin/attempts/").read())
        stream(url, chosen.rounds)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
