"""The one seam to a machine: a job is submitted or adopted, followed, cancelled, and ends with an outcome.

A job is known by its name. Whoever submits a name that runs already, even from a new process on a machine that
restarted, adopts that job instead of starting a second one. Its output goes to `work/log.txt`, whatever machine it runs
on.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from slipway.system.json_files import is_present, read_json

OnEvent = Callable[[dict[str, Any]], None]
# A job has its model and data on disk: a look into the Hugging Face hub would only wait for a network that nodes lack.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
# PyTorch's caching allocator grows its segments in place of taking another of each size: what it holds beyond the
# tensors of a training step falls from 3 to 25% (docs/plan.md).
ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
_ENDED_BY = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # sent by people, schedulers and the kernel
SERVING = "serving.json"  # the job of a server, in a folder of the work folder of the stage that serves


@dataclass(frozen=True)
class Mount:
    """A path of the machine that submits, and where the job sees it. Runners without containers use `source` itself."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Job:
    """One command to run somewhere. `stop_s`: seconds between SIGTERM and SIGKILL, enough for a step and a save.

    `processes` is the number of processes per node that the command starts (GPUs used); `labels` name run and stage.

    Of a server: `ports` are the TCP ports that it listens on; a container's are published on loopback of the engine's
    machine, and `Runner.address` says where one is reached. `attached`: a process of this machine stays in the
    submitter's process group, so that whatever ends the submitter's group ends it too; containers and Slurm jobs are
    cancelled or adopted. `whole`: `argv` is the whole command, an image's own entrypoint is left out.
    """

    name: str
    argv: tuple[str, ...]
    work: Path
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1
    stop_s: float = 10.0
    ports: tuple[int, ...] = ()
    attached: bool = False
    whole: bool = False

    @property
    def log(self) -> Path:
        """Where its output goes, on the machine that submits."""
        return self.work / "log.txt"


class State(StrEnum):
    """How a job ended. DONE says that its command exited with 0, not that the work is finished."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "lost"


@dataclass(frozen=True)
class Outcome:
    """`code`: exit code, negative for a signal, None where nobody saw it. `reason`: the runner's own words. `seconds`
    of wall time; `peak_rss` in bytes, 0 where it was not measured.
    """

    state: State
    code: int | None
    reason: str = ""
    seconds: float = 0.0
    peak_rss: int = 0

    @property
    def from_outside(self) -> bool:
        """Whether something other than the job ended it: a lost or preempted machine, or a signal that no fault of its
        own sends. A cancelled job is none: somebody wanted its end."""
        if self.state in (State.PREEMPTED, State.NODE_FAIL, State.LOST):
            return True
        return self.state is State.FAILED and self.code is not None and _signal(self.code) in _ENDED_BY


def _signal(code: int) -> int:
    """The signal behind an exit code, by Python's or by a shell's way to say it; 0 or less for none."""
    return -code if code < 0 else code - 128


@dataclass(frozen=True)
class Address:
    """Where a port of a running job is reached from the machine that submits. `through`: `ssh://user@machine[:port]`
    whose own network it is in; None: directly."""

    host: str
    port: int
    through: str | None = None


class Runner(Protocol):
    """Where jobs run. Every method may raise ResourceError when the machine, daemon or controller cannot be reached in
    time.
    """

    def submit(self, job: Job) -> bool:
        """Start the job, or adopt the one of this name that waits or runs already; True when adopted."""

    def poll(self, job: Job) -> Outcome | None:
        """None while it waits or runs. Brings `job.log` up to date."""

    def cancel(self, job: Job) -> Outcome:
        """SIGTERM, `job.stop_s` seconds, SIGKILL; returns how it ended. A job that ended already keeps its outcome."""

    def forget(self, job: Job) -> None:
        """Remove what the runner keeps of an ended job (container, record)."""

    def address(self, job: Job, port: int) -> Address | None:
        """Where a port of the submitted job is reached; None while it waits to be started, and when it has ended."""


def follow(runner: Runner, job: Job, look: Callable[[], None], poll_s: float = 0.2) -> Outcome:
    """Submit or adopt, call `look` until the job ends, return its outcome. An interrupted caller cancels the job."""
    submitted = False
    try:
        runner.submit(job)
        submitted = True
        while (ended := runner.poll(job)) is None:
            look()
            time.sleep(poll_s)
    except BaseException as err:
        if submitted or not isinstance(err, Exception):  # a signal may have come when the job had just been started
            cancel_patiently(runner, job)
        raise
    look()
    return ended


def cancel_patiently(runner: Runner, job: Job) -> None:
    """Cancel the job with its whole time to save, whatever signal comes meanwhile; only a further Ctrl-C kills it at
    once.
    """
    while True:
        try:
            runner.cancel(job)
            return
        except Exception:
            raise
        except BaseException as signal:  # noqa: BLE001 (the first signal is being obeyed already)
            if isinstance(signal, KeyboardInterrupt):
                job = replace(job, stop_s=0.0)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """While it is open, SIGTERM to this process raises SystemExit(143), so that what runs elsewhere on its behalf is
    stopped first. Only a main thread can open it."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: stopping takes its time
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


RECORD_OF = "record of a job"


def read_job_file(file: Path) -> dict[str, Any]:
    """What a runner recorded of a job in the job's folder; empty when it recorded nothing. Raises StateError for
    garbage.
    """
    return read_json(file, RECORD_OF, next_step(file)) if is_present(file) else {}


def next_step(file: Path) -> str:
    """What to do about a job's record that cannot be read."""
    return f"make sure that the job has ended (`slipway status`), delete {file}, and run again"
