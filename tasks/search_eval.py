"""Search evaluation: the retrievers of the config on one index, by the gold spans of the questions."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import retrieval_calls as calls
from slipway.ops.chain.index_rival import IndexRival
from slipway.store.artifacts import Corpus, Retrieval, SearchIndex
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("search-eval", timeout_s=4 * HOUR, run_name="search-eval {strategy}")
def search_eval(
    run: Run, index: SearchIndex, corpus: Corpus, strategy: str, rival: IndexRival | None = None
) -> State[Retrieval]:
    """What retrieval on the index of a strategy is worth; with `rival`, what it is on the champion's."""
    if rival:
        return run.make(calls.search_eval_champion(run.config, rival, index, corpus))
    return run.make(calls.search_eval(run.config, strategy, index, corpus))
