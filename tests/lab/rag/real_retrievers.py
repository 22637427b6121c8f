"""Run by test_stores.py with the packages of infra/lab/rag: LangChain and LlamaIndex ask a sealed index."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import DataError, StateError
from slipway.rag.adapters.langchain import langchain_retriever
from slipway.rag.adapters.llama_index import llama_index_retriever
from slipway.rag.embedder import open_embedder
from slipway.rag.search import Searcher, open_index
from slipway.store.usage import INDEX_POINTER
from tests.support import faq
from tests.support.pico_embedder import pico_embedder

ROOT = Path(__file__).parents[3]
QUESTION = "what is word2hash?"
Made = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An index, and the arguments that open it."""
    folder = tmp_path_factory.mktemp("index")
    params = pico_embedder(folder / "model")
    return faq.built_index(folder / "index", params, cache=folder), {"embedder": params, "cache": folder}


@pytest.mark.parametrize("way", ["bm25", "dense", "hybrid"])
def test_both_answer_as_the_index_does(made: Made, way: Any) -> None:
    path, opening = made
    searcher = Searcher(open_index(path), open_embedder(opening["embedder"], opening["cache"]))
    ours = searcher.search(way, QUESTION, 4)
    documents = langchain_retriever(path, retriever=way, top=4, **opening).invoke(QUESTION)
    nodes = llama_index_retriever(path, retriever=way, top=4, **opening).retrieve(QUESTION)
    expected = [(one.text, one.document, one.start, one.end, one.rank, one.score) for one in ours]
    keys = ("document", "start", "end", "rank", "score")
    assert len(ours) == (1 if way == "bm25" else 4)  # one chunk holds the word
    assert [(one.page_content, *(one.metadata[key] for key in keys)) for one in documents] == expected
    assert [(one.node.text, *(one.node.metadata[key] for key in keys)) for one in nodes] == expected
    assert [one.score for one in nodes] == [one.score for one in ours]
    assert [one.id for one in documents] == [one.node.node_id for one in nodes]


def test_they_stand_in_what_the_frameworks_build(made: Made) -> None:
    """A chain of LangChain, its batches and its async call; what LlamaIndex hands to a model is the chunk's text."""
    from langchain_core.runnables import RunnableLambda
    from llama_index.core.schema import MetadataMode

    path, opening = made
    chain = langchain_retriever(path, top=2, **opening) | RunnableLambda(
        lambda docs: [one.page_content for one in docs]
    )
    assert (
        chain.batch([QUESTION, QUESTION]) == [chain.invoke(QUESTION)] * 2 == [asyncio.run(chain.ainvoke(QUESTION))] * 2
    )
    retriever = llama_index_retriever(path, top=2, **opening)
    nodes = retriever.retrieve(QUESTION)
    assert [one.node.get_content(MetadataMode.LLM) for one in nodes] == [one.node.text for one in nodes]
    later = asyncio.run(retriever.aretrieve(QUESTION))
    assert [one.node.node_id for one in later] == [one.node.node_id for one in nodes]


def test_the_code_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/rag.md").read_text(), re.DOTALL)[1]
    faq.built_index(tmp_path / ".slipway/index/k", None, cache=tmp_path)
    (tmp_path / ".slipway" / INDEX_POINTER).write_text("k bm25\n")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["documents"] and len(names["documents"]) == len(names["nodes"]) == 5
    assert names["documents"][0].page_content == names["nodes"][0].node.text


@pytest.mark.parametrize("adapter", [langchain_retriever, llama_index_retriever])
def test_an_index_that_changed_and_another_embedder_are_refused(adapter: Any, tmp_path: Path) -> None:
    params, other = pico_embedder(tmp_path / "model"), pico_embedder(tmp_path / "other", seed=5)
    path = faq.built_index(tmp_path / "index", params, cache=tmp_path)
    with pytest.raises(StateError, match="that made its vectors"):
        adapter(path, embedder=other, cache=tmp_path)
    with pytest.raises(DataError, match="question: ' '"):
        ask = adapter(path, embedder=params, cache=tmp_path)
        (getattr(ask, "retrieve", None) or ask.invoke)(" ")
    file = path / "chunks.jsonl"
    file.write_text(file.read_text().replace("d1", "d2", 1))
    with pytest.raises(StateError, match=r"chunks.jsonl has"):
        adapter(path, embedder=params, cache=tmp_path)
