"""Embed: chunks -> unit vectors."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import retrieval_calls as calls
from slipway.store.artifacts import Chunks, Corpus, Vectors
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("embed", timeout_s=24 * HOUR, run_name="embed {strategy}")
def embed(run: Run, corpus: Corpus, chunks: Chunks, strategy: str) -> State[Vectors]:
    """The vectors of a strategy's chunks; a killed attempt's are in the cache."""
    return run.make(calls.embed(run.config, strategy, corpus, chunks))
