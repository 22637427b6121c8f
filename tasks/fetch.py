"""Fetch: the base model."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Checkpoint
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("fetch", timeout_s=HOUR)
def fetch(run: Run) -> State[Checkpoint]:
    """The base model as a checkpoint."""
    return run.make(calls.fetch(run.config))
