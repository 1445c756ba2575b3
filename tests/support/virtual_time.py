"""An event loop on which hours pass in milliseconds: when nothing is ready, time jumps to the next timer.

    def test_something() -> None:
        run(scenario(), seed=7)     # no running loop around it: a plain test, not a coroutine

Everything else is real: aiohttp, sockets on loopback, files. `loop.time()` and `time.time()` are virtual, so
a plain `Client` and a plain `Sandbox` live in virtual time. With the same seed the same things happen in the
same order:

- Bytes on their way between sockets of this process arrive before time moves.
- What is sent to a thread (`asyncio.to_thread`) runs between two turns of the loop, one after the other, in
  the order it was asked for; time and sockets wait. Such work must not wait for the loop.
- Sockets that are ready at once are served in the order in which they were opened.
- `random` is seeded.

Not for what happens outside: other processes, threads of your own, host names (they need a resolver thread
and an outside server; use literal addresses), signals.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, ParamSpec, TypeVar
from unittest import mock

import aiohttp.connector

T = TypeVar("T")
P = ParamSpec("P")

WALL_START_S = 1_750_000_000.0  # 15 June 2025: `time.time()` when a run begins
DAY_S = 86_400.0
STUBBORN_TURNS = 500_000  # turns of the loop without a byte, a timer or a thread's work: a busy loop
GRACE_S = 0.05  # real: what a kernel may take to make room for bytes that do not fit (a delayed TCP ack)


class Stuck(RuntimeError):
    """The program waits for something that can never happen, or runs for ever."""


def run(main: Coroutine[Any, Any, T], *, seed: int = 0, limit_s: float = 30 * DAY_S) -> T:
    """Run *main* in virtual time, which begins at 0, and give back its result.

    Args:
        seed: For the module `random`; its former state is restored afterwards.
        limit_s: Virtual seconds after which the run counts as endless.
    Raises:
        Stuck: Everybody waits and no timer is set, nobody ever waits, or *limit_s* is over.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=partial(VirtualTimeLoop, limit_s)) as runner, ExitStack() as patches:
            loop = runner.get_loop()
            patches.enter_context(mock.patch.object(time, "time", new=partial(_wall_s, loop)))
            patches.enter_context(mock.patch.object(aiohttp.connector, "monotonic", loop.time))
            return runner.run(main)
    finally:
        random.setstate(state)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorator: *test*, a coroutine function, as a plain test that runs in virtual time."""

    @functools.wraps(test)
    def plain(*args: P.args, **fixtures: P.kwargs) -> None:
        run(test(*args, **fixtures))

    return plain


def _wall_s(loop: asyncio.AbstractEventLoop) -> float:
    return WALL_START_S + loop.time()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module. `jumps`: how often time has moved."""

    def __init__(self, limit_s: float = 30 * DAY_S) -> None:
        self._now_s, self._limit_s = 0.0, limit_s
        self.jumps = 0
        self._jobs: deque[Callable[[], None]] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="virtual-time")
        super().__init__(_Selector(self._work, self._jump))

    def time(self) -> float:
        return self._now_s

    def close(self) -> None:
        self._worker.shutdown()
        super().close()

    # --- threads -------------------------------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Like asyncio's, but *func* runs, alone, when all that is ready in this turn has run."""
        waiting: asyncio.Future[T] = self.create_future()

        def job() -> None:
            try:
                result = (executor or self._worker).submit(func, *args).result()
            except BaseException as error:
                if not waiting.done():
                    waiting.set_exception(error)
            else:
                if not waiting.done():  # else cancelled: a thread goes on all the same
                    waiting.set_result(result)

        self._jobs.append(job)
        return waiting

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._work()

    def _work(self) -> bool:
        """Run what was sent to threads; whether there was anything."""
        worked = bool(self._jobs)
        while self._jobs:
            self._jobs.popleft()()
        return worked

    # --- time ----------------------------------------------------------------------------------------

    def _jump(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise Stuck(f"everybody waits and no timer is set, at {self._now_s:.3f} s{self._who_waits()}")
        self._now_s += timeout_s
        self.jumps += 1
        if self._now_s > self._limit_s:
            self._limit_s += DAY_S  # for the cleaning up
            raise Stuck(f"not finished after {self._now_s:.0f} virtual seconds{self._who_waits()}")

    def _who_waits(self) -> str:
        places = []
        for task in asyncio.all_tasks(self):
            if frames := task.get_stack(limit=1):
                code = frames[0].f_code
                places.append(f"{task.get_name()} in {code.co_filename}:{frames[0].f_lineno} {code.co_name}")
        return "".join(f"\n  {place}" for place in sorted(places))


class _Selector(selectors.BaseSelector):
    """A real selector that never waits: where it would, it says so to *jump*.

    Args:
        work: Does what was sent to threads; whether there was anything.
        jump: Told how many seconds the loop wants to wait; None for ever.
    """

    def __init__(self, work: Callable[[], bool], jump: Callable[[float | None], None]) -> None:
        self._real = selectors.DefaultSelector()
        self._fence = _Fence()
        self._work, self._jump = work, jump
        self._numbers = itertools.count()
        self._opened: dict[int, int] = {}  # file descriptor → place in the order of registration
        self._writers: set[int] = set()
        self._idle_turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        worked = self._work()
        ready = self._real.select(0)
        waits = timeout is None or timeout > 0
        if not ready and not worked and waits:
            ready = self._stragglers()
            if not ready:
                self._jump(timeout)
        self._require_progress(bool(ready) or worked or waits)
        return sorted(ready, key=lambda event: self._opened[event[0].fd]) if len(ready) > 1 else ready

    def _stragglers(self) -> list[tuple[selectors.SelectorKey, int]]:
        """What becomes ready when all bytes on their way have arrived."""
        self._fence.wait()
        return self._real.select(GRACE_S if self._writers else 0)

    def _require_progress(self, progress: bool) -> None:
        self._idle_turns = 0 if progress else self._idle_turns + 1
        if self._idle_turns > STUBBORN_TURNS:
            self._idle_turns = 0
            raise Stuck(f"{STUBBORN_TURNS} turns of the loop, and nobody waits for anything")

    # --- bookkeeping -----------------------------------------------------------------------------------

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._real.register(fileobj, events, data)
        self._opened[key.fd] = next(self._numbers)
        return self._noted(key)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._noted(self._real.modify(fileobj, events, data))

    def _noted(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        (self._writers.add if key.events & selectors.EVENT_WRITE else self._writers.discard)(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._real.unregister(fileobj)
        self._writers.discard(key.fd)
        del self._opened[key.fd]
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._fence.close()
        self._real.close()


class _Fence:
    """A datagram to ourselves: loopback keeps the order, so when it is back all bytes sent before are there.

    On an idle machine they are at once; on a busy one the kernel may leave them to a thread of its own.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())
        self._socket.settimeout(1.0)

    def wait(self) -> None:
        self._socket.send(b"\0")
        self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()
