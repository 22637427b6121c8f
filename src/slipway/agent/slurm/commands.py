"""Slurm's commands as the agent asks them on a login or service node: one job's state, its node's address, our jobs.

Every answer is the controller's: it alone counts how often a job was restarted, which is half of the fencing token.
"""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass

from slipway.errors import ResourceError

TIMEOUT_S = 60.0
ENDED = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY",
    "LAUNCH_FAILED", "REVOKED",
)  # fmt: skip
ALIVE = "PENDING,CONFIGURING,RUNNING,SUSPENDED"
UNREACHABLE = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted",
    "Transport endpoint is not connected",
    "Connection reset by peer",
    "Slurm backup controller in standby",
    "Slurm temporarily unable to accept job",
    "Connection timed out",
)


class SilentError(ResourceError):
    """The controller did not answer: nothing is known, which is another thing than that nothing runs."""

    @classmethod
    def of(cls, message: str) -> SilentError:
        """With what the command printed last."""
        return cls("Slurm controller", message, "an answer", "ask `scontrol ping`; run again when it answers")


@dataclass(frozen=True)
class ServiceJob:
    """A job as the controller counts it. `node`: of its script, empty unless it runs; `left_s`: seconds to its time
    limit, null without one."""

    job: int
    state: str
    restarts: int
    node: str
    reason: str
    left_s: float | None

    @property
    def runs(self) -> bool:
        """Whether its script runs now, as far as the controller knows."""
        return self.state == "RUNNING" and bool(self.node)

    @property
    def ended(self) -> bool:
        """Whether it will not run again by itself."""
        return self.state in ENDED


def call(*argv: str) -> str:
    """Standard output of a Slurm command. Raises SilentError when nobody answered, ResourceError for every other
    failure."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except FileNotFoundError:
        raise ResourceError(
            "Slurm", f"no `{argv[0]}` here", "Slurm's client commands", "run the target's agent on a login node"
        ) from None
    except subprocess.TimeoutExpired:
        raise SilentError.of(f"{argv[0]} did not answer in {TIMEOUT_S:.0f} s") from None
    message = done.stderr.strip()
    if any(text in message for text in UNREACHABLE):
        raise SilentError.of(message.splitlines()[-1])
    if done.returncode:
        next_step = f"try it by hand: {' '.join(argv)}; `sinfo` shows the cluster"
        raise ResourceError(f"`{argv[0]}`", message or f"exit code {done.returncode}", "success", next_step)
    return done.stdout


def service_job(job: int) -> ServiceJob | None:
    """What the controller says of a job; null for one that it forgot. Raises SilentError."""
    try:
        text = call("scontrol", "--oneliner", "show", "job", str(job))
    except SilentError:
        raise
    except ResourceError as err:
        if "Invalid job id" in str(err.value):
            return None
        raise
    fields = dict(re.findall(r"(?:^| )(\w+)=(\S*)", text))
    limit, spent = seconds(fields.get("TimeLimit", "")), seconds(fields.get("RunTime", ""))
    return ServiceJob(
        job=job,
        state=fields.get("JobState", "").split("+")[0],
        restarts=int(fields.get("Restarts", "0") or 0),
        node=fields.get("BatchHost", ""),
        reason="" if fields.get("Reason", "None") == "None" else fields["Reason"],
        left_s=None if limit is None else max(0.0, limit - (spent or 0.0)),
    )


def node_address(node: str) -> str:
    """IP address of a node, as Slurm reaches it. Raises SilentError, ResourceError for a name that nobody resolves."""
    match = re.search(r"\bNodeAddr=(\S+)", call("scontrol", "--oneliner", "show", "node", node))
    name = match[1] if match else node
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as err:
        next_step = "give the node an address in slurm.conf (NodeAddr), or its name an address here"
        raise ResourceError(f"node {node}", f"{name}: {err.strerror}", "a name with an address", next_step) from err


def named(name: str, *, alive: bool = False) -> list[int]:
    """Ids of the jobs of this name that wait or run, oldest first; unless `alive`, also of those on their way out,
    which come back when they are requeued. Raises SilentError."""
    states = [f"--states={ALIVE}"] if alive else []
    return sorted(int(word) for word in call("squeue", "--noheader", f"--name={name}", *states, "--format=%A").split())


def names() -> list[str]:
    """Names of this user's jobs that wait or run; not of those that are on their way out. Raises SilentError."""
    return call("squeue", "--me", "--noheader", f"--states={ALIVE}", "--format=%j").split()


def seconds(clock: str) -> float | None:
    """`[D-]HH:MM:SS` in seconds; null for UNLIMITED and the like."""
    days, dash, rest = clock.rpartition("-")
    parts = (rest if dash else clock).split(":")
    if not all(part.isdigit() for part in parts):
        return None
    return float(sum(int(p) * 60**i for i, p in enumerate(reversed(parts))) + 86400 * int(days or 0))
