"""Prepare: DVC's splits or a user's rows -> the dataset that training and evaluation read."""

from __future__ import annotations

from prefect.states import State

from slipway.config.data import DataConfig
from slipway.stages.prepare import prepare_params
from slipway.store.artifacts import Checkpoint, Dataset
from tasks.dvc_repro import reproduce
from tasks.provenance import ROOT
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("prepare", timeout_s=2 * HOUR)
def prepare(run: Run, base: Checkpoint, params: DataConfig) -> State[Dataset]:
    with run.bars.stage("dvc repro") as line:
        line.say("up to date with dvc.yaml" if reproduce(params) else "own data: not versioned by DVC")
    full = prepare_params(params, ROOT)
    state = run.make("prepare", Dataset, {"base": base}, full)
    run.tracker.dataset(state.data, params.raw, full.digest, full.revision)
    return state
