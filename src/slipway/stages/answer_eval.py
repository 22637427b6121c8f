"""Stage `answer_eval`: the served model answers questions with what retrieval finds, beside the same questions asked
without their documents, and, where wanted, without any passage and with the gold.

The questions are of the half that chose nothing. The engine is started as `evaluate` starts it, after everything is
searched: embedder and engine are never in memory together. An evaluation that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from slipway.config.rag import AnswersConfig, EmbedderConfig
from slipway.engines.chat_client import ChatClient
from slipway.engines.serving import CARRIERS
from slipway.engines.stage_serving import ServingParams, bundle_server, serving_keys
from slipway.errors import DataError
from slipway.pipeline.workspace import Workspace
from slipway.rag.answer_metrics import Asked, summarize
from slipway.rag.answer_run import AnswerRun, run_answers
from slipway.store.artifacts import Corpus, Engine, Evaluation, SearchIndex
from slipway.system.files import write_atomic

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.rag.answer_contexts import Arm, Context
    from slipway.rag.search import Retriever

OUTPUT = Evaluation
CODE_WITHOUT = CARRIERS
PARTIAL = "answers.partial.jsonl"


class AnswerEvalParams(ServingParams, AnswersConfig):
    """What the stage needs: the config's section, the retriever with its embedder, and how the engine is served."""

    retriever: Literal["bm25", "dense", "hybrid"] = Field(description="The arm's retriever.")
    depth: int = Field(description="rag.depth.")
    embedder: EmbedderConfig = Field(description="Section `rag.embedder`.")
    timeout_s: float = Field(120, gt=0, description="evaluate.timeout_s.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="evaluate.confidence.")


def params_of(config: Config, retriever: Retriever) -> AnswerEvalParams:
    """This stage's params in a run, for an arm's retriever."""
    from slipway.rag.stored import absolute

    section = config.rag.answers or AnswersConfig()
    return AnswerEvalParams(
        **section.model_dump(),
        retriever=retriever,
        depth=config.rag.depth,
        embedder=absolute(config.rag.embedder),
        timeout_s=config.evaluate.timeout_s,
        confidence=config.evaluate.confidence,
        **serving_keys(config),
    )


def key_extra(params: AnswerEvalParams) -> dict[str, str]:
    """Files of a model directory."""
    from slipway.rag.stored import embedder_extra

    return embedder_extra(params.embedder)


def answer_eval(engine: Engine, index: SearchIndex, corpus: Corpus, params: AnswerEvalParams, space: Workspace) -> None:
    """Write `items.jsonl` (a line a question, with the answer of each arm), `metrics.json` and `summary.json`.

    Raises DataError for a corpus without questions that report, StateError for a changed index or another embedder,
    EngineError when the engine dies, does not answer or has too little context.
    """
    asked = _asked(index, corpus, params, space)
    with (
        bundle_server(engine.path, params, space) as endpoint,
        ChatClient(endpoint.url, endpoint.model, params.timeout_s) as client,
    ):
        run = AnswerRun(client, params, endpoint.plan.limits.slots, space.work / PARTIAL, space.progress)
        items = run_answers(run, asked)
    metrics = summarize(items, params.confidence)
    # as ASCII: a model may write half a surrogate pair
    write_atomic(space.out / "items.jsonl", "".join(json.dumps(item) + "\n" for item in items))
    write_atomic(space.out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    figures = {m["name"]: round(m["value"], 4) for m in metrics["metrics"] if m["value"] is not None}
    write_atomic(space.out / "summary.json", json.dumps({"questions": len(items), **figures}, indent=1) + "\n")


def _asked(
    index: SearchIndex, corpus: Corpus, params: AnswerEvalParams, space: Workspace
) -> list[tuple[Asked, dict[Arm, Context]]]:
    """The questions with the contexts of their arms, searched before anything is served."""
    from slipway.rag.answer_contexts import contexts, picked
    from slipway.rag.embedder_files import TOKENIZER, embedder_files
    from slipway.rag.search import Searcher, open_index
    from slipway.rag.stored import questions_of
    from slipway.rag.tokens import ruler, tokenizer_of

    questions = picked(questions_of(corpus), params.items)
    if not questions:
        raise DataError(
            f"corpus {corpus.digest[:12]}", "no question that reports", "two or more questions", "set rag.questions"
        )
    opened, embedder = open_index(index.path), None
    if params.retriever != "bm25":
        from slipway.rag.embedder import open_embedder  # takes torch with it

        embedder = open_embedder(params.embedder, space.cache)
    tokenizer = (
        embedder.tokenizer
        if embedder
        else tokenizer_of(embedder_files(params.embedder, space.cache).required(TOKENIZER))
    )
    rulers = {name: ruler(text, tokenizer) for name, text in opened.documents.items()}
    searcher, asked = Searcher(opened, embedder), []
    for question in questions:
        ranking = [opened.chunks[row] for row, _ in searcher.rank(params.retriever, question.text, params.depth)]
        given = contexts(question, ranking, params.arms, params.context_tokens, opened.documents, rulers)
        spans = question.spans
        reference = "\n".join(opened.documents[span.document][span.start : span.end] for span in spans)
        documents = frozenset(span.document for span in spans)
        asked.append((Asked(question.id, question.text, reference, documents), given))
    space.progress.note(f"{len(asked)} questions searched by {params.retriever}")
    return asked
