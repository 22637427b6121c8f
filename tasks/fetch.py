"""Fetch: the base model."""

from __future__ import annotations

from prefect.states import State

from slipway.artifacts import Checkpoint
from slipway.config import ModelConfig
from slipway.references import absolute, fetch_extra
from tasks.stage import HOUR, Run, stage_task


@stage_task("fetch", timeout_s=HOUR)
def fetch(run: Run, params: ModelConfig) -> State[Checkpoint]:
    params = absolute(params)
    return run.make("fetch", Checkpoint, {}, params, extra=fetch_extra(params))
