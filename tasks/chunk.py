"""Chunk: the corpus -> the chunks of one strategy."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import retrieval_calls as calls
from slipway.store.artifacts import Chunks, Corpus
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("chunk", timeout_s=4 * HOUR, run_name="chunk {strategy}")
def chunk(run: Run, corpus: Corpus, strategy: str) -> State[Chunks]:
    """The chunks of the strategy of that name."""
    return run.make(calls.chunk(run.config, strategy, corpus))
