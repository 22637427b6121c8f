"""Choose: the evaluations of every strategy -> the arm that is used."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.states import State

from slipway.ops.chain import retrieval_calls as calls
from slipway.store.artifacts import Choice, Chunks, Corpus, Retrieval, SearchIndex
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("choose", timeout_s=HOUR)
def choose(run: Run, corpus: Corpus, made: Mapping[str, tuple[Chunks, SearchIndex, Retrieval]]) -> State[Choice]:
    """The choice among what was `made` of each strategy."""
    return run.make(calls.choose(run.config, corpus, made))
