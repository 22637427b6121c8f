"""Quantize: checkpoint -> quantized checkpoint, calibrated on the training split where that is needed."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Checkpoint, Dataset, Quantized
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("quantize", timeout_s=6 * HOUR)
def quantize(run: Run, checkpoint: Checkpoint, data: Dataset) -> State[Quantized]:
    """The model in the format and layout of the config."""
    return run.make(calls.quantize(run.config, checkpoint, data))
