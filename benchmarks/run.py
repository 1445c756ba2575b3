"""One contender in a process of its own: `python -m benchmarks.run MODULE:FUNCTION WARM ARGUMENTS`.

WARM and ARGUMENTS are JSON lists: the function is called with the first once, unmeasured, so that neither
imports nor first uses count, then with the second. Prints what it took as JSON.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.instructions import Instructions


def memory_mib(name: str) -> float:
    """`VmRSS`: resident memory now; `VmHWM`: the most so far. (`ru_maxrss` starts at the parent's.)"""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return int(status.read_text().partition(f"{name}:")[2].split()[0]) / 1024


def measured(call: Any, warm: list[Any], arguments: list[Any]) -> dict[str, float]:
    import_mib, counter = memory_mib("VmRSS"), Instructions()
    _run(call, warm)
    before, began_s, cpu_s = counter.millions, time.perf_counter(), time.process_time()
    records = _run(call, arguments)
    return {
        "records": records,
        "wall_s": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - cpu_s,
        "minstructions": counter.millions - before,
        "import_mib": import_mib,
        "peak_mib": memory_mib("VmHWM"),
    }


def _run(call: Any, arguments: list[Any]) -> int:
    found = call(*arguments)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def main(name: str, warm: str, arguments: str) -> None:
    module, _, function = name.partition(":")
    call = getattr(import_module(f"benchmarks.contenders.{module}"), function)
    print(json.dumps(measured(call, json.loads(warm), json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
