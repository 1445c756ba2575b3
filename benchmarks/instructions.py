"""Counts instructions, which repeat to a percent on a busy machine too. On Linux, where it is allowed."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_SYSCALL = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), 0)  # perf_event_open
_HARDWARE, _INSTRUCTIONS, _SIZE = 0, 1, 112
_INHERITED, _NO_KERNEL, _NO_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class Instructions:
    """Those of this thread and threads it starts later, outside the kernel; 0 where they are not counted."""

    def __init__(self) -> None:
        flags = _INHERITED | _NO_KERNEL | _NO_HYPERVISOR
        asked = struct.pack("IIQQQQQ", _HARDWARE, _SIZE, _INSTRUCTIONS, 0, 0, 0, flags).ljust(_SIZE, b"\0")
        self._file = ctypes.CDLL(None).syscall(_SYSCALL, asked, 0, -1, -1, 0) if _SYSCALL else -1

    @property
    def millions(self) -> float:
        return 0.0 if self._file < 0 else struct.unpack("Q", os.read(self._file, 8))[0] / 1e6
