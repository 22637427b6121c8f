"""Train: base + data -> adapter, here or on the target's GPUs. A retry resumes from the last complete checkpoint."""

from __future__ import annotations

from prefect.states import State

from slipway.pipeline.stage import StageCall
from slipway.stages import train_cpu, train_nemo
from slipway.store.artifacts import Adapter, Checkpoint, Dataset
from slipway.training.nemo.params import STAGE_STOP_S
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task

DAY = 24 * HOUR


@stage_task("train", timeout_s=14 * DAY)
def train(run: Run, base: Checkpoint, data: Dataset) -> State[Adapter]:
    """The adapter, by the trainer that `train.backend` names."""
    inputs = {"base": base, "data": data}
    if run.config.train.backend == "nemo":
        params = train_nemo.params_of(run.config)
        return run.make(StageCall("train_nemo", inputs, params, "train", stop_s=STAGE_STOP_S))
    return run.make(StageCall("train_cpu", inputs, train_cpu.params_of(run.config), "train"))
