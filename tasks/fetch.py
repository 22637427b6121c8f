"""Fetch: the base model."""

from __future__ import annotations

from prefect.states import State

from slipway.config.model import ModelConfig
from slipway.store.artifacts import Checkpoint
from slipway.weights.external import absolute, fetch_extra
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("fetch", timeout_s=HOUR)
def fetch(run: Run, params: ModelConfig) -> State[Checkpoint]:
    params = absolute(params)
    return run.make("fetch", Checkpoint, {}, params, extra=fetch_extra(params))
