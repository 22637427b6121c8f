"""Slurm's commands, and what they say of one job: from accounting, else from the controller.

| who | knows | forgets |
|---|---|---|
| `scontrol show job` | jobs that wait, run, or ended lately | `MinJobAge` after the end (300 s) |
| `sacct` | every job that reached accounting, some seconds late | what the site purges |
| `work/exit` | attempts whose script reached its end | nothing |
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from slipway.errors import ResourceError
from slipway.runners.base import Outcome, State
from slipway.runners.fence import die_with_parent
from slipway.system.retry import until_answered

T = TypeVar("T")

UNREACHABLE = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted",
    "Unable to contact slurm database",
    "Problem talking to the database",
    "Transport endpoint is not connected",
    "Connection reset by peer",
    "Slurm backup controller in standby",
    "Slurm temporarily unable to accept job",
    "Connection timed out",
)
ENDED = {
    "COMPLETED": State.DONE,
    "FAILED": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "TIMEOUT": State.TIMEOUT,
    "DEADLINE": State.TIMEOUT,
    "PREEMPTED": State.PREEMPTED,
    "NODE_FAIL": State.NODE_FAIL,
    "BOOT_FAIL": State.NODE_FAIL,
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,
    "LAUNCH_FAILED": State.FAILED,
    "REVOKED": State.LOST,
}
TIMEOUT_S = 60.0
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


class SilentError(Exception):
    """The controller or the accounting daemon did not answer; asking again may help."""


@dataclass(frozen=True)
class SlurmJob:
    """A job as Slurm describes it: `state` and `reason` in Slurm's words, `outcome` where it ended."""

    job_id: int
    state: str
    outcome: Outcome | None
    reason: str = ""


def call(*argv: str) -> str:
    """Standard output of a Slurm command, which dies with us: an sbatch that outlives its caller would submit behind
    its back.

    Raises SilentError when nobody answered, ResourceError for every other failure.
    """
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT_S, preexec_fn=die_with_parent, encoding="utf-8"
        )
    except FileNotFoundError:
        raise ResourceError(
            "Slurm", f"no `{argv[0]}` here", "Slurm's client commands", "run on a login node of the cluster"
        ) from None
    except subprocess.TimeoutExpired:
        raise SilentError(f"{argv[0]} did not answer in {TIMEOUT_S:.0f} s") from None
    message = done.stderr.strip()
    if any(text in message for text in UNREACHABLE):
        raise SilentError(message.splitlines()[-1])
    if done.returncode:
        raise ResourceError(
            f"`{argv[0]}`",
            message or f"exit code {done.returncode}",
            "success",
            f"try it by hand: {' '.join(argv)}; `sinfo` shows the cluster",
        )
    return done.stdout


def call_until_answered(patience_s: float, *argv: str) -> str:
    """`call`, again and again while nobody answers, with growing pauses, for `patience_s` seconds."""
    return retried(lambda: call(*argv), patience_s)


def retried(question: Callable[[], T], patience_s: float) -> T:
    """What `question` returns, asked again while it raises SilentError, with growing pauses; ResourceError after
    `patience_s`.
    """
    try:
        return until_answered(question, SilentError, seconds=patience_s, pause_s=0.5, longest_pause_s=15.0)
    except SilentError as err:
        raise no_answer(str(err), patience_s) from err


def no_answer(message: str, seconds: float) -> ResourceError:
    """The error after `seconds` of silence; `message`: what the last command printed."""
    return ResourceError(
        "Slurm controller",
        message,
        f"an answer within {seconds:.0f} s",
        "ask `scontrol ping`; run again then: the job is found by its name",
    )


def by_controller(job_id: int) -> SlurmJob | None:
    """What slurmctld says; None for a job it forgot. Raises SilentError."""
    try:
        text = call("scontrol", "--oneliner", "show", "job", str(job_id))
    except ResourceError as err:
        if "Invalid job id" in str(err.value):
            return None
        raise
    fields = dict(re.findall(r"(?:^| )(\w+)=(\S*)", text))
    state = fields.get("JobState", "")
    reason = "" if fields.get("Reason", "None") == "None" else fields["Reason"]
    return SlurmJob(
        job_id,
        state,
        _outcome(state, fields.get("ExitCode", ""), reason, _seconds(fields.get("RunTime", "")), 0),
        reason,
    )


def first_node_address(job_id: int) -> str | None:
    """Address of the node that runs the job's script; None unless the job runs. Raises SilentError."""
    try:
        job = dict(re.findall(r"(?:^| )(\w+)=(\S*)", call("scontrol", "--oneliner", "show", "job", str(job_id))))
        if job.get("JobState") != "RUNNING" or not job.get("BatchHost"):
            return None
        node = call("scontrol", "--oneliner", "show", "node", job["BatchHost"])
    except ResourceError:  # it ended in this moment and was forgotten
        return None
    match = re.search(r"\bNodeAddr=(\S+)", node)
    return match[1] if match else None


def by_accounting(job_id: int) -> SlurmJob | None:
    """What slurmdbd says; None where accounting is off, or has not heard of the job yet. Raises SilentError."""
    columns = "JobID,State,ExitCode,ElapsedRaw,Reason,MaxRSS"
    try:
        text = call("sacct", "--noheader", "--parsable2", "--noconvert", f"--jobs={job_id}", f"--format={columns}")
    except ResourceError as err:
        if "accounting storage is disabled" in str(err.value):
            return None
        raise
    rows = [line.split("|") for line in text.splitlines()]
    mine = [r for r in rows if r[0] == str(job_id)]
    if not mine:
        return None
    _, state, code, seconds, reason, _ = mine[-1]
    rss = max((_bytes(r[5]) for r in rows), default=0)
    shown = "" if reason in ("None", "") else reason
    return SlurmJob(job_id, state, _outcome(state, code, shown, float(seconds or 0), rss))


def find_named(name: str) -> list[SlurmJob]:
    """Jobs of this name that the controller or accounting knows, oldest first. Raises SilentError when the controller
    is silent.
    """
    ids = {int(line) for line in call("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%A").split()}
    # Accounting may be off or down: the controller knows every job of the last minutes.
    with suppress(SilentError, ResourceError):
        options = ("--noheader", "--parsable2", "--allocations", f"--name={name}", "--format=JobIDRaw")
        ids |= {int(word) for word in call("sacct", *options).split()}
    return [job for job_id in sorted(ids) if (job := by_controller(job_id) or by_accounting(job_id))]


@dataclass(frozen=True)
class QueuedJob:
    """One of our jobs that waits or runs. `name` as `Job.name`; `age` in Slurm's `[D-]HH:MM:SS` of running."""

    job_id: int
    name: str
    state: str
    run: str
    stage: str
    age: str


def list_jobs() -> list[QueuedJob]:
    """This user's jobs that carry our labels, whichever store they belong to. Raises SilentError, ResourceError."""
    jobs = []
    for line in call("squeue", "--me", "--noheader", "--format=%A|%T|%M|%k").splitlines():
        job_id, state, age, comment = line.split("|", 3)
        labels = dict(w.split("=", 1) for w in comment.split() if "=" in w)
        if name := labels.get("slipway.job"):
            jobs.append(
                QueuedJob(int(job_id), name, state, labels.get("slipway.run", ""), labels.get("slipway.stage", ""), age)
            )
    return jobs


def accounting_is_off() -> bool:
    """Whether this cluster keeps no accounts at all. Raises SilentError."""
    kind = re.search(r"^AccountingStorageType\s*=\s*(\S+)", call("scontrol", "show", "config"), re.MULTILINE)
    return kind is None or kind[1] in ("(null)", "accounting_storage/none")


def _outcome(state: str, code: str, reason: str, seconds: float, peak_rss: int) -> Outcome | None:
    """`state` may carry more than a word: `CANCELLED by 1000`. `code` is `exit:signal`."""
    word = state.split(" ")[0].rstrip("+")
    if word not in ENDED:
        return None
    ended = ENDED[word]
    exit_code, _, number = code.partition(":")
    value = -int(number) if number and int(number) else int(exit_code or 0)
    exit_value = None if ended in (State.NODE_FAIL, State.LOST) else value
    parts = [state, reason if reason not in ("", "NonZeroExitCode") else ""]
    if exit_value:
        parts.append(f"exit code {exit_value}" if exit_value > 0 else f"signal {-exit_value}")
    return Outcome(ended, exit_value, ", ".join(p for p in parts if p), seconds, peak_rss)


def _seconds(clock: str) -> float:
    """`[D-]HH:MM:SS`."""
    days, dash, rest = clock.rpartition("-")
    parts = [int(p) for p in (rest if dash else clock).split(":") if p.isdigit()]
    return float(sum(p * 60**i for i, p in enumerate(reversed(parts))) + (86400 * int(days) if days else 0))


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(match[1]) * UNITS[match[2]]) if match else 0
