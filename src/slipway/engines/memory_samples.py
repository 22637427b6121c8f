"""Resident memory of a server over the time it is asked: of its process and their children, on this machine.

A server in a container or on a node is not a child of this machine's process table under the name we know; it is not
sampled, and the report leaves the plot out.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import psutil

from slipway.engines.endpoint import Endpoint
from slipway.runners.base import read_job_file
from slipway.runners.local import JOB_FILE, LocalRunner

MOST = 600  # samples kept; then every second one goes and the pauses double


class MemorySamples:
    """Samples in a thread while the block runs; `pairs`: seconds since its start, bytes resident."""

    def __init__(self, endpoint: Endpoint, every_s: float = 0.25) -> None:
        self.pairs: list[tuple[float, int]] = []
        self._pid = _process(endpoint)
        self._every_s, self._stop = every_s, threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory samples", daemon=True)

    def __enter__(self) -> Self:
        if self._pid is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sample(self) -> None:
        begin = time.monotonic()
        while not self._stop.is_set():
            nbytes = resident_bytes(self._pid or 0)
            if nbytes == 0:
                return
            self.pairs.append((round(time.monotonic() - begin, 2), nbytes))
            if len(self.pairs) > MOST:
                self.pairs, self._every_s = self.pairs[::2], 2 * self._every_s
            self._stop.wait(self._every_s)


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants, shared pages counted in each; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_resident(member) for member in family)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _process(endpoint: Endpoint) -> int | None:
    if not isinstance(endpoint.runner, LocalRunner):
        return None
    pid = read_job_file(endpoint.job.work / JOB_FILE).get("pid")
    return int(pid) if pid is not None else None
