"""An index opened for an adapter: the way it is asked, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.errors import ConfigError, DataError, StateError
from slipway.rag.adapters.question import asked, name_of, place
from slipway.rag.search import Searcher, open_index
from tests.support import faq
from tests.support.pico_embedder import pico_embedder


def test_the_way_is_what_the_index_has(tmp_path: Path) -> None:
    params = pico_embedder(tmp_path / "model")
    path = faq.built_index(tmp_path / "index", params, cache=tmp_path)
    words = faq.built_index(tmp_path / "words", None, cache=tmp_path)
    dense = asked(path, None, 3, params, tmp_path)
    assert (dense.retriever, asked(words, None, 3, None, None).retriever) == ("dense", "bm25")
    ours = Searcher(open_index(path), dense.searcher._embedder).search("dense", "perl is slow", 3)
    assert dense.results("perl is slow") == ours and len(ours) == 3
    assert name_of(ours[0]) == f"{ours[0].document}:{ours[0].start}-{ours[0].end}"
    assert place(ours[0])["rank"] == 1 and "text" not in place(ours[0])


def test_what_cannot_be_asked_is_named(tmp_path: Path) -> None:
    words = faq.built_index(tmp_path / "words", None, cache=tmp_path)
    other = pico_embedder(tmp_path / "model")
    for arguments, kind, text in (
        ((words, None, 0), DataError, "top: 0"),
        ((words, "magic", 3), DataError, "retriever: 'magic'"),
        ((words, "dense", 3), (ConfigError, StateError), "BM25 alone"),
        ((tmp_path / "no", None, 3), StateError, "no"),
    ):
        ways: Any = arguments
        with pytest.raises(kind, match=text):
            asked(*ways, other, tmp_path)
    for question in ("", " \n", None):
        with pytest.raises(DataError, match="question: "):
            asked(words, None, 3, None, None).results(question)  # type: ignore[arg-type]
