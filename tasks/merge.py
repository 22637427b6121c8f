"""Merge: base + adapter -> one checkpoint, virtual unless materialized."""

from __future__ import annotations

from prefect.states import State

from slipway.config.merge import MergeConfig
from slipway.store.artifacts import Adapter, Checkpoint
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("merge", timeout_s=2 * HOUR)
def merge(run: Run, base: Checkpoint, adapter: Adapter, params: MergeConfig) -> State[Checkpoint]:
    return run.make("merge", Checkpoint, {"base": base, "adapter": adapter}, params)
