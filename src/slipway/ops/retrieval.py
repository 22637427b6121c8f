"""Retrieval as stages, one after the other: corpus -> chunk x N -> embed x N -> index x N -> search_eval x N -> choose.

`compare` makes all of it, `build` one index; what is there already is reused, stage by stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.errors import ConfigError, StateError
from slipway.pipeline.ensure import Made, ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.stages import choose as choose_stage
from slipway.stages import chunk as chunk_stage
from slipway.stages import corpus as corpus_stage
from slipway.stages import embed as embed_stage
from slipway.stages import index as index_stage
from slipway.stages import search_eval as search_eval_stage
from slipway.store.artifacts import Artifact, Choice, Chunks, Corpus, Retrieval, SearchIndex, Vectors
from slipway.store.store import Store
from slipway.system.files import write_atomic

OnStage = Callable[[str, Made | dict[str, Any]], None]  # a stage's title, and its event or what it made
CURRENT = "current-index"  # file in the store: key of the index that `slipway rag search` opens, and its retriever


@dataclass(frozen=True)
class Maker:
    """Where stages are made, and who is told."""

    store: Store
    cache: Path
    root: Path
    on_stage: OnStage

    def make(self, call: StageCall) -> Artifact:
        """The artifact of a call. Raises what the stage raised."""
        made = ensure(call, self.store, self.cache, LocalRunner(), lambda event: self.on_stage(call.title, event))
        self.on_stage(call.title, made)
        return made.artifact


def maker(config: Config, root: Path, on_stage: OnStage) -> Maker:
    """Stages made in the store of the config."""
    return Maker(Store(Path(config.store.root)), Path(config.store.cache).expanduser(), root, on_stage)


def compare(config: Config, made: Maker) -> Choice:
    """Every strategy with every retriever, and the choice. Raises what the stages raise."""
    corpus = _corpus(config, made, needs_questions=True)
    evaluations = [_evaluated(config, made, corpus, name) for name in config.rag.strategies]
    params = choose_stage.params_of(config, evaluations)
    choice = made.make(StageCall("choose", {"corpus": corpus}, params))
    assert isinstance(choice, Choice)
    return choice


def build(config: Config, made: Maker, strategy: str, retriever: str | None = None) -> SearchIndex:
    """The index of one strategy, which `slipway rag search` opens from then on; no questions are needed. `retriever`:
    the one that searches where none is named; None: `dense` where there are vectors, else `bm25`."""
    if strategy not in config.rag.strategies:
        names = ", ".join(config.rag.strategies)
        raise ConfigError("strategy", strategy, f"one of {names}", "set rag.strategies, or choose one of them")
    index = _index(config, made, _corpus(config, made, needs_questions=False), strategy)[0]
    usual = "dense" if index.summary["embedded_tokens"] else "bm25"
    write_atomic(made.store.root / CURRENT, f"{index.key} {retriever or usual}\n")
    return index


def chosen(choice: Choice) -> tuple[str, str]:
    """Strategy and retriever of a choice's winner."""
    strategy, _, retriever = str(choice.read_json("choice.json")["winner"]).rpartition("/")
    return strategy, retriever


def current_index(store: Path) -> Path:
    """The directory of the index that was built last. Raises StateError where there is none."""
    pointer = store / CURRENT
    if not pointer.is_file():
        raise StateError("index", f"none in {store}", "one that was built", "`slipway rag build`")
    path = store / SearchIndex.kind / (pointer.read_text(encoding="utf-8").split() or [""])[0]
    if not path.is_dir():
        raise StateError("index", f"{path} is gone", "the one that was built last", "`slipway rag build`")
    return path


def current_retriever(store: Path) -> str:
    """The retriever that searches the index that was built last. Raises as `current_index`."""
    current_index(store)
    return (store / CURRENT).read_text(encoding="utf-8").split()[-1]


def _corpus(config: Config, made: Maker, *, needs_questions: bool) -> Corpus:
    params = corpus_stage.params_of(config, made.root, needs_questions=needs_questions)
    corpus = made.make(StageCall("corpus", {}, params))
    assert isinstance(corpus, Corpus)
    return corpus


def _index(config: Config, made: Maker, corpus: Corpus, name: str) -> tuple[SearchIndex, Mapping[str, float]]:
    """The index of a strategy, and what it costs."""
    chunk_params, embed_params = chunk_stage.params_of(config, name), embed_stage.params_of(config)
    extra = chunk_stage.key_extra(chunk_params)
    chunks = made.make(StageCall("chunk", {"corpus": corpus}, chunk_params, f"chunk {name}", extra))
    vectors = None
    if set(config.rag.retrievers) != {"bm25"}:
        inputs = {"corpus": corpus, "chunks": chunks}
        vectors = made.make(
            StageCall("embed", inputs, embed_params, f"embed {name}", embed_stage.key_extra(embed_params))
        )
    parts = {"corpus": corpus, "chunks": chunks, "vectors": vectors}
    index = made.make(StageCall("index", parts, index_stage.params_of(config, name), f"index {name}"))
    assert isinstance(index, SearchIndex) and isinstance(chunks, Chunks) and isinstance(vectors, Vectors | None)
    cutting = chunks.summary["corpus_tokens"] if chunk_params.strategy.kind == "semantic" else 0
    summary = index.summary
    return index, {
        "embedded_tokens": float(cutting + summary["embedded_tokens"]),
        "chunking_tokens": float(cutting),
        "indexed_tokens": float(summary["indexed_tokens"]),
        "chunks": float(summary["chunks"]),
    }


def _evaluated(config: Config, made: Maker, corpus: Corpus, name: str) -> choose_stage.EvaluatedIndex:
    index, costs = _index(config, made, corpus, name)
    params = search_eval_stage.params_of(config)
    call = StageCall(
        "search_eval",
        {"index": index, "corpus": corpus},
        params,
        f"search_eval {name}",
        search_eval_stage.key_extra(params),
    )
    evaluation = made.make(call)
    assert isinstance(evaluation, Retrieval)
    return choose_stage.EvaluatedIndex(
        strategy=name, path=str(evaluation.path.resolve()), digest=evaluation.digest, costs=dict(costs)
    )
