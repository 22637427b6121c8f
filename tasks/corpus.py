"""Corpus: DVC's documents and questions, or a user's own -> both checked, the questions halved."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import retrieval_calls as calls
from slipway.store.artifacts import Corpus
from tasks.dvc_repro import reproduce
from tasks.provenance import ROOT
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("corpus", timeout_s=HOUR)
def corpus(run: Run) -> State[Corpus]:
    """The corpus of `rag.corpus`."""
    with run.bars.stage("dvc repro") as line:
        line.say("up to date with dvc.yaml" if reproduce(run.config.rag.corpus) else "own corpus: not versioned by DVC")
    return run.make(calls.corpus(run.config, ROOT))
