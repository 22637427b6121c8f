"""A LlamaIndex retriever over a sealed index (extra `llama-index`).

    from slipway.rag.adapters.llama_index import llama_index_retriever
    retriever = llama_index_retriever(Path(".slipway/index/3f9c..."), top=5)
    retriever.retrieve("how do I sort a hash?")   # nodes with their scores; place and rank in the metadata

The metadata are left out of what a model or an embedder is given: the text of a chunk is what was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.rag import EmbedderConfig
from slipway.rag.adapters.question import asked, name_of, place
from slipway.rag.search import Result, Retriever
from slipway.system.installed import require_extra

if TYPE_CHECKING:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle


def llama_index_retriever(
    index: Path,
    *,
    retriever: Retriever | None = None,
    top: int = 5,
    embedder: EmbedderConfig | None = None,
    cache: Path | None = None,
) -> BaseRetriever:
    """What answers a question with nodes and their scores, best first; arguments as of `question.asked`, whose errors
    it raises. Raises ResourceError where llama-index-core is not installed."""
    require_extra("llama-index", "llama_index")
    from llama_index.core.retrievers import BaseRetriever

    question = asked(index, retriever, top, embedder, cache)

    class SlipwayRetriever(BaseRetriever):  # type: ignore[misc]
        """Chunks of one index."""

        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return [_node(one) for one in question.results(query_bundle.query_str)]

    return SlipwayRetriever()


def _node(result: Result) -> NodeWithScore:
    from llama_index.core.schema import NodeWithScore, TextNode

    about = place(result)
    node = TextNode(
        id_=name_of(result),
        text=result.text,
        metadata=about,
        excluded_llm_metadata_keys=list(about),
        excluded_embed_metadata_keys=list(about),
    )
    return NodeWithScore(node=node, score=result.score)
