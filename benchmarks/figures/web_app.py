"""A web application that streams on its own event loop: does it go on answering?"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

from benchmarks import servers
from benchmarks.figure import Bench, Figure, Target

VISITORS = 16
WINDOW, LATENCY_MS = 4, 20


@dataclass(frozen=True)
class Seen:
    """Answers a second, and a processor second of the application; how late its loop was in milliseconds,
    and how much of that it computed."""

    per_s: float
    per_cpu_s: float
    lag_p50_ms: float
    lag_p99_ms: float
    busy_p99_ms: float
    records_per_s: float


class Visitor(asyncio.Protocol):
    """Asks again as soon as it was answered."""

    REQUEST = b"GET /ping HTTP/1.1\r\nHost: app\r\n\r\n"

    def __init__(self) -> None:
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self.REQUEST)

    def data_received(self, data: bytes) -> None:
        self.answers += data.count(b"HTTP/1.1 200")
        self._transport.write(self.REQUEST)

    def close(self) -> None:
        self._transport.abort()


async def visit(port: int, duration_s: float) -> float:
    """Answers a second of *port* to `VISITORS` that never wait."""
    loop, visitors = asyncio.get_running_loop(), [Visitor() for _ in range(VISITORS)]
    for visitor in visitors:
        await loop.create_connection(lambda visitor=visitor: visitor, "127.0.0.1", port)
    await asyncio.sleep(duration_s)
    for visitor in visitors:
        visitor.close()
    return sum(visitor.answers for visitor in visitors) / duration_s


class App:
    """The application in its own process."""

    def __init__(self, port: int) -> None:
        self._port = port

    def tell(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self._port}{path}") as answer:
            return json.load(answer)

    def seen(self, url: str | None, window: int, duration_s: float, *, visited: bool = True) -> Seen:
        """What happens in *duration_s* while *url* is streamed; None: nothing is."""
        self.tell(f"/start?url={url or ''}&window={window}")
        per_s = asyncio.run(visit(self._port, duration_s) if visited else asyncio.sleep(duration_s, 0.0))
        told = self.tell("/stop")
        answers_per_cpu_s = per_s * duration_s / told["cpu_s"]
        lags = (told[name] for name in ("lag_p50_ms", "lag_p99_ms", "busy_p99_ms"))
        return Seen(per_s, answers_per_cpu_s, *lags, told["records"] / duration_s)


def web_app(bench: Bench) -> Figure:
    duration_s = 0.3 if bench.quick else 2.0
    port = servers.free_port()
    command = [sys.executable, "-m", "benchmarks.web_app", f"{port}"]
    slow = servers.answering("pages", bench.folder / "all" / "files", bench.pages, LATENCY_MS)
    scenes = dict[str, list[Seen]]()
    with slow as far, servers.running(command, port):
        app = App(port)
        asks: dict[str, tuple[str | None, int, bool]] = {
            "visited, nothing streams": (None, 1, True),
            f"visited, streaming from {LATENCY_MS} ms away, window {WINDOW}": (far, WINDOW, True),
            f"visited, streaming from loopback, window {WINDOW}": (bench.url, WINDOW, True),
            "not visited, nothing streams": (None, 1, False),
            "not visited, streaming from loopback, window 8": (bench.url, 8, False),
        }
        for _ in range(bench.rounds):
            for name, (url, window, visited) in asks.items():
                scenes.setdefault(name, []).append(app.seen(url, window, duration_s, visited=visited))
    return _figure(scenes)


def _figure(scenes: dict[str, list[Seen]]) -> Figure:
    def median(name: str, seen: list[Seen]) -> float:
        return statistics.median(getattr(each, name) for each in seen)

    idle, far, near, _, alone = scenes.values()

    def kept(seen: list[Seen], name: str) -> float:
        pairs = zip(seen, idle, strict=True)
        return statistics.median(getattr(mine, name) / getattr(theirs, name) for mine, theirs in pairs)

    return Figure(
        name="web_app",
        title=f"A web handler on the same loop, {VISITORS} visitors that never wait",
        header=("", "answers/s", "lag p50 ms", "lag p99 ms", "records/s"),
        rows=[
            (
                name,
                f"{median('per_s', seen):,.0f}" if median("per_s", seen) else "",
                f"{median('lag_p50_ms', seen):.2f}",
                f"{median('lag_p99_ms', seen):.2f}",
                f"{median('records_per_s', seen):,.0f}",
            )
            for name, seen in scenes.items()
        ],
        bars={name: median("per_s", seen) for name, seen in list(scenes.items())[:3]},
        bars_unit="answers/s",
        targets=[
            Target(
                "loop lag p99 while streaming",
                median("lag_p99_ms", alone),
                20,
                by_cpu=median("busy_p99_ms", alone),
                at_most=True,
                unit=" ms",
            ),
            Target(f"web handler's rate, streaming from {LATENCY_MS} ms away", kept(far, "per_s"), 0.80),
            Target(
                "web handler's rate, streaming as fast as loopback",
                kept(near, "per_s"),
                0.80,
                by_cpu=kept(near, "per_cpu_s"),
            ),
        ],
    )
