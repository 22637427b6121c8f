"""Gate: may the candidate replace the champion? A verdict, not an error: promotion refuses a failed one."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.states import State

from slipway.data.rows import read_rows
from slipway.evaluation.gate_rules import wants_more_items as wants_more_items
from slipway.pipeline.stage import StageCall
from slipway.stages.gate import params_of
from slipway.store.artifacts import Dataset, Engine, Evaluation, Quantized, Verdict
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("gate", timeout_s=HOUR)
def gate(
    run: Run, quality: Mapping[str, Evaluation], quantized: Quantized, engine: Engine, data: Dataset, look: int = 1
) -> State[Verdict]:
    """The verdict on `quality["candidate"]`, against the merged model, and the base, the champion and the best release
    of the line where there is one. `look` 2 is at all test rows of `data`, after the first was inconclusive."""
    sides = {side: quality.get(side) for side in ("candidate", "merged", "base", "champion")}
    # left out where there is none: the keys of before there was one stay
    sides |= {"best": quality["best"]} if "best" in quality else {}
    rows = sum(1 for _ in read_rows(data.path / "test.jsonl"))
    inputs = {**sides, "quantized": quantized, "engine": engine}
    return run.make(StageCall("gate", inputs, params_of(run.config, rows, look)))
