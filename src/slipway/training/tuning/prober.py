"""The prober that drives the real recipe: one job (process, container, Slurm job) that loads the model once and answers
requests.

Requests and results are files in the job's folder (`slipway.training.tuning.probe`). A job that dies takes only its
setting with it: that becomes a row, and the next probe starts a new job.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.errors import StageError
from slipway.runners.base import ALLOCATOR, OFFLINE, Job, Mount, Runner
from slipway.system.files import write_atomic
from slipway.training.tuning.search import STEPS
from slipway.training.tuning.setting import Machine, Result, Setting

PACKAGE = Path(__file__).resolve().parents[2]
# Inside a container: the job's folder, and this package
WORK_IN_CONTAINER = "/probe"
CODE_IN_CONTAINER = "/probe-code/slipway"
POLL_S = 0.05
Clock = Callable[[], float]


class ProcessProber:
    """Probes through `runner`. `recipe` is rendered for the paths as the job sees them; `losses` maps names to recipe
    sections; `limit` is the bytes a setting may take; `step_tokens` the least tokens of a timed step. `deadline`, on
    time.monotonic()'s clock, ends a probe that takes much longer than expected (kernels are compiled)."""

    def __init__(
        self,
        runner: Runner,
        job: Job,
        recipe: Mapping[str, Any],
        losses: Mapping[str, Mapping[str, Any]],
        *,
        limit: float,
        step_tokens: int,
        deadline: float = math.inf,
        start_timeout_s: float = 300.0,
        probe_timeout_s: float = 120.0,
    ) -> None:
        self._runner, self._job, self._recipe, self._losses, self._limit = runner, job, recipe, losses, limit
        self._name, self._step_tokens, self._deadline = job.name, step_tokens, deadline
        self._start_timeout_s, self._probe_timeout_s = start_timeout_s, probe_timeout_s
        self._requests, self._alive, self._launches, self._launched_at = 0, False, 0, 0.0

    def launch(self) -> None:
        """Submit the job, under a new name each time; `start` waits for it."""
        self._launched_at = time.monotonic()
        for old in (
            *self._job.work.glob("request-*.json"),
            *self._job.work.glob("result-*.json"),
            self._job.work / "ready.json",
        ):
            old.unlink(missing_ok=True)
        # A new name: under the old one the runner would adopt the job that died, or keep its record
        self._launches += 1
        self._job = replace(self._job, name=f"{self._name}-{self._launches}")
        write_atomic(
            self._job.work / "recipe.json", json.dumps({"recipe": self._recipe, "limit_bytes": int(self._limit)})
        )
        self._requests, self._alive = 0, True
        self._runner.submit(self._job)

    def start(self) -> Machine:
        """Wait until the model is loaded; launches the job when none runs. Raises StageError when the model does not
        load within the time for it."""
        if not self._alive:
            self.launch()
        ready = self._wait("ready.json", self._start_timeout_s)
        if ready is None or "error" in ready:
            self._end()
            cause = ready["error"] if ready else "it ended, or took too long, before the model was loaded"
            raise StageError(
                "probe process", f"{cause}. Last output:\n{self._tail()}", "a loaded model", f"read {self._job.log}"
            )
        losses = tuple(name for name in self._losses if name not in ready["absent"])
        seconds = time.monotonic() - self._launched_at
        return Machine(
            ready["device"],
            ready["resident_bytes"],
            seconds,
            tuple(ready["attentions"]),
            losses,
            tuple(ready["absent"]),
        )

    def probe(self, setting: Setting, best_low: float, limit: float | None = None) -> Result:
        """Time a setting in the job, giving it up once it is clearly slower than `best_low` tokens a second; `limit`:
        bytes that this one may take, default the prober's. A job that died is launched again first; when it dies or
        does not answer, the result's status is `error`."""
        begun = time.monotonic()
        if not self._alive:
            try:
                self.start()
            except StageError as err:
                return Result(setting, "error", seconds=time.monotonic() - begun, reason=str(err.value).splitlines()[0])
        self._requests += 1
        request = {
            "pack_length": setting.pack_length,
            "micro_batch": setting.micro_batch,
            "checkpointing": setting.checkpointing,
            "attention": setting.attention,
            "loss": dict(self._losses[setting.loss]),
            "steps": STEPS,
            "best_low": best_low,
            "accumulate": -(-self._step_tokens // setting.tokens),
            "limit_bytes": int(limit or self._limit),
        }
        write_atomic(self._job.work / f"request-{self._requests}.json", json.dumps(request))
        answer = self._wait(f"result-{self._requests}.json", self._probe_timeout_s)
        if answer is None:
            reason = self._end() or f"no answer in {time.monotonic() - begun:.0f} s"
            return Result(setting, "error", seconds=time.monotonic() - begun, reason=reason)
        return result(setting, answer)

    def close(self) -> None:
        """Ask the job to quit, wait up to 10 seconds for it, then cancel it and remove the runner's record of it."""
        if self._alive:
            write_atomic(self._job.work / f"request-{self._requests + 1}.json", json.dumps({"quit": True}))
            deadline = time.monotonic() + 10
            while self._runner.poll(self._job) is None and time.monotonic() < deadline:
                time.sleep(POLL_S)
            self._end()

    def _wait(self, name: str, timeout_s: float) -> dict[str, Any] | None:
        """The job's document `name` once it exists; None when the job ended without it, or the time is up."""
        file, until = self._job.work / name, min(time.monotonic() + timeout_s, self._deadline)
        while time.monotonic() < until:
            # Polled first: a job that writes its document and ends between the two looks has not ended without it
            ended = self._runner.poll(self._job)
            if file.exists():
                return dict(json.loads(file.read_text(encoding="utf-8")))
            if ended is not None:
                return None
            time.sleep(POLL_S)
        return None

    def _end(self) -> str:
        """Cancel the job when it still runs. Returns how it ended in the runner's words, nothing when it was
        cancelled."""
        self._alive = False
        ended = self._runner.cancel(self._job)
        self._runner.forget(self._job)
        return "" if ended.reason == "cancelled" else f"the probe process died: {ended.reason}"

    def _tail(self) -> str:
        return (
            "\n".join(self._job.log.read_text(errors="replace", encoding="utf-8").strip().splitlines()[-15:])
            if self._job.log.exists()
            else ""
        )


def result(setting: Setting, answer: Mapping[str, Any]) -> Result:
    """The result of a setting out of the JSON document that the probe process wrote."""
    timed = answer["seconds"]
    return Result(
        setting,
        answer["status"],
        answer.get("tokens_per_s", 0.0),
        answer.get("low", 0.0),
        answer.get("high", 0.0),
        len(timed),
        sum(timed) / len(timed) if timed else 0.0,
        answer["allocated_bytes"],
        answer["reserved_bytes"],
        answer["wall_s"],
        answer.get("reason", ""),
    )


def probe_job(work: Path, mounts: tuple[Mount, ...], *, container: bool, python: str, env: Mapping[str, str]) -> Job:
    """The job of a probe process in the folder `work`: in a container, with this package mounted beside NVIDIA's, or
    with `python` of this machine."""
    own = (Mount(work, WORK_IN_CONTAINER, read_only=False), Mount(PACKAGE, CODE_IN_CONTAINER))
    folder, code = (WORK_IN_CONTAINER, Path(CODE_IN_CONTAINER).parent) if container else (work, PACKAGE.parent)
    path = ":".join(p for p in (str(code), env.get("PYTHONPATH", "")) if p)
    variables = {**env, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **OFFLINE, **ALLOCATOR}
    return Job(
        "tune",
        (python, "-m", "slipway.training.tuning.probe", str(folder)),
        work,
        variables,
        (*own, *mounts),
        {"slipway.stage": "tune"},
        stop_s=5.0,
    )
