"""Anonymous resident memory of this process: mapped and cached files inflate the usual figure."""

from __future__ import annotations

import ctypes
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_STATUS = Path("/proc/self/status")
_LIMIT = Path("/sys/fs/cgroup/memory.max")  # cgroup v2


def anonymous_bytes() -> int:
    """RssAnon in bytes; 0 where the system does not say."""
    if not _STATUS.exists():
        return 0
    match = re.search(r"RssAnon:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"))
    return int(match[1]) * 1024 if match else 0


def total_bytes() -> float:
    """Memory of this machine, or the container's limit when that is less."""
    total = float(psutil.virtual_memory().total)
    text = _LIMIT.read_text(encoding="utf-8").strip() if _LIMIT.exists() else "max"
    return total if text == "max" else min(total, float(text))


def keep_freed_memory() -> None:
    """Have glibc give freed blocks of up to 16 MB out again instead of returning them to the kernel: bands come and go
    by the thousand, and fresh pages cost more than the arithmetic on them. Elsewhere it does nothing.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune:
        tune(_M_MMAP_THRESHOLD, 16 << 20)
        tune(_M_TRIM_THRESHOLD, 16 << 20)


class PeakMemory:
    """Samples anonymous memory in a thread while the block runs; `peak` and `start` in bytes."""

    def __init__(self, every_s: float = 0.02) -> None:
        self.start = self.peak = anonymous_bytes()
        self._every_s, self._stop = every_s, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak = max(self.peak, anonymous_bytes())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous_bytes())
