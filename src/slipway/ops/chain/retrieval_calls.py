"""The call of each stage of retrieval, out of a config's section `rag`: for `slipway rag`, for a run, and for its plan.

A run makes one arm, or compares all of them (`rag.arm`); `slipway rag compare` always all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from slipway.config.load import Config
from slipway.config.rag import RetrieverName
from slipway.pipeline.stage import StageCall, Work
from slipway.stages import choose as choose_stage
from slipway.stages import chunk as chunk_stage
from slipway.stages import corpus as corpus_stage
from slipway.stages import embed as embed_stage
from slipway.stages import index as index_stage
from slipway.stages import search_eval as search_eval_stage
from slipway.store.artifacts import Choice, Chunks, Corpus, Retrieval, SearchIndex, Vectors

if TYPE_CHECKING:
    from slipway.ops.chain.index_rival import IndexRival


def of_arm(config: Config) -> Config:
    """The config with what `rag.arm` names alone."""
    return config.model_copy(update={"rag": config.rag.of_arm})


def with_vectors(config: Config) -> bool:
    """Whether any retriever of the config searches vectors."""
    return set(config.rag.retrievers) != {"bm25"}


def corpus(config: Config, root: Path, *, needs_questions: bool = True) -> StageCall:
    """Documents and questions of the project in `root`. Raises DataError where they are not there."""
    return StageCall("corpus", {}, corpus_stage.params_of(config, root, needs_questions=needs_questions))


def chunk(config: Config, strategy: str, corpus: Corpus) -> StageCall:
    """The chunks of one strategy."""
    params = chunk_stage.params_of(config, strategy)
    amount = Work(f"chunk {params.strategy.kind}", float(corpus.summary.get("characters", 0)), "characters")
    extra = chunk_stage.key_extra(params)
    return StageCall("chunk", {"corpus": corpus}, params, f"chunk {strategy}", extra, work=amount)


def embed(config: Config, strategy: str, corpus: Corpus, chunks: Chunks) -> StageCall:
    """Their vectors. No work is stated: how many of them are in the cache already is not known before."""
    params = embed_stage.params_of(config)
    inputs = {"corpus": corpus, "chunks": chunks}
    return StageCall("embed", inputs, params, f"embed {strategy}", embed_stage.key_extra(params))


def index(config: Config, strategy: str, corpus: Corpus, chunks: Chunks, vectors: Vectors | None = None) -> StageCall:
    """The index over them; without vectors BM25 alone."""
    inputs = {"corpus": corpus, "chunks": chunks, "vectors": vectors}
    return StageCall("index", inputs, index_stage.params_of(config, strategy), f"index {strategy}")


def search_eval(config: Config, strategy: str, index: SearchIndex, corpus: Corpus) -> StageCall:
    """What every retriever of the config is worth on the index of a strategy."""
    params = search_eval_stage.params_of(config)
    extra, inputs = search_eval_stage.key_extra(params), {"index": index, "corpus": corpus}
    how = f"search_eval {' '.join(params.retrievers)}"
    amount = Work(how, float(corpus.summary.get("questions", 0)), "questions")
    return StageCall("search_eval", inputs, params, f"search_eval {strategy}", extra, work=amount)


def search_eval_champion(config: Config, rival: IndexRival, index: SearchIndex, corpus: Corpus) -> StageCall:
    """What the champion's index is worth on this run's questions, by the retriever of its release."""
    how = {"retrievers": [rival.carried.retriever], "depth": rival.carried.depth, "embedder": rival.embedder}
    rag = config.rag.model_copy(update=how)
    return search_eval(config.model_copy(update={"rag": rag}), "champion", index, corpus)


def choose(
    config: Config,
    corpus: Corpus,
    made: Mapping[str, tuple[Chunks, SearchIndex, Retrieval]],
) -> StageCall:
    """The choice among the arms. `made`: chunks, index and evaluation of each strategy."""
    rows = [evaluated_index(config, name, *of_strategy) for name, of_strategy in made.items()]
    return StageCall("choose", {"corpus": corpus}, choose_stage.params_of(config, rows))


def evaluated_index(
    config: Config, strategy: str, chunks: Chunks, index: SearchIndex, evaluation: Retrieval
) -> choose_stage.EvaluatedIndex:
    """An evaluation with what its index costs."""
    cuts_by_vectors = config.rag.strategies[strategy].kind == "semantic"
    cutting = float(chunks.summary["corpus_tokens"]) if cuts_by_vectors else 0.0
    costs = {
        "embedded_tokens": cutting + float(index.summary["embedded_tokens"]),
        "chunking_tokens": cutting,
        "indexed_tokens": float(index.summary["indexed_tokens"]),
        "chunks": float(index.summary["chunks"]),
    }
    path = str(evaluation.path.resolve())
    return choose_stage.EvaluatedIndex(strategy=strategy, path=path, digest=evaluation.digest, costs=costs)


def winner(choice: Choice) -> tuple[str, RetrieverName]:
    """Strategy and retriever of a choice's winner."""
    strategy, _, retriever = str(choice.read_json("choice.json")["winner"]).rpartition("/")
    return strategy, cast(RetrieverName, retriever)
