"""An index that was built: searched, verified, described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from slipway.config.load import Config
from slipway.errors import ConfigError, StateError
from slipway.ops.index_pointer import RETRIEVERS
from slipway.ops.retrieval import current_index, current_retriever
from slipway.store.manifest import read_manifest
from slipway.system.json_files import read_json

if TYPE_CHECKING:
    from slipway.rag.embedder import Embedder
    from slipway.rag.index import Index
    from slipway.rag.search import Result, Searcher


InStore: TypeAlias = "Callable[[Index, Path], Index]"  # an index and its directory, to one that a store answers


def search(
    config: Config, question: str, retriever: str | None, count: int, in_store: InStore | None = None
) -> list[Result]:
    """The best chunks of the index that was built last; by the retriever that was chosen with it where none is named.
    Raises StateError for a changed index or another embedder."""
    root = Path(config.store.root)
    retriever = retriever or current_retriever(root)
    return _search(config, current_index(root), question, retriever, count, config.rag.depth, in_store)


def search_served(config: Config, question: str, retriever: str | None, count: int) -> list[Result]:
    """The best chunks of the index that the serving release of `deploy.target` carries, searched as it was evaluated
    where no retriever is named. Raises StateError where nothing serves or it carries none, where the index lies on the
    target only, for a changed index and for another embedder."""
    from slipway.deployment.state import champion  # targets: an index that was built needs none

    release = champion(config.deploy)
    index = release.index(Path(config.store.root)) if release else None
    if release is None or release.retrieval is None or index is None:
        value = f"{release.name}, which serves, carries none" if release else "nothing serves there"
        next_step = "a run with rag.arm promotes one; without --on the index that was built last is searched"
        raise StateError(f"index of target {config.deploy.target}", value, "a release with an index", next_step)
    how = release.retrieval
    return _search(config, index.path, question, retriever or how.retriever, count, how.depth)


def _search(
    config: Config,
    path: Path,
    question: str,
    retriever: str,
    count: int,
    depth: int,
    in_store: InStore | None = None,
) -> list[Result]:
    searcher = open_searcher(config, path, retriever, in_store)
    return searcher.search(retriever, question, count, depth)  # type: ignore[arg-type]


def open_searcher(config: Config, path: Path, retriever: str, in_store: InStore | None = None) -> Searcher:
    """An index that is open for a retriever, with the config's embedder where it needs one. Raises ConfigError for a
    retriever that there is not, StateError for a changed index or another embedder."""
    from slipway.rag.search import Searcher, open_index

    if retriever not in RETRIEVERS:
        raise ConfigError("--retriever", retriever, f"one of {', '.join(RETRIEVERS)}", "choose one of them")
    index = open_index(path)
    if in_store is not None:
        index = in_store(index, path)
    return Searcher(index, None if retriever == "bm25" else open_configured_embedder(config))


def verified(path: Path, config: Config) -> dict[str, Any]:
    """What an index is, after digests, probes and embedder were checked. Raises StateError for what differs."""
    from slipway.rag.search import check_embedder, open_index

    index = open_index(path)
    if index.vectors is not None:
        check_embedder(index, open_configured_embedder(config))
    checks = f"digests, {len(index.about['probes'])} probes"
    return {**_described(path, index), "verified": f"{checks}, embedder" if index.vectors is not None else checks}


def status(config: Config) -> dict[str, Any]:
    """The index that was built last, as its files say; nothing is searched."""
    path = current_index(Path(config.store.root))
    about = read_json(path / "index.json", "index", "`slipway rag build`")
    return {**_about(path, about), "path": str(path)}


def _described(path: Path, index: Index) -> dict[str, Any]:
    return {**_about(path, dict(index.about)), "documents": len(index.documents), "path": str(path)}


def _about(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    embedder = about.get("embedder")
    return {
        "strategy": about["name"],
        "chunks": about["rows"],
        "embedder": f"{embedder['name']}, digest {embedder['digest'][:16]}" if embedder else "none: BM25 alone",
        "dimension": embedder["dimension"] if embedder else 0,
        "corpus": about["corpus"],
        "digest": read_manifest(path)["digest"],
    }


def open_configured_embedder(config: Config) -> Embedder:
    """The embedder of the config. Raises as `embedder.open_embedder`."""
    from slipway.rag.embedder import open_embedder

    return open_embedder(config.rag.embedder, Path(config.store.cache))
