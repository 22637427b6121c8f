"""Evaluate: quality, and speed where asked, of a model as served."""

from __future__ import annotations

from prefect.states import State

from slipway.config.evaluate import EvaluateConfig
from slipway.stages.evaluate import EvaluateParams
from slipway.store.artifacts import Dataset, Engine, Evaluation
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("evaluate", timeout_s=4 * HOUR, run_name="evaluate {of}")
def evaluate(
    run: Run, engine: Engine, data: Dataset, params: EvaluateConfig, of: str, *, speed: bool
) -> State[Evaluation]:
    full = EvaluateParams(**params.model_dump(), speed=speed)
    return run.make("evaluate", Evaluation, {"engine": engine, "data": data}, full, label=f"evaluate {of}")
