"""What both adapters do: open an index with the embedder that made it, and ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.config.rag import EmbedderConfig
from slipway.config.store import StoreConfig
from slipway.errors import DataError
from slipway.rag.search import Result, Retriever, Searcher, open_index


@dataclass(frozen=True)
class Asked:
    """An opened index, and how it is asked."""

    searcher: Searcher
    retriever: Retriever
    top: int

    def results(self, question: str) -> list[Result]:
        """The best `top` chunks, best first. Raises DataError for a question without text."""
        if not isinstance(question, str) or not question.strip():
            raise DataError("question", repr(question), "text", "ask something")
        return self.searcher.search(self.retriever, question, self.top, max(self.top, 100))


def asked(
    index: Path, retriever: Retriever | None, top: int, embedder: EmbedderConfig | None, cache: Path | None
) -> Asked:
    """The index in a sealed directory, checked as every opening checks it. `retriever` None: `dense` where there are
    vectors, else `bm25`; `embedder` None: that of the default config. Raises StateError for an index that changed and
    for another embedder than its own, DataError for `top` below 1."""
    if top < 1:
        raise DataError("top", top, "1 or more", "ask for at least one chunk")
    opened = open_index(index)
    way = retriever or ("bm25" if opened.vectors is None else "dense")
    if way not in ("bm25", "dense", "hybrid"):
        raise DataError("retriever", repr(way), "bm25, dense or hybrid", "choose one of them")
    if way == "bm25":
        return Asked(Searcher(opened), way, top)
    from slipway.rag.embedder import open_embedder  # takes torch with it

    model = open_embedder(embedder or EmbedderConfig(), cache or Path(StoreConfig().cache).expanduser())
    return Asked(Searcher(opened, model), way, top)


def place(result: Result) -> dict[str, str | int | float]:
    """Where a chunk is from and how it ranked: JSON values, as both frameworks want them."""
    names = ("document", "start", "end", "tokens", "score", "rank")
    return {name: getattr(result, name) for name in names}


def name_of(result: Result) -> str:
    """A name of a chunk that is the same in every search of the index."""
    return f"{result.document}:{result.start}-{result.end}"
