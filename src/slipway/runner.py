"""The one seam to a machine: `run(job)` starts `python -m slipway stage NAME job.json` and follows it to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipway import openmp
from slipway.progress import Tail

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Exit:
    """How a stage process ended: exit code (negative: the signal), wall seconds, peak resident memory in bytes."""

    code: int
    seconds: float
    peak_rss: int


class Runner(Protocol):
    def run(self, stage: str, job_file: Path, on_event: OnEvent) -> Exit: ...


class LocalRunner:
    """A process group of its own on this machine; ended as a group when the caller is interrupted."""

    def __init__(self, poll_s: float = 0.2, grace_s: float = 10.0) -> None:
        self._poll_s, self._grace_s = poll_s, grace_s

    def run(self, stage: str, job_file: Path, on_event: OnEvent) -> Exit:
        work = job_file.parent
        tail = Tail(work / "progress.jsonl")
        for _ in tail.read():  # events of an earlier attempt were shown then
            pass
        start = time.monotonic()
        with (work / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "slipway", "stage", stage, str(job_file)],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, cwd=work,
                env={**os.environ, **openmp.ENVIRONMENT},
            )  # fmt: skip
        try:
            while (ended := _reap(process.pid)) is None:
                for event in tail.read():
                    on_event(event)
                time.sleep(self._poll_s)
        except BaseException:
            self._end(process)
            raise
        for event in tail.read():
            on_event(event)
        status, peak = ended
        process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, for its peak memory
        _kill_group(process.pid, signal.SIGKILL)  # no orphan of the stage outlives it
        return Exit(process.returncode, time.monotonic() - start, peak)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while _reap(process.pid) is None and time.monotonic() < deadline:
            time.sleep(self._poll_s)
        _kill_group(process.pid, signal.SIGKILL)
        process.returncode = -signal.SIGTERM


def _reap(pid: int) -> tuple[int, int] | None:
    """(wait status, peak RSS in bytes) of an ended child, None while it runs."""
    try:
        done, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return (signal.SIGKILL, 0)
    return (status, usage.ru_maxrss * 1024) if done else None


def _kill_group(pid: int, sig: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, sig)
