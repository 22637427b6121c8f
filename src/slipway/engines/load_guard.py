"""Stops what loads a model before it takes the whole machine down.

Where CPU and GPU share the memory, an allocation of CUDA that cannot be met does not end the process: the driver waits,
the kernel swaps and drops pages, the machine answers nobody. A container's limit does not bound what CUDA takes. So the
machine's own figures are sampled, at most a second apart, and the loader is stopped while there is still memory to do
it with:

    fall        (available at the oldest reading of the last second - available now) / seconds between them
    predicted   available now - fall x (2 every_s + react_s): two more readings and the time that stopping takes
    stop        available is below `available_gb`; predicted is, at two readings that each fell further; no task could
                run for want of memory for more than `stalled` of the last second (PSI); the kernel's log has
                NV_ERR_NO_MEMORY
    drop        free is below `free_gb`: the page cache is given up, where the target's row allows it, at most every 5 s

A KV cache is taken whole, at tens of GB/s: while a loader has taken no more than is planned for it, nothing lower is
predicted than what the plan leaves. Reported falls: 29.0 to 6.3 GiB in 12 s with the container's own counter under 34
GiB (vllm#56824). Nothing but the given loader is stopped. A guard sees the machine it runs on: for a loader elsewhere
it must run there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from slipway.config.target import GuardConfig
from slipway.errors import ResourceError
from slipway.system.kernel_log import KernelLog
from slipway.system.memory_pressure import MEMINFO, PRESSURE, MemoryReading, drop_caches, read_memory
from slipway.system.throttle import Throttle

NO_MEMORY = "NV_ERR_NO_MEMORY"
WINDOW_S = 1.0
DROP_EVERY_S = 5.0
GB = 1e9


@dataclass(frozen=True)
class Sources:
    """Where the figures are read, how the page cache is dropped (why it could not be, or None), and the seconds."""

    meminfo: Path = MEMINFO
    pressure: Path = PRESSURE
    drop: Callable[[], str | None] = drop_caches
    clock: Callable[[], float] = time.monotonic


class LoadGuard:
    """Watches while the block runs, in a thread of its own; calls `stop` until it returns, then watches no more.

    `stopped` says why the loader was stopped, None while it was not; `notes` what a person should know; `lowest` the
    least reading of available memory, bytes. `stop` must end the loader at once: it has `react_s` for it. `planned`:
    bytes that the loader will take, where a plan says so.
    """

    def __init__(
        self,
        name: str,
        params: GuardConfig,
        stop: Callable[[], object],
        sources: Sources | None = None,
        *,
        planned: float | None = None,
    ) -> None:
        self._name, self._params, self._stop_loader, self._planned = name, params, stop, planned
        self._at_start: float | None = None
        self._sources = sources or Sources()
        self._log = KernelLog(Path(params.kernel_log))
        self.stopped: str | None = None
        self.notes: list[str] = [f"the kernel's log is not watched: {self._log.problem}"] if self._log.problem else []
        self.lowest = float("inf")
        self._readings: deque[MemoryReading] = deque()
        self._below = 0  # readings that fell further while the prediction was below the floor
        self._drop_due = Throttle(DROP_EVERY_S)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"load guard of {name}", daemon=True)

    def check(self) -> None:
        """Raises ResourceError when the loader was stopped."""
        if self.stopped:
            raise ResourceError(
                f"memory of the machine while {self._name} loads",
                f"{self.stopped}; it was stopped",
                f"{self._params.available_gb:g} GB available at all times",
                "`slipway capacity` says what fits; stop what else runs, or lower the context, the slots or the format",
            )

    def look(self) -> None:
        """Take one reading and act on it. Raises what `stop` raises, and ResourceError without figures."""
        reading = read_memory(self._sources.clock(), self._sources.meminfo, self._sources.pressure)
        if reading.stalled_s is None and not self._readings:
            self.notes.append("the kernel counts no stalls of memory (PSI)")
        self._at_start = reading.available if self._at_start is None else self._at_start
        self.lowest = min(self.lowest, reading.available)
        self._readings.append(reading)
        while reading.at - self._readings[0].at > WINDOW_S and len(self._readings) > 2:
            self._readings.popleft()
        if reading.free < self._params.free_gb * GB and self._params.drop_caches and self._drop_due.due():
            self._drop(reading)
        self.stopped = self.stopped or self._reason(reading)
        if self.stopped:
            self._stop_loader()

    def _reason(self, now: MemoryReading) -> str | None:
        """Why the loader must be stopped now."""
        for line in self._log.lines():
            if NO_MEMORY in line:
                return f"the kernel's log has {line.strip()[:200]!r}"
        floor = self._params.available_gb * GB
        if now.available < floor:
            return f"{now.available / GB:.1f} GB are available"
        first = self._readings[0]
        seconds = now.at - first.at
        if seconds <= 0:
            return None
        if self._will_cross(now, fall := (first.available - now.available) / seconds):
            return f"{now.available / GB:.1f} GB are available and {fall / GB:.1f} GB/s are taken"
        if now.stalled_s is not None and first.stalled_s is not None and seconds >= WINDOW_S / 2:
            share = (now.stalled_s - first.stalled_s) / seconds
            if share > self._params.stalled:
                return f"for {share:.0%} of a second nothing could run for want of memory"
        return None

    def _will_cross(self, now: MemoryReading, fall: float) -> bool:
        """Whether two readings that fell further predict less than the floor."""
        floor = self._params.available_gb * GB
        predicted = now.available - fall * (2 * self._params.every_s + self._params.react_s)
        left = (self._at_start or 0.0) - self._planned if self._planned is not None else None
        if left is not None and now.available >= left:
            predicted = max(predicted, left)
        if predicted >= floor:
            self._below = 0
        elif now.available < self._readings[-2].available:
            self._below += 1
        return self._below >= 2

    def _drop(self, reading: MemoryReading) -> None:
        problem = self._sources.drop()
        self.notes.append(
            f"{reading.free / GB:.1f} GB are free: the page cache "
            + (f"could not be dropped ({problem})" if problem else "was dropped")
        )

    def _watch(self) -> None:
        """Sample until the block ends or the loader is stopped; a reading or a stop that fails is tried again."""
        while not self._ended.is_set():
            try:
                self.look()
            except Exception as err:  # noqa: BLE001 (a guard that dies guards nothing)
                note = f"{type(err).__name__}: {err}"[:300]
                if note not in self.notes:
                    self.notes.append(note)
            else:
                if self.stopped:
                    return
            self._ended.wait(self._params.every_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._log.close()
