"""Fetch: the base model."""

from __future__ import annotations

from prefect.states import State

from slipway.artifacts import Checkpoint
from slipway.config import ModelConfig
from tasks.stage import HOUR, Run, stage_task


@stage_task("fetch", timeout_s=HOUR)
def fetch(run: Run, params: ModelConfig) -> State[Checkpoint]:
    return run.make("fetch", Checkpoint, {}, params)
