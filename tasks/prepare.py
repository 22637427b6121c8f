"""Prepare: DVC's splits or a user's rows -> the dataset that training and evaluation read."""

from __future__ import annotations

from typing import cast

from prefect import get_run_logger
from prefect.states import State

from slipway.ops.chain import calls
from slipway.ops.chain.earlier_data import champions_data
from slipway.stages.prepare import PrepareParams
from slipway.store.artifacts import Checkpoint, Dataset
from tasks.data_funnel import show_funnel
from tasks.dvc_repro import reproduce
from tasks.provenance import ROOT
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("prepare", timeout_s=2 * HOUR)
def prepare(run: Run, base: Checkpoint) -> State[Dataset]:
    """The splits, with every row short enough for `base`; test rows of the champion's data stay test rows."""
    config = run.config.data
    with run.bars.stage("dvc repro") as line:
        line.say("up to date with dvc.yaml" if reproduce(config.raw) else "own data: not versioned by DVC")
    champions, warning = champions_data(run.config)
    if warning:
        get_run_logger().warning("%s", warning)
    call = calls.prepare(run.config, ROOT, base, champions)
    state: State[Dataset] = run.make(call)
    dataset, params = cast(Dataset, state.data), cast(PrepareParams, call.params)
    show_funnel(run, dataset)
    run.tracker.dataset(dataset, config.raw, params.digest, params.revision)
    return state
