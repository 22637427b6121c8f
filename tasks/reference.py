"""Reference: how the unquantized merge is measured, and the scores of reference answers by it and its quantized
form."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from slipway.evaluation.reference_plan import ReferencePlan
from slipway.ops.chain import calls
from slipway.store.artifacts import Checkpoint, Dataset, Quantized, ReferenceScores
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@task(name="reference plan", task_run_name="reference plan", cache_policy=NO_CACHE)
def reference_plan(run: Run, base: Checkpoint, data: Dataset) -> ReferencePlan:
    """Whether the unquantized models are served, and whether the merge is streamed; logged with the reason."""
    plan = calls.reference_plan(run.config, base, data.summary, run.machine)
    get_run_logger().info(plan.why)
    return plan


@stage_task("reference", timeout_s=12 * HOUR)
def reference(
    run: Run, merged: Checkpoint, quantized: Quantized, data: Dataset, plan: ReferencePlan
) -> State[ReferenceScores]:
    """Log-likelihood, KL and agreement on the reference answers of the test split."""
    return run.make(calls.reference(run.config, merged, quantized, data, plan))
