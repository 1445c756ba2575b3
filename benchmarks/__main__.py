"""Speed and memory beside others, in one run. `python -m benchmarks [--quick] [FIGURE …]`

Every contender runs in a process of its own against the same server, in turn; figures are medians, ratios are
medians of the rounds. Compare ratios: absolute figures belong to the machine in the first line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import canned, servers
from benchmarks.figure import TARGET_HEADER, Bench, Figure, table
from benchmarks.figures.export import export
from benchmarks.figures.fan_out import fan_out
from benchmarks.figures.idle import idle
from benchmarks.figures.imports import imports
from benchmarks.figures.latency import latency
from benchmarks.figures.memory import memory
from benchmarks.figures.streaming import streaming
from benchmarks.figures.web_app import web_app

FIGURES: dict[str, Callable[[Bench], Figure]] = {
    "streaming": streaming,
    "fan_out": fan_out,
    "export": export,
    "latency": latency,
    "memory": memory,
    "web_app": web_app,
    "imports": imports,
    "idle": idle,
}
NAMED = ("aiohttp", "msgspec", "uvloop", "httpx", "pydantic", "requests", "openai", "dlt", "aiohttp-retry")


def header() -> str:
    """What the figures were measured on."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    lines = [
        f"{_processor()}, {cores} cores; {platform.system()}; Python {platform.python_version()}",
        ", ".join(f"{name} {found}" for name in NAMED if (found := _version(name))),
        f"Server: {servers.description()}.",
    ]
    if load > cores:
        lines.append(
            f"LOADED: load average {load:.1f} on {cores} cores. Others compute here too: trust ratios of "
            "instructions and processor time more than those of the clock."
        )
    return "\n".join(lines)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(name: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(name)
    return None


@contextlib.contextmanager
def prepared(chosen: argparse.Namespace) -> Iterator[Bench]:
    """Canned answers, served."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as running:
        folder, urls = Path(directory), list[str]()
        for name, pages in (("all", chosen.pages), ("warm", 2)):
            port = servers.free_port()
            urls.append(f"http://127.0.0.1:{port}")
            canned.write_all(folder / name / "files", urls[-1], pages, export=True)
            running.enter_context(servers.serving(folder / name, port))
        yield Bench(
            url=urls[0],
            warm_url=urls[1],
            folder=folder,
            pages=chosen.pages,
            rounds=chosen.rounds,
            quick=chosen.quick,
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"only these: {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it run?")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the figures as SVG into DIR")
    parser.add_argument("--rounds", type=int, help="rounds of each contender (default 5)")
    parser.add_argument("--pages", type=int, help="pages of 200 attempts (default 500); other sizes follow")
    chosen = parser.parse_args()
    if unknown := set(chosen.figures) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5)
    chosen.pages = chosen.pages or (3 if chosen.quick else 500)
    return chosen


def drawn(figures: Sequence[Figure], folder: Path) -> str:
    """Draw what can be drawn, and say where it is."""
    if importlib.util.find_spec("matplotlib") is None:
        return "SKIPPED, as it is not installed: plots (matplotlib)."
    from benchmarks.plot import draw

    folder.mkdir(parents=True, exist_ok=True)
    files = (draw(figure, folder) for figure in figures)
    return "Drawn: " + ", ".join(str(file) for file in files if file)


def main() -> None:
    chosen, began_s = arguments(), time.perf_counter()
    print(header(), flush=True)
    figures = list[Figure]()
    with prepared(chosen) as bench:
        for name in chosen.figures or FIGURES:
            figures.append(FIGURES[name](bench))
            print(f"\n{figures[-1].text()}", flush=True)
    if chosen.plots:
        print(f"\n{drawn(figures, chosen.plots)}")
    targets = [target.row for figure in figures for target in figure.targets]
    print(f"\n## All targets\n\n{table(TARGET_HEADER, targets)}")
    if chosen.quick:
        print("\n--quick: sizes are too small for these to mean anything.")
    print(f"\n{chosen.rounds} rounds of each, {time.perf_counter() - began_s:.0f} s")


if __name__ == "__main__":
    main()
