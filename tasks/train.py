"""Train: base + data -> adapter, here or on the target's GPUs. A retry resumes from the last complete checkpoint."""

from __future__ import annotations

from prefect.states import State

from slipway.config.load import Config
from slipway.store.artifacts import Adapter, Checkpoint, Dataset
from slipway.training.nemo.params import STAGE_STOP_S, nemo_train_params
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task

DAY = 24 * HOUR


@stage_task("train", timeout_s=14 * DAY)
def train(run: Run, base: Checkpoint, data: Dataset, config: Config) -> State[Adapter]:
    inputs = {"base": base, "data": data}
    if config.train.backend == "nemo":
        return run.make("train_nemo", Adapter, inputs, nemo_train_params(config), label="train", stop_s=STAGE_STOP_S)
    return run.make("train_cpu", Adapter, inputs, config.train, label="train")
