"""Index: chunks and vectors -> what is searched."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import retrieval_calls as calls
from slipway.store.artifacts import Chunks, Corpus, SearchIndex, Vectors
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("index", timeout_s=4 * HOUR, run_name="index {strategy}")
def index(run: Run, corpus: Corpus, chunks: Chunks, vectors: Vectors | None, strategy: str) -> State[SearchIndex]:
    """The index of a strategy; without vectors BM25 alone."""
    return run.make(calls.index(run.config, strategy, corpus, chunks, vectors))
