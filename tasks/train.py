"""Train: base + data -> adapter. A retry resumes from the last complete checkpoint."""

from __future__ import annotations

from prefect.states import State

from slipway.artifacts import Adapter, Checkpoint, Dataset
from slipway.config import TrainConfig
from tasks.stage import HOUR, Run, stage_task


@stage_task("train", timeout_s=24 * HOUR)
def train(run: Run, base: Checkpoint, data: Dataset, params: TrainConfig) -> State[Adapter]:
    return run.make("train", Adapter, {"base": base, "data": data}, params)
