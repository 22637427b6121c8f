"""Jobs through Slurm: sbatch, scontrol, sacct, scancel, on a filesystem that login node and nodes share.

A submission is never lost and never doubled. Before sbatch its name, unique to this submission, is written to
`work/slurm.json`; the id is written as soon as sbatch prints it. Whoever finds a record without an id asks Slurm for
the name, because sbatch may have been heard and not have lived to say so. An ended job stays the answer until `forget`:
a caller that died before it read the outcome gets it when it comes back. A controller that does not answer says nothing
about the job.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.config.image import ImageConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.errors import ResourceError
from slipway.runners import fence, slurm_script
from slipway.runners.base import Address, Job, Outcome, State, read_job_file
from slipway.runners.slurm_commands import (
    SilentError,
    SlurmJob,
    accounting_is_off,
    by_accounting,
    by_controller,
    call,
    call_until_answered,
    find_named,
    first_node_address,
    no_answer,
    retried,
)
from slipway.system.files import write_atomic

JOB_FILE = "slurm.json"
SETTLE_S = 30.0  # accounting may lag behind the controller by this much


@dataclass
class _Polled:
    """What this process knows of one job between two polls; times are monotonic seconds."""

    asked_at: float = float("-inf")
    answered_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None


class SlurmRunner:
    """Where `target.runner` says slurm. Requeues (time limit, preemption, lost node) happen inside of one job."""

    def __init__(self, params: SlurmConfig, target: TargetConfig, image: ImageConfig | None) -> None:
        self._params, self._target, self._image = params, target, image
        self._polled: dict[str, _Polled] = {}
        self._reported: dict[str, Outcome] = {}  # outcomes that a caller has seen: the next submit is a new job

    def submit(self, job: Job) -> bool:
        """Raises ConfigError for what cannot be rendered, ResourceError when Slurm refuses the job or does not answer
        in time.
        """
        job.work.mkdir(parents=True, exist_ok=True)
        if self._reported.pop(job.name, None):
            self.forget(job)
        self._polled[job.name] = _Polled()
        record = _read(job)
        if record.get("job_id") or self._recover(job, record):
            return True
        name = str(record.get("name") or f"{job.name}.{secrets.token_hex(4)}")
        script = slurm_script.write(job, self._params, self._target, self._image, name)
        _write(job, {"name": name})
        self._sbatch(job, name, str(script))
        return False

    def poll(self, job: Job) -> Outcome | None:
        """None while it waits or runs, and while Slurm is silent for less than `patience_s`. Asks at most every
        `poll_s` seconds.
        """
        if job.name in self._reported:
            return self._reported[job.name]
        polled, now = self._polled.setdefault(job.name, _Polled()), time.monotonic()
        if now - polled.asked_at < self._params.poll_s:
            return None
        polled.asked_at = now
        try:
            ended = self._ask(job, polled)
        except SilentError as err:
            if time.monotonic() - polled.answered_at > self._params.patience_s:
                raise no_answer(str(err), self._params.patience_s) from err
            return None
        polled.answered_at = time.monotonic()
        if ended:
            self._reported[job.name] = ended
        return ended

    def cancel(self, job: Job) -> Outcome:
        """The workers are told to save first; scancel ends what is left after `stop_s`, or has not started."""
        if (ended := self._ended_now(job)) is not None:
            return ended
        deadline = time.monotonic() + job.stop_s
        while self._running(job) and time.monotonic() < deadline:
            if taken := fence.epochs(job.work / slurm_script.FENCE):
                (job.work / slurm_script.FENCE / f"stop-{taken[-1]}").touch()
            if (ended := self._ended_now(job)) is not None:
                break
            time.sleep(min(1.0, self._params.poll_s))
        if ended is None:
            with suppress(ResourceError):  # it ended in this moment
                call_until_answered(self._params.patience_s, "scancel", str(_read(job)["job_id"]))
            ended = self._wait(job)
        self._reported[job.name] = Outcome(
            State.CANCELLED, ended.code, f"cancelled ({ended.reason})", ended.seconds, ended.peak_rss
        )
        return self._reported[job.name]

    def forget(self, job: Job) -> None:
        """Remove the job's file: the next `submit` is a new job."""
        (job.work / JOB_FILE).unlink(missing_ok=True)

    def address(self, job: Job, port: int) -> Address | None:
        """The first node of the job, by its address as Slurm knows it; None while the job waits or Slurm is silent."""
        job_id = _read(job).get("job_id")
        with suppress(SilentError):
            host = first_node_address(int(job_id)) if job_id else None
            return Address(host, port) if host else None
        return None

    def _recover(self, job: Job, record: dict[str, Any]) -> bool:
        """Whether Slurm knows a job of the recorded name: sbatch was heard. A second one of that name is cancelled."""
        if "name" not in record:
            return False
        jobs = retried(lambda: find_named(str(record["name"])), self._params.patience_s)
        for extra in jobs[1:]:
            call_until_answered(self._params.patience_s, "scancel", str(extra.job_id))
        if jobs:
            _write(job, {**record, "job_id": jobs[0].job_id})
        return bool(jobs)

    def _sbatch(self, job: Job, name: str, script: str) -> None:
        """Submit, and write the id down."""
        asked = False

        def submit_once() -> None:
            nonlocal asked
            # After silence: sbatch may have been heard and only its answer lost.
            if asked and self._recover(job, {"name": name}):
                return
            asked = True
            job_id = int(call("sbatch", "--parsable", script).strip().partition(";")[0])
            _write(job, {"name": name, "job_id": job_id})

        retried(submit_once, self._params.patience_s)

    def _ask(self, job: Job, polled: _Polled) -> Outcome | None:
        """The outcome as accounting has it; as the controller or the job itself says when accounting does not come to
        know it.
        """
        record = _read(job)
        if "job_id" not in record and not self._recover(job, record):
            return Outcome(State.LOST, None, "never submitted")
        job_id = int(_read(job)["job_id"])
        now = by_controller(job_id)
        if now and now.outcome is None:
            polled.ended_at = None
            if "requeued_held" in now.reason:
                raise ResourceError(
                    f"Slurm job {job_id}",
                    f"held: {now.reason}",
                    "a job that Slurm starts by itself",
                    f"see `scontrol show job {job_id}` and `sinfo -R`; `scontrol release {job_id}`, and run again",
                )
            return None
        polled.ended_at = polled.ended_at or time.monotonic()
        settled = time.monotonic() - polled.ended_at > SETTLE_S
        with suppress(SilentError):
            accounted = by_accounting(job_id)
            # Accounting that lags tells of the attempt before: then its state is not the controller's.
            if accounted and accounted.outcome and (now is None or accounted.state.split()[0] == now.state.split()[0]):
                return _with_script_code(job, accounted.outcome)
            settled = settled or (accounted is None and accounting_is_off())
        if not settled:
            return None
        outcome = (
            (now and now.outcome) or _script_outcome(job) or Outcome(State.LOST, None, f"Slurm knows no job {job_id}")
        )
        return _with_script_code(job, outcome)

    def _ended_now(self, job: Job) -> Outcome | None:
        self._polled.setdefault(job.name, _Polled()).asked_at = float("-inf")
        return self.poll(job)

    def _running(self, job: Job) -> bool:
        slurm_job = self._look(int(_read(job)["job_id"]))
        return slurm_job is None or slurm_job.state not in ("PENDING", "REQUEUED", "SUSPENDED", "CONFIGURING")

    def _look(self, job_id: int) -> SlurmJob | None:
        with suppress(SilentError):
            return by_controller(job_id)
        return None

    def _wait(self, job: Job) -> Outcome:
        while (ended := self._ended_now(job)) is None:
            time.sleep(min(1.0, max(0.1, self._params.poll_s)))
        return ended


def _script_outcome(job: Job) -> Outcome | None:
    """What the batch script wrote when it ended: `attempt code why`. 128 + n is a worker's death by signal n."""
    file = job.work / slurm_script.EXIT
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if not lines:
        return None
    try:
        code = int(lines[-1].split()[1])
    except (IndexError, ValueError):  # cut short by a full disk or a kill
        return None
    value = 128 - code if code > 128 else code
    reason = f"signal {-value}" if value < 0 else f"exit code {value}"
    return Outcome(State.DONE if code == 0 else State.FAILED, value, reason)


def _with_script_code(job: Job, outcome: Outcome) -> Outcome:
    """The batch script's own exit code where it failed by itself: Slurm tells 137 as `9`."""
    script = _script_outcome(job) if outcome.state is State.FAILED else None
    return (
        replace(outcome, code=script.code, reason=f"FAILED, {script.reason}")
        if script and script.state is State.FAILED
        else outcome
    )


def _read(job: Job) -> dict[str, Any]:
    return read_job_file(job.work / JOB_FILE)


def _write(job: Job, record: dict[str, Any]) -> None:
    write_atomic(job.work / JOB_FILE, json.dumps(record))
