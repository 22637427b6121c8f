"""Attempts at one training job, until its last step is on disk.

An exit code does not tell whether the training is complete: SIGTERM makes NeMo save and exit with 0, and a requeued job
ends with the code of whatever killed its last attempt. The last complete checkpoint decides. While attempts save
further steps the job is submitted again and resumes; a failure that comes back at the same step ends it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ConfigError, ResourceError, SlipwayError, StageError
from slipway.runners.base import Job, Outcome, Runner, State
from slipway.system.files import write_atomic
from slipway.training.nemo.checkpoints import steps_done
from slipway.training.nemo.launcher import FAILED

IDLE_ATTEMPTS = 3  # attempts in a row that saved no further step, after which there is no other
ATTEMPT_FILE = "attempt.json"
TAIL_LINES = 15  # of the job's output, shown with an error
_MEMORY = re.compile(r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|CUDNN_STATUS_ALLOC_FAILED")
_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_LESS_MEMORY = (
    "`slipway tune` finds what fits; or lower train.pack_length, train.micro_batch=1, or "
    "train.activation_checkpointing=full"
)


@dataclass(frozen=True)
class AttemptTotals:
    """How many attempts a training took, and their wall time in seconds as far as a runner measured it."""

    attempts: int
    seconds: float


def run_to_end(
    runner: Runner,
    job: Job,
    checkpoints: Path,
    steps: int,
    on_poll: Callable[[], None],
    note: Callable[[str], None],
    *,
    through: str = "",
    poll_s: float = 0.2,
) -> AttemptTotals:
    """Submit, adopt or resume `job` until `steps` optimizer steps are saved below `checkpoints`.

    `on_poll` is called after each poll and once after the end of an attempt, `note` with one line for each attempt that
    is resumed; `through` names runner and machine in words. Raises StageError when attempts get no further,
    ResourceError for too little memory, disk or an unreachable machine, ConfigError for a job that another runner may
    still be running, and whatever error the job's own preflight reports.

    An interrupted caller (KeyboardInterrupt, SystemExit) stops the job, which saves, and the exception goes on.
    """
    if steps_done(checkpoints) >= steps and not Attempt.pending(job):
        return AttemptTotals(0, 0.0)  # trained by an earlier process that ended before it wrote the artifact
    attempts, idle, seconds = 0, 0, 0.0
    failed_at: int | None = None
    while True:
        began = Attempt.open(job, steps_done(checkpoints), through)
        try:
            ended = _follow(runner, job, on_poll, poll_s)
        except (KeyboardInterrupt, SystemExit):
            runner.cancel(job)
            on_poll()
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
            return AttemptTotals(attempts, seconds)
        _raise_preflight(output)
        idle = 0 if done > began.done else idle + 1
        # A time limit, a preemption or a lost node says nothing about the recipe, so it may happen any number of times
        # while steps are saved. A failure at the step where the last one failed will come again, and so will a full
        # memory or disk before any step was saved.
        failed = ended.state in (State.FAILED, State.OUT_OF_MEMORY)
        exhausted = done == began.done and bool(_MEMORY.search(output) or _DISK.search(output))
        if ended.state is State.CANCELLED or (failed and failed_at == done) or exhausted or idle >= IDLE_ATTEMPTS:
            raise _final_error(job, ended, done, steps, output)
        failed_at = done if failed else None
        note(f"{ended.state.value} ({ended.reason or 'exit 0'}) with {done} of {steps} steps saved; resuming")


@dataclass(frozen=True)
class Attempt:
    """What was on disk when an attempt was submitted: bytes of the job's log (`logged`), steps saved (`done`), and the
    runner it was submitted through, in words. Stored in `file`, for the process that adopts the job."""

    file: Path
    logged: int
    done: int
    through: str

    @staticmethod
    def pending(job: Job) -> bool:
        """Whether an attempt at this job was submitted whose end nobody recorded."""
        return (job.work / ATTEMPT_FILE).exists()

    @classmethod
    def open(cls, job: Job, done: int, through: str) -> Attempt:
        """Record a new attempt, or take over the one that is recorded. Raises ConfigError when that one was submitted
        through another runner: it may still run there, and two jobs would write one checkpoint folder."""
        file = job.work / ATTEMPT_FILE
        if not file.exists():
            logged = job.log.stat().st_size if job.log.exists() else 0
            write_atomic(file, json.dumps({"logged": logged, "done": done, "through": through}))
        attempt = cls(file, **json.loads(file.read_text(encoding="utf-8")))
        if attempt.through != through:
            raise ConfigError(
                "target.runner",
                through,
                f"{attempt.through}: this training was started there, and nobody saw it end",
                f"go back to it and run again; or make sure by `slipway status` that it ended, delete {file}, and "
                "run again",
            )
        return attempt

    def close(self) -> None:
        """Remove the record: the attempt has ended, or was never started."""
        self.file.unlink(missing_ok=True)


def _follow(runner: Runner, job: Job, on_poll: Callable[[], None], poll_s: float) -> Outcome:
    """Submit or adopt, poll to the end. Unlike `runners.base.follow` it cancels nothing when a poll raises: an engine
    or a controller that does not answer for a while must not cost a training of days, which the next run adopts."""
    runner.submit(job)
    while (ended := runner.poll(job)) is None:
        on_poll()
        time.sleep(poll_s)
    on_poll()
    return ended


def _final_error(job: Job, ended: Outcome, done: int, steps: int, output: str) -> SlipwayError:
    """The error of a training that gets no further, by its cause."""
    last = "\n".join(output.strip().splitlines()[-TAIL_LINES:])
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
    """Raise the error that the launcher wrote into the job's output, if it wrote one."""
    for line in reversed(output.splitlines()):
        _, marker, text = line.partition(FAILED)
        if marker:
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
