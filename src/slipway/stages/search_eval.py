"""Search evaluation: every question asked of one index by each retriever, scored on its gold spans."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from slipway.config.base import Section
from slipway.config.rag import EmbedderConfig
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Corpus, Retrieval, SearchIndex

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.rag.embedder import Embedder
    from slipway.rag.questions import Question
    from slipway.rag.search import Retriever, Searcher
    from slipway.rag.tokens import Ruler

OUTPUT = Retrieval
TIMED = 20  # questions that are asked one by one, for the time of a search


class SearchEvalParams(Section):
    """The retrievers, and the budget of context."""

    retrievers: list[Literal["bm25", "dense", "hybrid"]] = Field(description="Retrievers, one after the other.")
    context_tokens: int = Field(description="Tokens of context that recall is measured at.")
    depth: int = Field(description="Chunks that a search ranks.")
    embedder: EmbedderConfig = Field(description="Section `rag.embedder`.")


def params_of(config: Config) -> SearchEvalParams:
    """This stage's params in a run."""
    from slipway.rag.stored import absolute

    return SearchEvalParams(
        retrievers=config.rag.retrievers,
        context_tokens=config.rag.context_tokens,
        depth=config.rag.depth,
        embedder=absolute(config.rag.embedder),
    )


def key_extra(params: SearchEvalParams) -> dict[str, str]:
    """Files of a model directory."""
    from slipway.rag.stored import embedder_extra

    return embedder_extra(params.embedder)


def search_eval(index: SearchIndex, corpus: Corpus, params: SearchEvalParams, space: Workspace) -> None:
    """Write `items.jsonl`, `metrics.json`, `speed.json` and `summary.json`. Raises StateError for an index that its
    probes do not know, and for another embedder than its own."""
    from slipway.rag.embedder_files import TOKENIZER, embedder_files
    from slipway.rag.search import Searcher, open_index
    from slipway.rag.stored import documents_of, questions_of, write_document, write_lines
    from slipway.rag.tokens import ruler, tokenizer_of

    opened, questions = open_index(index.path), questions_of(corpus)
    embedder, cache = None, space.cache
    if set(params.retrievers) != {"bm25"}:
        from slipway.rag.embedder import open_embedder  # takes torch with it

        embedder = open_embedder(params.embedder, cache)
    tokenizer = embedder.tokenizer if embedder else None
    if tokenizer is None:
        tokenizer = tokenizer_of(embedder_files(params.embedder, cache).required(TOKENIZER))
    searcher = Searcher(opened, embedder)
    same = {one.id for one in documents_of(corpus) if opened.documents.get(one.id) == one.text}
    rulers = {document: ruler(text, tokenizer) for document, text in opened.documents.items()}
    vectors = _question_vectors(questions, embedder, space) if embedder else None
    items, speed = list[dict[str, Any]](), dict[str, Any]()
    for name in params.retrievers:
        rankings = searcher.rank_vectors(
            name, [one.text for one in questions], params.depth, None if name == "bm25" else vectors
        )
        items += _scored(name, questions, searcher, rankings, rulers, params, same)
        speed[name] = _timed(name, questions[:TIMED], searcher, params.depth)
    write_lines(space.out / "items.jsonl", items)
    metrics: dict[str, dict[str, float]] = {
        name: _means([one for one in items if one["retriever"] == name]) for name in params.retrievers
    }
    write_document(space.out / "metrics.json", metrics)
    write_document(space.out / "speed.json", speed)
    write_document(space.out / "summary.json", {f"{name} recall": metrics[name]["recall"] for name in metrics})


def _question_vectors(questions: Sequence[Question], embedder: Embedder, space: Workspace) -> Any:
    from slipway.rag.vector_cache import VectorCache

    cache = VectorCache(space.cache, embedder.facts.digest, "query")
    texts = [one.text for one in questions]
    return cache.vectors(
        texts, embedder.queries, lambda done, of: space.progress.update("embed", done, of, "questions")
    )


def _scored(
    name: str,
    questions: Sequence[Question],
    searcher: Searcher,
    rankings: Sequence[Sequence[tuple[int, float]]],
    rulers: Mapping[str, Ruler],
    params: SearchEvalParams,
    same: Set[str],
) -> list[dict[str, Any]]:
    """`same`: documents that the index holds word for word; an older one may not."""
    from slipway.rag.span_metrics import score

    index = searcher.index
    rows = []
    for question, ranking in zip(questions, rankings, strict=True):
        chunks = [index.chunks[row] for row, _ in ranking]
        about: dict[str, Any] = {"question": question.id, "document": question.document, "half": question.half}
        about |= {"retriever": name, "same_text": all(span.document in same for span in question.spans)}
        rows.append({**about, **score(question, chunks, params.context_tokens, rulers)})
    return rows


def _means(items: Sequence[dict[str, Any]]) -> dict[str, float]:
    from slipway.rag.span_metrics import NAMES

    return {name: statistics.fmean(one[name] for one in items) for name in NAMES}


def _timed(name: Retriever, questions: Sequence[Question], searcher: Searcher, depth: int) -> dict[str, float]:
    """Milliseconds of one search, the question's embedding with it."""
    took = []
    for question in questions:
        start = time.perf_counter()
        searcher.rank(name, question.text, depth)
        took.append(1000 * (time.perf_counter() - start))
    return {"p50_ms": statistics.median(took), "most_ms": max(took), "searches": len(took)}
