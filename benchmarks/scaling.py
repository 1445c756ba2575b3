"""What a full export costs on paper: `python -m benchmarks.scaling` prints the tables of docs/scaling.md.

The formulas are held against real exports from the sandbox, in virtual time, by tests/test_scaling.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figure import table as markdown

SIZES = (10**5, 10**6, 10**7, 10**8)
PER_PAGE, CONTENTS_PER_PAGE = 200, 250
SHARD_PAGES = 10
"""`max_pages` of a plan: about so many pages are proved complete together."""
AT_ONCE, ANSWER_S = 8, 0.1
"""Shards read at once, one page each, and how long an answer takes: what bounds a server without a limit."""
RATES = {"60/min": 1.0, "600/min, 10/s": 10.0, "unlimited": AT_ONCE / ANSWER_S}
"""Requests a second."""


def attempts_requests(records: int, per_page: int = PER_PAGE) -> int:
    """Pages; looks for days to cut at; last pages of shards, which are not full; eight to begin."""
    pages = max(1, math.ceil(records / per_page))
    if pages <= SHARD_PAGES:
        return pages + 1
    return math.ceil(pages * (1 + 1 / 40 + 1 / 15)) + 8


def contents_requests(records: int, per_page: int = CONTENTS_PER_PAGE) -> int:
    """Pages, and about 70 requests that find out how to cut."""
    pages = max(1, math.ceil(records / per_page))
    return pages + (70 if pages > SHARD_PAGES else 1)


@dataclass(frozen=True)
class Table:
    """A table's cost: requests by number of records, and bytes of one as measured on the sandbox.

    Attributes:
        landed_bytes: In the export's files.
        sent_bytes: In the server's answers, not compressed.
    """

    name: str
    unit: str
    requests: Callable[[int], int]
    landed_bytes: float
    sent_bytes: float


TABLES = (
    Table("attempts", "attempts", attempts_requests, 570, 610),
    Table("attempt_details", "attempts", lambda attempts: attempts, 1_630, 1_630),
    Table("user_answers", "attempts", lambda attempts: attempts, 4_700, 22_000),
    Table("content_attempts", "content attempts", contents_requests, 640, 1_100),
)


def duration(seconds: float) -> str:
    """Two digits of what fits, from seconds to years."""
    units = {"years": 365 * 86_400, "days": 86_400, "h": 3_600, "min": 60, "s": 1}
    unit = next((unit for unit, unit_s in units.items() if seconds >= 2 * unit_s), "s")
    return f"{float(f'{seconds / units[unit]:.2g}'):g} {unit}"


def size(data_bytes: float) -> str:
    """Two digits, decimal units."""
    units = {"TB": 1e12, "GB": 1e9, "MB": 1e6}
    unit = next((unit for unit, unit_bytes in units.items() if data_bytes >= unit_bytes), "MB")
    return f"{float(f'{data_bytes / units[unit]:.2g}'):g} {unit}"


def rows(of: Table) -> list[list[str]]:
    found = list[list[str]]()
    for records in SIZES:
        requests = of.requests(records)
        times = [duration(requests / per_s) for per_s in RATES.values()]
        sizes = [size(records * each) for each in (of.landed_bytes, of.sent_bytes)]
        found.append([f"{records:,}", f"{requests:,}", *times, *sizes])
    return found


def text(of: Table) -> str:
    """One table as Markdown."""
    return markdown((of.unit, "requests", *RATES, "on disk", "sent, not zipped"), rows(of))


if __name__ == "__main__":
    for each in TABLES:
        print(f"### `{each.name}`\n\n{text(each)}\n")
