"""Retrieval as stages, one after the other: corpus -> chunk x N -> embed x N -> index x N -> search_eval x N -> choose.

`compare` makes all of it, `build` one index; what is there already is reused, stage by stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.errors import ConfigError, StateError
from slipway.ops.chain import retrieval_calls as calls
from slipway.ops.index_pointer import BUILD, pointer
from slipway.pipeline.ensure import Made, ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import Artifact, Choice, Chunks, Corpus, Retrieval, SearchIndex, Vectors
from slipway.store.store import Store
from slipway.store.usage import INDEX_POINTER, in_use
from slipway.system.files import write_atomic

OnStage = Callable[[str, Made | dict[str, Any]], None]  # a stage's title, and its event or what it made


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
    evaluated = {name: _evaluated(config, made, corpus, name) for name in config.rag.strategies}
    choice = made.make(calls.choose(config, corpus, evaluated))
    assert isinstance(choice, Choice)
    return choice


def build(config: Config, made: Maker, strategy: str, retriever: str | None = None) -> SearchIndex:
    """The index of one strategy, which `slipway rag search` opens from then on; no questions are needed. `retriever`:
    the one that searches where none is named; None: `dense` where there are vectors, else `bm25`."""
    if strategy not in config.rag.strategies:
        names = ", ".join(config.rag.strategies)
        raise ConfigError("strategy", strategy, f"one of {names}", "set rag.strategies, or choose one of them")
    with in_use(made.store.root):  # `slipway gc` waits until the pointer names what was made
        index = _index(config, made, _corpus(config, made, needs_questions=False), strategy)[1]
        usual = "dense" if index.summary["embedded_tokens"] else "bm25"
        write_atomic(made.store.root / INDEX_POINTER, f"{index.key} {retriever or usual}\n")
    return index


def current_index(store: Path) -> Path:
    """The directory of the index that was built last. Raises StateError where there is none."""
    pointed = pointer(store)
    if pointed is None:
        raise StateError("index", f"none in {store}", "one that was built", BUILD)
    path = store / SearchIndex.kind / pointed[0]
    if not path.is_dir():
        raise StateError("index", f"{path} is gone", "the one that was built last", BUILD)
    return path


def current_retriever(store: Path) -> str:
    """The retriever that searches the index that was built last. Raises as `current_index`."""
    current_index(store)
    return (pointer(store) or ("", ""))[1]


def _corpus(config: Config, made: Maker, *, needs_questions: bool) -> Corpus:
    corpus = made.make(calls.corpus(config, made.root, needs_questions=needs_questions))
    assert isinstance(corpus, Corpus)
    return corpus


def _index(config: Config, made: Maker, corpus: Corpus, name: str) -> tuple[Chunks, SearchIndex]:
    """Chunks and index of a strategy."""
    chunks = made.make(calls.chunk(config, name, corpus))
    assert isinstance(chunks, Chunks)
    vectors = made.make(calls.embed(config, name, corpus, chunks)) if calls.with_vectors(config) else None
    assert isinstance(vectors, Vectors | None)
    index = made.make(calls.index(config, name, corpus, chunks, vectors))
    assert isinstance(index, SearchIndex)
    return chunks, index


def _evaluated(config: Config, made: Maker, corpus: Corpus, name: str) -> tuple[Chunks, SearchIndex, Retrieval]:
    chunks, index = _index(config, made, corpus, name)
    evaluation = made.make(calls.search_eval(config, name, index, corpus))
    assert isinstance(evaluation, Retrieval)
    return chunks, index, evaluation
