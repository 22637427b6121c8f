"""The index that a candidate's is compared with: that of the release which it would replace, searched as that is.

Its evaluation asks today's questions of it, within today's budget. Its embedder is the one of its own evaluation, where
the store has that, else the config's; an embedder that did not make the index is refused when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slipway.config.load import Config
from slipway.config.rag import EmbedderConfig
from slipway.deployment import state
from slipway.deployment.releases import Carried
from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Engine, Retrieval, SearchIndex
from slipway.store.manifest import read_manifest


@dataclass(frozen=True)
class IndexRival:
    """The champion's index, how its release searches it, and what embeds its questions."""

    index: SearchIndex
    carried: Carried
    embedder: EmbedderConfig


def index_rival(config: Config, candidate: Engine, index: str, retriever: str) -> IndexRival | None:
    """What an index with digest `index`, searched by `retriever` and promoted with `candidate`, is compared with. None
    before a target is chosen, where nothing of the line serves, where that carries no index, and where it is this very
    one. Raises what the target raises, and StateError where the champion's index can be read nowhere."""
    if config.deploy.target == "auto":
        return None
    release = state.index_rival(candidate, index, config.line, config.deploy)
    carried = release.retrieval if release else None
    if release is None or carried is None or (carried.index, carried.retriever) == (index, retriever):
        return None
    served = release.index(Path(config.store.root))
    assert served is not None  # as `carried` says
    return IndexRival(served, carried, _embedder_of(carried.index, Path(config.store.root)) or config.rag.embedder)


def _embedder_of(index: str, store: Path) -> EmbedderConfig | None:
    """The embedder of an evaluation of this index; None where the store holds none that can be read."""
    for manifest in sorted((store / Retrieval.kind).glob(f"*/{MANIFEST}")):
        try:
            provenance = read_manifest(manifest.parent)["provenance"]
            if provenance.get("inputs", {}).get("index", {}).get("digest") == index:
                return EmbedderConfig.model_validate(provenance.get("params", {}).get("embedder"))
        except (StateError, ValidationError):
            continue  # damaged, or of another version
    return None
