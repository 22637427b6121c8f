"""The stages of retrieval in this process, over the small corpus and the pico embedder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config, parse
from slipway.pipeline.stage import stage_spec
from slipway.pipeline.workspace import Workspace
from slipway.stages import choose, chunk, corpus, embed, index, search_eval
from slipway.store.artifacts import Artifact
from slipway.store.key import key_document, key_of
from slipway.store.store import Store
from slipway.system.progress import Progress
from tests.support import faq
from tests.support.pico_embedder import pico_embedder


@dataclass
class Chain:
    """A config with its folder; `make` runs a stage and seals what it wrote."""

    folder: Path
    config: Config

    def make(self, name: str, params: Any, **inputs: Artifact | None) -> Any:
        """What the stage `name` makes."""
        spec, store = stage_spec(name), Store(self.folder / "store")
        key = key_of(key_document(name, inputs, params, {}, "code"))
        if intact := store.find(spec.output, key):
            return intact
        with store.create(spec.output, key, {}) as out:
            spec.function(**inputs, params=params, space=Workspace(out, out, self.folder / "cache", Progress()))
        return store.find(spec.output, key)

    def corpus(self) -> Any:
        """The corpus."""
        return self.make("corpus", corpus.params_of(self.config, self.folder))

    def chunks(self, strategy: str = "fixed") -> Any:
        """Its chunks."""
        return self.make("chunk", chunk.params_of(self.config, strategy), corpus=self.corpus())

    def vectors(self, strategy: str = "fixed") -> Any:
        """Their vectors."""
        return self.make("embed", embed.params_of(self.config), corpus=self.corpus(), chunks=self.chunks(strategy))

    def index(self, strategy: str = "fixed", *, vectors: bool = True) -> Any:
        """The index over them."""
        inputs = {"corpus": self.corpus(), "chunks": self.chunks(strategy)}
        made = self.vectors(strategy) if vectors else None
        return self.make("index", index.params_of(self.config, strategy), **inputs, vectors=made)

    def evaluated(self, strategy: str = "fixed") -> Any:
        """Its evaluation."""
        return self.make(
            "search_eval", search_eval.params_of(self.config), index=self.index(strategy), corpus=self.corpus()
        )

    def choice(self, *strategies: str) -> Any:
        """The choice among these strategies."""
        rows = [
            choose.EvaluatedIndex(
                strategy=name,
                path=str(made.path),
                digest=made.digest,
                costs={"embedded_tokens": 9, "chunking_tokens": 0, "indexed_tokens": 9, "chunks": 9},
            )
            for name in strategies
            for made in [self.evaluated(name)]
        ]
        return self.make("choose", choose.params_of(self.config, rows), corpus=self.corpus())


def chain(folder: Path, documents: int = 4, **rag: Any) -> Chain:
    """A chain in `folder` over a corpus of that many documents."""
    faq.write_corpus(folder / "data", documents)
    embedder = pico_embedder(folder / "model").model_dump(mode="json")
    strategies = {
        "fixed": {"kind": "fixed", "tokens": 24, "overlap": 4},
        "semantic": {"kind": "semantic", "percentile": 60, "max_tokens": 40},
        "window": {"kind": "sentence-window", "sentences": 1, "around": 1},
    }
    values = {"corpus": "data", "embedder": embedder, "strategies": strategies, "context_tokens": 64, **rag}
    values.setdefault("choose", {"resamples": 200})
    return Chain(folder, parse({"rag": values}, "a test"))
