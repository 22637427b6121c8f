"""Processes known by pid and start, out of /proc, so that a pid that was given out again is never taken for another.

The start is counted in clock ticks since the machine booted (`/proc/<pid>/stat`, field 22), with the boot's id: neither
changes when the wall clock is set, by NTP or after a suspend.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02
KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class Process:
    """One process for ever: `pid`, `started` in clock ticks since boot, `boot`: the kernel's id of that boot."""

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Process:
    """The identity of the process that has this pid now. Raises ProcessLookupError when there is none."""
    stat = process_stat(pid)
    if stat is None:
        raise ProcessLookupError(pid)
    return Process(pid, stat[1], boot_id())


def is_alive(process: Process) -> bool:
    """Whether it still runs. A zombie has ended: whoever started it may never ask."""
    stat = process_stat(process.pid)
    return stat is not None and stat[0] not in "ZX" and (process.started, process.boot) == (stat[1], boot_id())


def stop(process: Process, grace_s: float) -> bool:
    """End a process: SIGTERM, then SIGKILL after `grace_s` seconds. False when it did not run any more."""
    if not is_alive(process):
        return False
    for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        with suppress(ProcessLookupError):
            os.kill(process.pid, sig)
        if _ends(process, wait_s):
            break
    return True


def command_line(pid: int) -> list[str]:
    """Program file and arguments of a process; empty when it is gone or another user's."""
    try:
        program = [str((PROC / str(pid) / "exe").readlink())]
        text = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return []
    return program + text.split("\0")


def session_leaders() -> Iterator[tuple[int, list[str]]]:
    """(pid, program and arguments) of every process that leads a session of its own, as engines do."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(ProcessLookupError, PermissionError):
                pid = int(entry.name)
                if os.getsid(pid) == pid and (words := command_line(pid)):
                    yield pid, words


def process_stat(pid: int) -> tuple[str, int] | None:
    """State letter and start in clock ticks since boot; None when there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace", encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return fields[0], int(fields[19])


def boot_id() -> str:
    """The kernel's id of this boot; empty where a sandbox hides it: the start alone must do there."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _reap(process: Process) -> None:
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _ends(process: Process, timeout_s: float) -> bool:
    """Whether it ends within `timeout_s` seconds; our own child is reaped."""
    deadline = time.monotonic() + timeout_s
    while True:
        _reap(process)
        if not is_alive(process):
            _reap(process)  # it may have died since the line before: then it is a zombie, and nobody else's to bury
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
