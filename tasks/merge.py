"""Merge: base + adapter -> one checkpoint, virtual unless materialized."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Adapter, Checkpoint
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("merge", timeout_s=2 * HOUR)
def merge(run: Run, base: Checkpoint, adapter: Adapter) -> State[Checkpoint]:
    """The fine-tuned model."""
    return run.make(calls.merge(run.config, base, adapter))
