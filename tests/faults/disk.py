"""Disks that fail: at the k-th operation, for good from then on, or with the power."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from testpress_async.harvest.files import LocalFiles

P = ParamSpec("P")
R = TypeVar("R")
NEVER = 1 << 30


class Disk(LocalFiles):
    """A directory whose operation number *fail_at* fails.

    Args:
        crash: Whether everything after it fails as well, as after the end of the process: nothing it might
            still try reaches the disk. A write that is hit leaves the first half of its bytes.
        code: What the failing operation reports.
    """

    def __init__(
        self, root: Path, *, fail_at: int = NEVER, crash: bool = False, code: int = errno.EIO
    ) -> None:
        super().__init__(root)
        self.fail_at, self.crash, self.code = fail_at, crash, code
        self.tried: list[str] = []

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        number = len(self.tried)
        self.tried.append(operation.__name__.strip("_"))
        if number == self.fail_at and operation is os.write:
            handle, data = args
            os.write(handle, bytes(data)[: len(data) // 2])  # type: ignore[arg-type]
        if number == self.fail_at or (self.crash and number > self.fail_at):
            raise OSError(self.code, os.strerror(self.code))
        return super()._call(operation, *args, **kwargs)

    @property
    def failed(self) -> bool:
        return len(self.tried) > self.fail_at


class PowerDisk(Disk):
    """Remembers what is durable, so that `cut` can show the disk after the power has gone.

    Content is durable once its file, names once their folder was synced. Anything else may have reached the
    disk or not, each piece for itself. (Linux: reads what was written through /proc.)
    """

    def __init__(self, root: Path, *, fail_at: int = NEVER) -> None:
        super().__init__(root, fail_at=fail_at, crash=True)
        self._base = root.parent
        self._content: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {_inode(self._base): {}}

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        result = super()._call(operation, *args, **kwargs)
        if operation is os.mkdir:
            self._names[_inode(Path(str(args[0])))] = {}
        elif isinstance(result, int) and operation is not os.write:  # a file was opened
            if not os.fstat(result).st_size:
                self._content.pop(os.fstat(result).st_ino, None)
        elif operation is os.fsync:
            handle = args[0]
            assert isinstance(handle, int)
            path = Path(f"/proc/self/fd/{handle}")
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                self._names[os.fstat(handle).st_ino] = _listed(path)
            else:
                self._content[os.fstat(handle).st_ino] = path.read_bytes()
        return result

    def cut(self, to: Path, chance: random.Random, survives: float) -> None:
        """Lay out under *to* what a restart finds; each change that was not synced *survives* by chance."""
        self._lay_out(_inode(self._base), self._base, to, lambda: chance.random() < survives)

    def _lay_out(self, folder: int, now: Path | None, to: Path, lucky: Callable[[], bool]) -> None:
        to.mkdir(exist_ok=True)
        durable, current = self._names.get(folder, {}), _listed(now) if now else {}
        for name in sorted({*durable, *current}):
            inode = (
                current.get(name) if durable.get(name) != current.get(name) and lucky() else durable.get(name)
            )
            if inode is None:
                continue
            there = now / name if now and current.get(name) == inode else None
            if inode in self._names:
                self._lay_out(inode, there, to / name, lucky)
            else:
                content = self._content.get(inode, b"")
                if there and there.read_bytes() != content and lucky():
                    content = there.read_bytes()
                (to / name).write_bytes(content)


def _inode(path: Path) -> int:
    return path.lstat().st_ino


def _listed(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}
