"""Jobs as processes of this machine, each in a group of its own unless it is attached to its submitter's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace

import psutil

from slipway.agent.logins import without_logins
from slipway.errors import StateError
from slipway.runners.base import RECORD_OF, Address, Job, Outcome, State, next_step, read_job_file
from slipway.system import openmp, processes
from slipway.system.files import write_atomic
from slipway.system.json_files import as_model
from slipway.system.processes import ProcessIdentity

JOB_FILE = "process.json"
KILL_WAIT_S = 10.0


class LocalRunner:
    """Processes of this machine. One that outlived its orchestrator is found again by `work/process.json`.

    Threads may share it: one follows a job, another, a load guard, cancels it.
    """

    def __init__(self) -> None:
        self._children: dict[
            str, tuple[ProcessIdentity, float]
        ] = {}  # job name -> its process, and when it was started here
        self._ended: dict[str, Outcome] = {}
        self._cancelled: set[str] = set()  # names of jobs that were told to end
        self._reaping = threading.Lock()  # a process is waited for once, and how it ended is written once

    def submit(self, job: Job) -> bool:
        """Start the process, or adopt the one that runs; True when adopted."""
        if alive(job):
            return True
        self._ended.pop(job.name, None)
        self._cancelled.discard(job.name)
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                job.argv,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=not job.attached,
                cwd=job.work,
                env={**without_logins(os.environ), **openmp.ENVIRONMENT, **job.env},
            )
        process.returncode = 0  # reaped by `poll`, for its peak memory; Popen must not
        identity = processes.identify(process.pid)
        self._children[job.name] = identity, time.monotonic()
        record = {"name": job.name, "stop_s": job.stop_s, **identity.model_dump(exclude_none=True)}
        write_atomic(job.work / JOB_FILE, json.dumps(record))
        return False

    def poll(self, job: Job) -> Outcome | None:
        """None while it runs; an ended job's group is killed, so that no child outlives it."""
        with self._reaping:
            if job.name in self._ended:
                return self._ended[job.name]
            ended = self._reap(job) if job.name in self._children else self._adopted(job)
            if ended and job.name in self._cancelled:
                ended = replace(ended, state=State.CANCELLED, reason="cancelled")
            if ended:
                self._signal(job, signal.SIGKILL)  # no orphan of the job outlives it
                self._ended[job.name] = ended
            return ended

    def cancel(self, job: Job) -> Outcome:
        """SIGTERM to the group, SIGKILL after `job.stop_s` seconds; how it ended."""
        if (ended := self.poll(job)) is not None:
            return ended
        members = self._members(job)
        self._cancelled.add(job.name)
        self._signal(job, signal.SIGTERM)
        deadline = time.monotonic() + job.stop_s
        while (ended := self.poll(job)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        while (ended := self.poll(job)) is None:
            self._signal(job, signal.SIGKILL)  # each time: a thread may have submitted the job again meanwhile
            time.sleep(0.05)
        for member in members:  # an attached job has no group of its own to be killed by
            processes.send(member, signal.SIGKILL)
        processes.wait_ended(members, KILL_WAIT_S)
        return ended

    def forget(self, job: Job) -> None:
        """Remove the job's file."""
        (job.work / JOB_FILE).unlink(missing_ok=True)

    def address(self, job: Job, port: int) -> Address | None:
        """Loopback, while the process runs."""
        return Address("127.0.0.1", port) if self.poll(job) is None else None

    def _reap(self, job: Job) -> Outcome | None:
        child, started = self._children[job.name]
        seconds = time.monotonic() - started
        try:
            done, status, usage = os.wait4(child.pid, os.WNOHANG)
        except ChildProcessError:
            return Outcome(State.LOST, None, "reaped by another", seconds)
        if not done:
            return None
        code = os.waitstatus_to_exitcode(status)
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Outcome(State.DONE if code == 0 else State.FAILED, code, reason, seconds, usage.ru_maxrss * 1024)

    def _adopted(self, job: Job) -> Outcome | None:
        if alive(job):
            return None
        identity = _identity(job)
        seconds = (identity and processes.age_s(identity)) or 0.0
        return Outcome(State.LOST, None, "ended, and the process that started it did not see how", seconds)

    def _signal(self, job: Job, sig: signal.Signals) -> None:
        child = self._children.get(job.name)
        if identity := child[0] if child else _identity(job):
            (processes.send if job.attached else processes.send_group)(identity, sig)

    def _members(self, job: Job) -> list[ProcessIdentity]:
        """An attached job's process and its descendants, while they are still its descendants."""
        child = self._children.get(job.name)
        identity = child[0] if child else _identity(job)
        return processes.family(identity) if job.attached and identity else []


def alive(job: Job) -> bool:
    """Whether the job's process runs."""
    identity = _identity(job)
    return identity is not None and processes.is_alive(identity)


def pid(job: Job) -> int | None:
    """Pid of the job's process as recorded, running or not; None when there is no record and no process."""
    identity = _identity(job)
    return identity.pid if identity else None


def recorded_stop_s(job: Job) -> float:
    """Seconds that the job was promised between SIGTERM and SIGKILL; those of `job` when no record says."""
    with suppress(StateError, ValueError, TypeError):
        return float(read_job_file(job.work / JOB_FILE).get("stop_s", job.stop_s))
    return job.stop_s


def _identity(job: Job) -> ProcessIdentity | None:
    """The job's process: as recorded; where the record is missing or damaged, as its command line tells."""
    file = job.work / JOB_FILE
    with suppress(StateError):
        if record := read_job_file(file):
            return as_model(ProcessIdentity, record, f"{RECORD_OF}: {file}", next_step(file))
    return _by_command_line(job)


def _by_command_line(job: Job) -> ProcessIdentity | None:
    """The leader of a process group whose arguments name the files that the job's name in its own work folder."""
    folder = f"{job.work}/"
    marks = {argument for argument in job.argv if argument.startswith(folder)}
    for process in psutil.process_iter() if marks else ():
        with suppress(psutil.Error, OSError):  # it ended while we looked, or is another user's
            if os.getpgid(process.pid) == process.pid and marks <= set(process.cmdline()):
                return processes.identify(process.pid)
    return None
