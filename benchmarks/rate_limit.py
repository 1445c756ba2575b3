"""How much of a rate limit does a client use, and how often is it told off? `python -m benchmarks.rate_limit`

Every limiter meets the same simulated servers: Django REST framework's sliding log, as it really counts, with
`Retry-After`. Sixteen workers for each client, demand without end, ways there and back of 120 ms (median,
log-normal). No real time passes. Ours is the real gate, not a model of it.

A cell is "percent of the budget used / percent of the requests answered 429", once things have settled.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testpress_async.http.window import RatePolicy
from tests.rate_simulator import DRFServer, GateLimiter, Limiter, SimulatedClock, Simulation

WORKERS = 16
Limits = tuple[tuple[int, float], ...]


# --- the others --------------------------------------------------------------------------------------


class NaiveBackoff:
    """Each worker for itself: 0.5 s, doubling to 30 s, full jitter; Retry-After is ignored."""

    def __init__(self, simulation: Simulation, share: Limits) -> None:
        self._random, self._refusals = simulation.random, 0

    def opens_s(self, now_s: float) -> float:
        return now_s

    def send(self, now_s: float) -> None:
        return None

    def accepted(self, sent: Any, now_s: float) -> None:
        self._refusals = 0

    def refused(self, sent: Any, now_s: float, retry_after_s: float | None) -> float:
        self._refusals += 1
        return self._random.uniform(0.0, min(30.0, 0.5 * 2.0 ** min(self._refusals, 10)))


class RetryAfterEach:
    """What most people write: each worker sleeps as long as its own 429 says."""

    def __init__(self, simulation: Simulation, share: Limits) -> None:
        pass

    def opens_s(self, now_s: float) -> float:
        return now_s

    def send(self, now_s: float) -> None:
        return None

    def accepted(self, sent: Any, now_s: float) -> None:
        return None

    def refused(self, sent: Any, now_s: float, retry_after_s: float | None) -> float:
        return 1.0 if retry_after_s is None else retry_after_s


class GCRA(RetryAfterEach):
    """A leaky bucket at 98 % of the known rate (a client's share of it), without bursts."""

    def __init__(self, simulation: Simulation, share: Limits) -> None:
        self._gap_s = max(per_s / requests for requests, per_s in share) / 0.98
        self._next_s = 0.0

    def opens_s(self, now_s: float) -> float:
        return max(now_s, self._next_s)

    def send(self, now_s: float) -> None:
        self._next_s = max(now_s, self._next_s) + self._gap_s


class AWSAdaptive:
    """botocore's "adaptive" mode: a token bucket whose rate follows CUBIC, then standard backoff.

    Source: botocore/retries/adaptive.py, bucket.py and throttling.py (rates, constants and clocking as
    there); backoff min(20, random * 2**tries) of the standard mode, which ignores Retry-After.
    """

    SCALE, BETA, SMOOTH, MIN_RATE = 0.4, 0.7, 0.8, 0.5

    def __init__(self, simulation: Simulation, share: Limits) -> None:
        self._random = simulation.random
        self._on = False
        self._rate = self.MIN_RATE
        self._capacity, self._tokens, self._filled_s = 1.0, 1.0, 0.0
        self._last_max, self._last_throttle_s, self._window_s = 0.0, 0.0, 0.0
        self._measured, self._bucket_s, self._count = 0.0, 0.0, 0
        self._tries = 0

    def opens_s(self, now_s: float) -> float:
        if not self._on:
            return now_s
        self._fill(now_s)
        return now_s if self._tokens >= 1 else now_s + max(1e-6, (1 - self._tokens) / self._rate)

    def send(self, now_s: float) -> None:
        if self._on:
            self._tokens -= 1

    def accepted(self, sent: Any, now_s: float) -> None:
        self._tries = 0
        self._measure(now_s)
        since_s = now_s - self._last_throttle_s
        self._set_rate(self.SCALE * (since_s - self._window_s) ** 3 + self._last_max, now_s)

    def refused(self, sent: Any, now_s: float, retry_after_s: float | None) -> float:
        self._measure(now_s)
        rate = min(self._rate, self._measured) if self._on else self._measured
        self._last_max, self._last_throttle_s = rate, now_s
        self._window_s = (rate * (1 - self.BETA) / self.SCALE) ** (1 / 3)
        self._on = True
        self._set_rate(rate * self.BETA, now_s)
        self._tries += 1
        return min(20.0, self._random.random() * 2.0 ** min(self._tries, 6))

    def _set_rate(self, rate: float, now_s: float) -> None:
        self._fill(now_s)
        self._rate = max(self.MIN_RATE, min(rate, 2 * self._measured))
        self._capacity = max(1.0, self._rate)
        self._tokens = min(self._tokens, self._capacity)

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s

    def _measure(self, now_s: float) -> None:
        self._count += 1
        bucket_s = math.floor(now_s * 2) / 2
        if bucket_s > self._bucket_s:
            current = self._count / (bucket_s - self._bucket_s)
            self._measured = self.SMOOTH * current + (1 - self.SMOOTH) * self._measured
            self._bucket_s, self._count = bucket_s, 0


def ours(policy: Callable[[Limits], RatePolicy]) -> Callable[[Simulation, Limits], Limiter]:
    return lambda simulation, share: GateLimiter(simulation.clock, policy(share), workers=WORKERS)


LIMITERS: dict[str, Callable[[Simulation, Limits], Limiter]] = {
    "backoff + jitter": NaiveBackoff,
    "Retry-After, each worker": RetryAfterEach,
    "GCRA, 98 % of known rate": GCRA,
    "AWS adaptive (CUBIC)": AWSAdaptive,
    "ours, limit given": ours(lambda share: RatePolicy(limits=share)),
    "ours, limit learned": ours(lambda share: RatePolicy()),
}


# --- the tests ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """One column. `settle`, `windows`: of the tighter limit, before and while it is measured."""

    name: str
    limits: Limits
    clients: int = 1
    stranger: float = 0.0
    settle: int = 10
    windows: int = 40
    used: float = 99.0  # target of our learned row, in percent
    refused: float = 0.05


SCENES = (
    Scene("600/min", ((600, 60.0),)),
    Scene("600/min x8", ((600, 60.0),), clients=8, settle=20, used=97, refused=0.25),
    Scene("60/min", ((60, 60.0),)),
    Scene("60/min x8", ((60, 60.0),), clients=8, settle=60, used=97, refused=0.25),
    Scene("1000/h", ((1000, 3600.0),), windows=12),
    Scene("1000/h x8", ((1000, 3600.0),), clients=8, windows=12, used=97, refused=0.25),
    Scene("10/s", ((10, 1.0),), settle=60, windows=1500, used=85),
    Scene("60/min+1000/h", ((60, 60.0), (1000, 3600.0)), windows=12, used=97),
    Scene("600/min, 30% foreign", ((600, 60.0),), stranger=0.3, used=0, refused=0.5),
)


@dataclass
class Result:
    used: float = 0.0
    refused: float = 0.0
    discovery: float = 0.0


def run(scene: Scene, make: Callable[[Simulation, Limits], Limiter], seed: int) -> Result:
    requests, per_s = min(scene.limits, key=lambda limit: limit[0] / limit[1])
    simulation = Simulation(DRFServer(*scene.limits), SimulatedClock(), seed=seed)
    share = tuple((max(1, number // scene.clients), period_s) for number, period_s in scene.limits)
    for number in range(scene.clients):
        simulation.add_client(make(simulation, share), workers=WORKERS, start_s=0.3 * number)
    if scene.stranger:
        simulation.add_stranger(scene.stranger * requests / per_s)
    simulation.run_for(scene.settle * per_s)
    discovery = simulation.counts.refused / scene.clients
    counts = simulation.measure(scene.windows * per_s)
    budget = scene.windows * requests
    used = 100 * (counts.accepted + simulation.strangers.accepted) / budget
    return Result(used, 100 * counts.refused_share, discovery)


def average(results: list[Result]) -> Result:
    count = len(results)
    return Result(
        sum(result.used for result in results) / count,
        sum(result.refused for result in results) / count,
        max(result.discovery for result in results),
    )


def missed(name: str, scene: Scene, result: Result) -> bool:
    """Whether a row of ours misses what it promises in *scene*."""
    sole = scene.clients == 1 and not scene.stranger
    if name == "ours, limit given":
        return sole and result.refused > 0
    if name != "ours, limit learned":
        return False
    late = sole and len(scene.limits) == 1 and result.discovery > WORKERS
    return late or result.used < scene.used or result.refused > scene.refused


def main() -> int:
    """Print the table; 1 if a row of ours misses a target."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--seeds", type=int, default=2, help="runs of each cell, averaged")
    seeds = range(1, 1 + arguments.parse_args().seeds)
    began_s = time.perf_counter()
    print(__doc__)
    print("| limiter | " + " | ".join(scene.name for scene in SCENES) + " |")
    print("|---|" + "---|" * len(SCENES))
    misses = list[str]()
    for name, make in LIMITERS.items():
        results = [average([run(scene, make, seed) for seed in seeds]) for scene in SCENES]
        cells = [f"{result.used:.1f} / {result.refused:.3g}" for result in results]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        misses += [
            f"{name}, {scene.name}"
            for scene, result in zip(SCENES, results, strict=True)
            if missed(name, scene, result)
        ]
    targets = " | ".join(f">= {scene.used:g} / <= {scene.refused:g}" for scene in SCENES)
    print(f"| *target, learned* | {targets} |")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    elapsed_s = time.perf_counter() - began_s
    print(f"\nPython {platform.python_version()}, {machine}; {len(seeds)} seeds; {elapsed_s:.0f} s")
    print("all targets met" if not misses else "MISSED: " + "; ".join(misses))
    return 1 if misses else 0


if __name__ == "__main__":
    raise SystemExit(main())
