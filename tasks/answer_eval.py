"""Served models that answer with what retrieval finds."""

from __future__ import annotations

from prefect.states import State

from slipway.config.rag import RetrieverName
from slipway.ops.chain import calls
from slipway.store.artifacts import Corpus, Engine, Evaluation, SearchIndex
from tasks.retrieval import Retrieved
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("answer-eval", timeout_s=12 * HOUR, run_name="answer-eval {of}")
def answer_eval(
    run: Run, engine: Engine, index: SearchIndex, corpus: Corpus, retriever: RetrieverName, of: str
) -> State[Evaluation]:
    """What this engine answers with the index of the arm. `of`: candidate or champion."""
    return run.make(calls.answer_eval(run.config, engine, index, corpus, retriever, of))


def answer_evals(
    run: Run, candidate: Engine, champion: Engine | None, retrieved: Retrieved | None
) -> dict[str, Evaluation]:
    """Those of the candidate and the champion, as the gate names them; none where `rag.answers` is not set."""
    if retrieved is None or run.config.rag.answers is None:
        return {}
    given = retrieved.index, retrieved.corpus, retrieved.retriever
    sides = {"answers": answer_eval(run, candidate, *given, "candidate")}
    return sides | ({"answers_champion": answer_eval(run, champion, *given, "champion")} if champion else {})
