"""Attempts at one training job, until its last step is on disk.

An exit code says little: SIGTERM makes NeMo save and exit with 0, a requeued job ends with whatever killed its last
attempt. What counts is the last complete checkpoint. While attempts get further the job is submitted again and resumes;
a failure that comes back at the same step ends it.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ConfigError, ResourceError, SlipwayError, StageError
from slipway.runners.base import Job, Outcome, Runner, State
from slipway.system.files import write_atomic
from slipway.training.nemo.checkpoints import steps_done
from slipway.training.nemo.launcher import FAILED

IDLE = 3  # attempts in a row that saved no further step
ATTEMPT = "attempt.json"
TAIL = 15  # lines of the job's output shown with an error
_MEMORY = re.compile(r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|CUDNN_STATUS_ALLOC_FAILED")
_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_LESS_MEMORY = (
    "`slipway tune` finds what fits; or lower train.pack_length, train.micro_batch=1, or "
    "train.activation_checkpointing=full"
)


@dataclass(frozen=True)
class Ended:
    """All attempts: how many, and their wall time in seconds as far as it was seen."""

    attempts: int
    seconds: float


def run_to_end(
    runner: Runner,
    job: Job,
    checkpoints: Path,
    steps: int,
    look: Callable[[], None],
    note: Callable[[str], None],
    *,
    through: str = "",
    poll_s: float = 0.2,
) -> Ended:
    """Submit, adopt or resume until `steps` steps are saved. Raises StageError, or the preflight's own error.

    An interrupted caller stops the job, which saves; when the machine cannot be reached the job lives on, to be
    adopted. It may live on while somebody submits it `through` another runner: then it is refused, for two would write
    one checkpoint folder.
    """
    if steps_done(checkpoints) >= steps and not Attempt.pending(job):
        return Ended(0, 0.0)  # all was there; only what comes after was not done
    attempts, idle, seconds = 0, 0, 0.0
    failed_at: int | None = None
    while True:
        began = Attempt.open(job, steps_done(checkpoints), through)
        try:
            ended = _follow(runner, job, look, poll_s)
        except (KeyboardInterrupt, SystemExit):
            runner.cancel(job)
            look()
            runner.forget(job)
            began.close()
            raise
        except ConfigError:
            began.close()  # refused: nothing was started
            raise
        runner.forget(job)
        began.close()
        attempts, seconds = attempts + 1, seconds + ended.seconds
        done, output = steps_done(checkpoints), _since(job.log, began.logged)
        if done >= steps:
            return Ended(attempts, seconds)
        _raise_preflight(output)
        idle = 0 if done > began.done else idle + 1
        failed = ended.state in (State.FAILED, State.OUT_OF_MEMORY)
        hopeless = (failed and failed_at == done) or (
            done == began.done and (_MEMORY.search(output) or _DISK.search(output))
        )
        if ended.state is State.CANCELLED or hopeless or idle >= IDLE:
            raise _gave_up(job, ended, done, steps, output)
        failed_at = done if failed else None
        note(f"{ended.state.value} ({ended.reason or 'exit 0'}) with {done} of {steps} steps saved; resuming")


@dataclass(frozen=True)
class Attempt:
    """Where the job's log and checkpoints stood when an attempt was submitted, and through whom; kept on disk for
    whoever adopts it."""

    file: Path
    logged: int
    done: int
    through: str

    @staticmethod
    def pending(job: Job) -> bool:
        return (job.work / ATTEMPT).exists()

    @classmethod
    def open(cls, job: Job, done: int, through: str) -> Attempt:
        file = job.work / ATTEMPT
        if not file.exists():
            logged = job.log.stat().st_size if job.log.exists() else 0
            write_atomic(file, json.dumps({"logged": logged, "done": done, "through": through}))
        found = cls(file, **json.loads(file.read_text()))
        if found.through != through:
            raise ConfigError(
                "target.runner",
                through,
                f"{found.through}: this training was started there, and nobody saw it end",
                f"go back to it and run again; or make sure by `slipway status` that it ended, delete {file}, and "
                "run again",
            )
        return found

    def close(self) -> None:
        self.file.unlink(missing_ok=True)


def _follow(runner: Runner, job: Job, look: Callable[[], None], poll_s: float) -> Outcome:
    runner.submit(job)
    while (ended := runner.poll(job)) is None:
        look()
        time.sleep(poll_s)
    look()
    return ended


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM to this process ends it as an interruption does: the job is told to save and stop first."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: stopping takes its time
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _gave_up(job: Job, ended: Outcome, done: int, steps: int, output: str) -> SlipwayError:
    last = "\n".join(output.strip().splitlines()[-TAIL:])
    cause = f"{ended.state.value}: {ended.reason or 'exit 0'}, {done} of {steps} steps saved"
    if ended.state is State.OUT_OF_MEMORY or _MEMORY.search(output):
        return ResourceError(
            "training job",
            f"out of memory ({cause}). Last output:\n{last}",
            "a recipe that fits the target",
            _LESS_MEMORY,
        )
    if _DISK.search(output):
        where = job.work / "ckpt"
        return ResourceError(
            "training job",
            f"disk full ({cause}). Last output:\n{last}",
            "room for checkpoints",
            f"free space at {where} where the job runs, or lower train.keep_checkpoints; then run again to resume",
        )
    if ended.state is State.CANCELLED:
        return StageError("training job", cause, "the last step", "run again to resume from the last checkpoint")
    return StageError(
        "training job", f"{cause}. Last output:\n{last}", f"step {steps}", f"read {job.log}; run again to resume"
    )


def _raise_preflight(output: str) -> None:
    for line in reversed(output.splitlines()):
        _, found, text = line.partition(FAILED)
        if found:
            try:
                raise SlipwayError.from_json(json.loads(text))
            except (ValueError, KeyError) as err:
                raise ConfigError(
                    "preflight's line", text.strip(), "JSON", "report it: the job's output was mixed up"
                ) from err


def _since(file: Path, offset: int) -> str:
    if not file.exists():
        return ""
    with file.open("rb") as f:
        f.seek(offset)
        return f.read().decode(errors="replace")
