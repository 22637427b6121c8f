"""`slipway stop`: end what runs for a store and its target, whatever state its records are in, and say what was
ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.deployment import state
from slipway.deployment.releases import Stopped
from slipway.errors import SlipwayError
from slipway.ops.stage_processes import StageProcess, stop_unfollowed
from slipway.pipeline.runs import RunEntry, Runs


@dataclass
class StopReport:
    """What was ended, what works on because somebody attends to it, and the error of a record that could not be
    read."""

    engines: list[Stopped] = field(default_factory=list)
    stages: list[StageProcess] = field(default_factory=list)
    at_work: list[RunEntry] = field(default_factory=list)
    error: SlipwayError | None = None

    def to_json(self) -> dict[str, Any]:
        """As a plain document."""
        return {
            "engines": [asdict(engine) for engine in self.engines],
            "stages": [stage.to_json() for stage in self.stages],
            "runs_at_work": [{"name": run.name, "pid": run.process.pid, "host": run.host} for run in self.at_work],
            **({"error": self.error.to_json()} if self.error else {}),
        }


def stop_target(config: Config) -> StopReport:
    """End the target's engines alone."""
    report = StopReport()
    try:
        state.stop(config.deploy, note=report.engines.append)
    except SlipwayError as err:
        report.error = err
    return report


def stop(config: Config) -> StopReport:
    """End the target's engines and the stage processes that no flow follows. A run that works goes on and is named.

    One record that cannot be read does not keep the rest from being ended; the first such error is in the report.
    """
    report, store = StopReport(), Path(config.store.root)

    def engines() -> None:
        state.stop(config.deploy, note=report.engines.append)

    def stages() -> None:
        report.stages += stop_unfollowed(store)

    def runs() -> None:
        at_work = Runs(store)
        report.at_work += [entry for entry in at_work.entries() if at_work.works(entry)]

    for part in (engines, stages, runs):
        try:
            part()
        except SlipwayError as err:
            report.error = report.error or err
    return report
