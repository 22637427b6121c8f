"""Gate: may the candidate replace the champion? A verdict, not an error: promotion refuses a failed one."""

from __future__ import annotations

from prefect.states import State

from slipway.config.gate import GateConfig
from slipway.store.artifacts import Evaluation, Quantized, Verdict
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("gate", timeout_s=HOUR)
def gate(
    run: Run,
    candidate: Evaluation,
    merged: Evaluation,
    base: Evaluation,
    champion: Evaluation | None,
    quantized: Quantized,
    params: GateConfig,
) -> State[Verdict]:
    inputs = {"candidate": candidate, "merged": merged, "base": base, "champion": champion, "quantized": quantized}
    return run.make("gate", Verdict, inputs, params)
