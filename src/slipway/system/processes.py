"""Processes known by pid and start, so that a pid that was given out again is never taken for the one that had it
before.

The start is counted in clock ticks since the machine booted (`/proc/<pid>/stat`, field 22), with the boot's id: neither
changes when the wall clock is set, by NTP or after a suspend. The creation time that psutil tells is computed from the
wall clock's idea of when the machine booted, and moves with it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil
from pydantic import BaseModel, ConfigDict

from slipway.agent.processes import boot_id, process_stat

POLL_S = 0.02
KILL_WAIT_S = 10.0
WALL_CLOCK_TOLERANCE_S = 1.0


class ProcessIdentity(BaseModel):
    """One process for ever: `pid`, `started` in clock ticks since boot, and `boot`, the kernel's id of that boot.

    Records of earlier versions of Slipway hold `create_time` instead, in seconds of the wall clock since 1970.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    started: int | None = None
    boot: str = ""
    create_time: float | None = None


def identify(pid: int) -> ProcessIdentity:
    """The identity of the process that has this pid now. Raises ProcessLookupError when there is none."""
    stat = process_stat(pid)
    if stat is None:
        raise ProcessLookupError(pid)
    return ProcessIdentity(pid=pid, started=stat[1], boot=boot_id())


def is_same(process: ProcessIdentity) -> bool:
    """Whether the pid still belongs to this process, running or a zombie that nobody has asked about."""
    stat = process_stat(process.pid)
    if stat is None:
        return False
    if process.started is not None:
        return (process.started, process.boot) == (stat[1], boot_id())
    try:
        created = psutil.Process(process.pid).create_time()
    except psutil.Error:
        return False
    return process.create_time is not None and abs(created - process.create_time) < WALL_CLOCK_TOLERANCE_S


def is_alive(process: ProcessIdentity) -> bool:
    """Whether it still runs. A zombie has ended: whoever started it may never ask."""
    stat = process_stat(process.pid)
    return stat is not None and stat[0] not in "ZX" and is_same(process)


def age_s(process: ProcessIdentity) -> float | None:
    """Seconds since it started, time asleep included; None for another boot's process or a record without start."""
    if process.started is None or process.boot != boot_id():
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / os.sysconf("SC_CLK_TCK")


def command_line(process: ProcessIdentity) -> list[str]:
    """Its arguments; empty when it is gone or another user's."""
    try:
        return psutil.Process(process.pid).cmdline() if is_same(process) else []
    except psutil.Error:
        return []


def environment(process: ProcessIdentity) -> dict[str, str]:
    """The environment it was started with; empty when it is gone or another user's."""
    try:
        return psutil.Process(process.pid).environ() if is_same(process) else {}
    except psutil.Error:
        return {}


def family(process: ProcessIdentity) -> list[ProcessIdentity]:
    """The process and all its descendants that run now."""
    members = [process]
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(ProcessLookupError):
                members.append(identify(child.pid))
    return members


def send(process: ProcessIdentity, sig: signal.Signals) -> None:
    """Signal this process; nothing when it is gone."""
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, sig)


def send_group(process: ProcessIdentity, sig: signal.Signals) -> None:
    """Signal the process group that this process leads or led.

    While a group has members the kernel gives its number to no new process: a pid that is another process now means
    that the group is gone.
    """
    leader_ended = process.started is not None and process.boot == boot_id() and process_stat(process.pid) is None
    if leader_ended or is_same(process):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sig)


def stop(process: ProcessIdentity, grace_s: float) -> bool:
    """End a process: SIGTERM, then SIGKILL after `grace_s` seconds. False when it did not run any more."""
    if not is_alive(process):
        return False
    for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        send(process, sig)
        if not wait_ended([process], wait_s):
            break
    return True


def wait_ended(processes: Iterable[ProcessIdentity], timeout_s: float) -> list[ProcessIdentity]:
    """Wait up to `timeout_s` seconds for all to end, reaping our own children; the ones that still run."""
    deadline = time.monotonic() + timeout_s
    while True:
        running = [process for process in processes if not _has_ended(process)]
        if not running or time.monotonic() >= deadline:
            return running
        time.sleep(POLL_S)


def _has_ended(process: ProcessIdentity) -> bool:
    if is_same(process):
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
    return not is_alive(process)
