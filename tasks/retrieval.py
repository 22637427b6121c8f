"""Retrieval in a run: corpus -> chunk -> embed -> index -> search_eval, and choose, where all arms are compared."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from slipway.config.rag import CHOOSE, RetrieverName
from slipway.ops.chain import retrieval_calls as calls
from slipway.ops.chain.index_rival import index_rival
from slipway.store.artifacts import Artifact, Chunks, Corpus, Engine, Retrieval, SearchIndex
from tasks.choose import choose
from tasks.chunk import chunk
from tasks.corpus import corpus
from tasks.embed import embed
from tasks.index import index
from tasks.run import Run
from tasks.search_eval import search_eval


@dataclass(frozen=True)
class Retrieved:
    """The index of the arm with its corpus and retriever, and `sides`: what the gate reads of it, by its names."""

    corpus: Corpus
    index: SearchIndex
    retriever: RetrieverName
    sides: dict[str, Artifact]


def retrieval(run: Run) -> Retrieved | None:
    """The index of `rag.arm`, measured; None where no arm is set."""
    if run.config.rag.arm is None:
        return None
    run, compared = copy.copy(run), run.config.rag.arm == CHOOSE
    run.config = calls.of_arm(run.config)
    documents = corpus(run)
    made = {name: _strategy(run, documents, name) for name in run.config.rag.strategies}
    if not compared:
        [(_, built, evaluation)] = made.values()
        return Retrieved(documents, built, run.config.rag.retrievers[0], {"search": evaluation})
    choice = choose(run, documents, made)
    strategy, retriever = calls.winner(choice)
    _, built, evaluation = made[strategy]
    return Retrieved(documents, built, retriever, {"search": evaluation, "choice": choice})


def champion_search(run: Run, candidate: Engine, retrieved: Retrieved | None) -> dict[str, Retrieval]:
    """The champion's index measured on the same questions, as the gate names it; none where it is the candidate's, or
    there is none."""
    if retrieved is None:
        return {}
    rival = index_rival(run.config, candidate, retrieved.index.digest, retrieved.retriever)
    if rival is None:
        return {}
    return {"search_champion": search_eval(run, rival.index, retrieved.corpus, "champion", rival)}


def _strategy(run: Run, documents: Corpus, name: str) -> tuple[Chunks, SearchIndex, Retrieval]:
    chunks = chunk(run, documents, name)
    vectors = embed(run, documents, chunks, name) if calls.with_vectors(run.config) else None
    built = index(run, documents, chunks, vectors, name)
    return chunks, built, search_eval(run, built, documents, name)
