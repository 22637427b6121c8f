"""Reference: how the unquantized merge is measured, and the scores of reference answers by it and its quantized
form."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from slipway.evaluation import reference_plan as planned
from slipway.evaluation.reference_plan import ReferencePlan
from slipway.evaluation.task import task_of
from slipway.pipeline.stage import StageCall
from slipway.stages.reference import params_of
from slipway.store.artifacts import Checkpoint, Dataset, Quantized, ReferenceScores
from slipway.system.memory import total_bytes
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@task(name="reference plan", task_run_name="reference plan", cache_policy=NO_CACHE)
def reference_plan(run: Run, base: Checkpoint, data: Dataset) -> ReferencePlan:
    """Whether the unquantized models are served here, and whether the merge is streamed; logged with the reason."""
    kind, why = data.summary.get("task") or ("json", "")  # data of before tasks were looked for had JSON answers
    config, label_key = run.config, data.summary.get("label_key")
    free_text = task_of(config.evaluate, (kind, why), label_key).kind == "text"
    plan = planned.reference_plan(config.evaluate, config.engine, base.path, total_bytes(), free_text=free_text)
    get_run_logger().info(plan.why)
    return plan


@stage_task("reference", timeout_s=12 * HOUR)
def reference(
    run: Run, merged: Checkpoint, quantized: Quantized, data: Dataset, plan: ReferencePlan
) -> State[ReferenceScores]:
    """Log-likelihood, KL and agreement on the reference answers of the test split."""
    inputs = {"merged": merged, "quantized": quantized, "data": data}
    return run.make(StageCall("reference", inputs, params_of(run.config, required=plan.required)))
