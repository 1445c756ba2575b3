"""What is lost when a collection changes while it is read? `python -m benchmarks.drift`

36,500 attempts of a year, 100 a page, 100 ms an answer, read while students write, delete and upload late;
the real client over real sockets in virtual time, so every machine prints the same. *normal*: 10 insertions,
2 deletions and 1 back-dated insertion a second; *hot*: ten times that; *burst*: 2,000 neighbours deleted at
once; *ties*: records of one instant change places.

A cell is "records lost or doubled, in a million / requests beside one for each page". Records lost where ours
said "certified" would be printed as SILENT.
"""

from __future__ import annotations

import argparse
import time

from tests.support.drift import SCENES, Story, Way, concurrent, forward, harvested, tell, two_passes

WAYS: dict[str, Way] = {
    "forward walk, ordering=date": forward,
    "8 pages at once": concurrent,
    "two passes, both kept": two_passes,
    "ours": harvested(),
    "ours, strict": harvested(strict=True),
}


def cell(told: list[Story]) -> str:
    stable = sum(story.stable for story in told)
    lost = sum(story.lost for story in told) * 1e6 / stable
    doubled = sum(story.doubled for story in told) * 1e6 / stable
    silent = sum(story.silent for story in told)
    cost = sum(story.cost for story in told) / len(told)
    return f"{lost:,.0f} + {doubled:,.0f} / {cost:.2f}" + (f" SILENT {silent}" if silent else "")


def main() -> int:
    """Print the table; 1 if anything was lost silently."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=4, help="stories of each cell")
    arguments.add_argument("--scale", type=float, default=1.0, help="of the collection; changes with it")
    given = arguments.parse_args()
    began_s, silent = time.perf_counter(), 0
    print(__doc__)
    print("| read by | " + " | ".join(scene.name for scene in SCENES) + " |")
    print("|---|" + "---|" * len(SCENES))
    for name, way in WAYS.items():
        cells = list[str]()
        for scene in SCENES:
            told = [tell(way, scene, seed, scale=given.scale) for seed in range(given.runs)]
            silent += sum(story.silent for story in told)
            cells.append(cell(told))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{given.runs} runs of each; {time.perf_counter() - began_s:.0f} s")
    return 1 if silent else 0


if __name__ == "__main__":
    raise SystemExit(main())
