"""Evaluate: quality, and speed where asked, of a model as served, and of one that is only streamed."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Dataset, Engine, Evaluation, ReferenceScores
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("evaluate", timeout_s=4 * HOUR, run_name="evaluate {of}")
def evaluate(
    run: Run, engine: Engine | None, data: Dataset, streamed: ReferenceScores | None, of: str, *, speed: bool
) -> State[Evaluation]:
    """What this engine answers to the test split, and what `streamed` says of the model. `of`: base, merged, candidate,
    champion or best."""
    return run.make(calls.evaluate(run.config, engine, data, streamed, of, speed=speed))
