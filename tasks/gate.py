"""Gate: may the candidate replace the champion? A verdict, not an error: promotion refuses a failed one."""

from __future__ import annotations

from prefect.states import State

from slipway.pipeline.stage import StageCall
from slipway.stages.gate import params_of
from slipway.store.artifacts import Engine, Evaluation, Quantized, Verdict
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("gate", timeout_s=HOUR)
def gate(
    run: Run,
    candidate: Evaluation,
    merged: Evaluation,
    base: Evaluation | None,
    champion: Evaluation | None,
    quantized: Quantized,
    engine: Engine,
    best: Evaluation | None = None,
) -> State[Verdict]:
    """The verdict on the candidate, against the merged model, and the base, the champion and the best release of the
    line where there is one."""
    sides = {"candidate": candidate, "merged": merged, "base": base, "champion": champion}
    # left out where there is none: the keys of before there was one stay
    inputs = {**sides, **({"best": best} if best else {}), "quantized": quantized, "engine": engine}
    return run.make(StageCall("gate", inputs, params_of(run.config)))
