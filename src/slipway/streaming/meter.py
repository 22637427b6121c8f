"""What a pass over weights tells of itself while it runs: progress, and the error of what it rounds."""

from __future__ import annotations

import threading
import time

from slipway.system.memory import anonymous_bytes
from slipway.system.progress import Progress


class Meter:
    """Progress of a pass, from any thread: bytes read, GB/s, ETA, the tensor just done, anonymous memory."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self._what, self._total, self._progress = what, total, progress
        self._done, self._lock = 0, threading.Lock()
        self._born = self._start = time.monotonic()

    def start(self) -> None:
        """The pass begins: what came before (compiling, checking a former run's bytes) is not its speed."""
        self._start = time.monotonic()

    def seconds(self) -> tuple[float, float]:
        """(before the pass, of the pass)."""
        return self._start - self._born, time.monotonic() - self._start

    def advance(self, nbytes: int, name: str) -> None:
        """`nbytes` more of the input are done, the last of them of tensor `name`; from any thread."""
        with self._lock:
            self._done += nbytes
            rate = self._done / max(time.monotonic() - self._start, 1e-6)
            self._progress.update(
                self._what,
                self._done,
                self._total,
                "bytes",
                gb_per_s=round(rate / 1e9, 3),
                eta_s=round((self._total - self._done) / max(rate, 1.0), 1),
                tensor=name,
                anon_gb=round(anonymous_bytes() / 1e9, 2),
            )
