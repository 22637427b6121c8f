"""A LangChain retriever over a sealed index (extra `langchain`).

from slipway.rag.adapters.langchain import langchain_retriever
retriever = langchain_retriever(Path(".slipway/index/3f9c..."), top=5)
retriever.invoke("how do I sort a hash?")   # Documents with document, start, end, score, rank in their metadata
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.rag import EmbedderConfig
from slipway.rag.adapters.question import Asked, asked, name_of, place
from slipway.rag.search import Retriever
from slipway.system.installed import require_extra

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever


def langchain_retriever(
    index: Path,
    *,
    retriever: Retriever | None = None,
    top: int = 5,
    embedder: EmbedderConfig | None = None,
    cache: Path | None = None,
) -> BaseRetriever:
    """A runnable that answers a question with Documents, best first; arguments as of `question.asked`, whose errors it
    raises. Raises ResourceError where langchain-core is not installed."""
    require_extra("langchain", "langchain_core")
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever

    class SlipwayRetriever(BaseRetriever):  # type: ignore[misc]
        """Chunks of one index."""

        asked: Asked

        def _get_relevant_documents(
            self,
            query: str,
            *,
            run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 (LangChain gives it by name)
        ) -> list[Document]:
            results = self.asked.results(query)
            return [Document(id=name_of(one), page_content=one.text, metadata=place(one)) for one in results]

    SlipwayRetriever.model_rebuild(_types_namespace={"Asked": Asked})
    return SlipwayRetriever(asked=asked(index, retriever, top, embedder, cache))
