"""Evaluate: quality, and speed where asked, of a model as served."""

from __future__ import annotations

from prefect.states import State

from slipway.pipeline.stage import StageCall
from slipway.stages.evaluate import params_of
from slipway.store.artifacts import Dataset, Engine, Evaluation
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("evaluate", timeout_s=4 * HOUR, run_name="evaluate {of}")
def evaluate(run: Run, engine: Engine, data: Dataset, of: str, *, speed: bool) -> State[Evaluation]:
    """What this engine answers to the test split. `of`: base, merged, candidate or champion."""
    params = params_of(run.config, speed=speed)
    return run.make(StageCall("evaluate", {"engine": engine, "data": data}, params, f"evaluate {of}"))
