"""Gate: may the candidate replace the champion? A verdict, not an error: promotion refuses a failed one."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.states import State

from slipway.evaluation.gate_rules import wants_more_items as wants_more_items
from slipway.ops.chain import calls
from slipway.ops.chain.earlier_data import rivals_data
from slipway.store.artifacts import Artifact, Dataset, Engine, Quantized, Verdict
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("gate", timeout_s=HOUR)
def gate(
    run: Run, quality: Mapping[str, Artifact], quantized: Quantized, engine: Engine, data: Dataset, look: int = 1
) -> State[Verdict]:
    """The verdict on `quality["candidate"]`, against the merged model, and the base, the champion and the best release
    of the line where there is one, and on agents and retrieval where they were evaluated. `look` 2 is at all test rows
    of `data`, after the first was inconclusive."""
    champions = rivals_data(run.config, engine)
    return run.make(calls.gate(run.config, quality, quantized, engine, data, look, champions))
