"""Train: base + data -> adapter, here or on the target's GPUs. A retry resumes from the last complete checkpoint."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Adapter, Checkpoint, Dataset
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task

DAY = 24 * HOUR


@stage_task("train", timeout_s=14 * DAY)
def train(run: Run, base: Checkpoint, data: Dataset) -> State[Adapter]:
    """The adapter, by the trainer that `train.backend` names."""
    return run.make(calls.train(run.config, base, data))
