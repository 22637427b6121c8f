"""Quantize: checkpoint -> ModelOpt unified HF export."""

from __future__ import annotations

from prefect.states import State

from slipway.artifacts import Checkpoint, Quantized
from slipway.config import QuantizeConfig
from tasks.stage import HOUR, Run, stage_task


@stage_task("quantize", timeout_s=6 * HOUR)
def quantize(run: Run, checkpoint: Checkpoint, params: QuantizeConfig) -> State[Quantized]:
    return run.make("quantize", Quantized, {"checkpoint": checkpoint}, params)
