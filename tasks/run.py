"""A pipeline run: where bytes live, what it has done so far, and one stage of it made with progress and tracking."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, State

from slipway.cli.progress import Bars, StageLine, describe, human_bytes
from slipway.config.load import Config
from slipway.ops.chain.estimates import Estimate, estimate_call
from slipway.pipeline.ensure import Made
from slipway.pipeline.ensure_there import THERE, ensure_at
from slipway.pipeline.measurements import Figures, add_measurement, read_measurements, this_machine
from slipway.pipeline.remote_machine import remote_machine
from slipway.pipeline.stage import StageCall
from slipway.runners.base import Runner
from slipway.store.store import Store
from slipway.system.throttle import Throttle
from tasks import prefect_ui
from tasks.accelerator import accelerator_slot
from tasks.plan import PlanArtifact
from tasks.tracking.run import StageRun, Tracker

LOG_EVERY_S = 10.0


@dataclass(frozen=True)
class StageRow:
    """One line of the run's table. Seconds and bytes are zero when the artifact was reused."""

    stage: str
    reused: bool
    why: str
    seconds: float
    peak_rss: int
    digest: str


@dataclass
class Summary:
    """What the run did, for people (tables) and programs (JSON)."""

    stages: list[StageRow] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    kept: str = ""  # why what serves was kept, where it was
    endpoint: str = ""
    links: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The same, as plain values."""
        return asdict(self)

    def all_reused(self) -> bool:
        """Whether no stage made anything new."""
        return all(s.reused for s in self.stages)


class Run:
    """One pipeline run: where bytes live, who runs stages, who is told. Passed to every task; a plain class so that
    Prefect does not look inside."""

    def __init__(self, config: Config, store: Store, runner: Runner, tracker: Tracker, bars: Bars) -> None:
        self.config, self.store, self.runner, self.tracker, self.bars = config, store, runner, tracker, bars
        self.summary = Summary()
        self.plan: PlanArtifact | None = None
        self.machine = remote_machine(config.remote)

    def ids(self) -> dict[str, str]:
        """Where to read about this run, for the release's record."""
        return {"mlflow_run": self.tracker.parent, "prefect_flow_run": str(flow_run.id or "")}

    def on_all_items(self) -> Run:
        """This run, with every test row evaluated."""
        whole = copy.copy(self)
        evaluate = self.config.evaluate.model_copy(update={"max_items": None})
        whole.config = self.config.model_copy(update={"evaluate": evaluate})
        return whole

    def make(self, call: StageCall) -> State[Any]:
        """Have the artifact of one stage; the state is named `Cached` when it was reused, with the reason as
        message."""
        title = call.title
        with self.tracker.stage(title, call.inputs, call.params) as tracked, self.bars.stage(title) as line:
            listener = Listener(title, line, tracked, logs=not self.bars.live)
            where = self._where(call)
            rows = read_measurements(self.store.root).rows
            expected = estimate_call(call.stage, call.work, call.inputs, self.config, rows, where)
            cache = Path(self.config.store.cache)
            made = ensure_at(self.machine, call, self.store, cache, self.runner, listener, accelerator_slot)
            took = self._measured(call, made, expected, where)
            tracked.made(made, took)
            line.say(_outcome(made))
        digest = made.artifact.digest
        self.summary.stages.append(StageRow(title, made.reused, made.why, made.seconds, made.peak_rss, digest))
        if self.plan:
            self.plan.ended(title, made)
        return Completed(name="Cached" if made.reused else "Completed", message=_outcome(made), data=made.artifact)

    def _where(self, call: StageCall) -> str:
        """The machine that the stage runs on, as measurements name it."""
        if self.machine is None or call.stage not in THERE:
            return this_machine()
        return self.machine.facts(self.config.engine, self.config.serving).name

    def _measured(self, call: StageCall, made: Made, expected: Estimate | None, where: str) -> dict[str, Figures]:
        """What a stage took, and what it was said to take: on record for the predictions of later runs."""
        if made.reused:
            return {}
        written = sum(file["size"] for file in made.artifact.manifest["files"])
        took = {"measured": Figures(seconds=made.seconds, peak_bytes=made.peak_rss, disk_bytes=written)}
        took |= {"predicted": expected.figures} if expected else {}
        if call.work and call.work.amount > 0:
            about = {"title": call.title, "key": made.artifact.key, "group": call.work.group, "machine": where}
            by = expected.by if expected else ""
            about |= {"run": self.tracker.parent}
            add_measurement(self.store.root, {**about, "amount": call.work.amount, "by": by, **took})
        return took


class Listener:
    """Carries a stage's events to the terminal, the Prefect UI, the log and MLflow, each at its own pace."""

    def __init__(self, label: str, line: StageLine, tracked: StageRun, *, logs: bool) -> None:
        self._line, self._tracked, self._logs = line, tracked, logs
        self._ui = prefect_ui.ProgressArtifact(label)
        self._throttle = Throttle(LOG_EVERY_S)

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "metric":
            self._tracked.metric(event)
            return
        self._line.event(event)
        if kind == "progress":
            self._ui.update(event)
        if self._logs and (kind == "note" or self._throttle.due()):
            get_run_logger().info(describe(event))


def _outcome(made: Made) -> str:
    if made.reused:
        return f"reused: {made.why}"
    return f"made in {made.seconds:.1f} s, peak {human_bytes(made.peak_rss)}, digest {made.artifact.digest[:12]}"
