"""Retrieval as stage processes: made once, reused, and built into an index that is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.errors import ConfigError, StateError
from slipway.ops.chain.retrieval_calls import winner
from slipway.ops.retrieval import build, compare, current_index, current_retriever, maker
from slipway.pipeline.ensure import Made
from tests.support.rag_stages import Chain, chain

STRATEGIES = {"fixed": {"kind": "fixed", "tokens": 24, "overlap": 4}}


def lexical(folder: Path) -> Chain:
    """A chain with BM25 alone."""
    one = chain(folder, retrievers=["bm25"], strategies=STRATEGIES)
    store = one.config.store.model_copy(update={"root": str(folder / "store"), "cache": str(folder / "cache")})
    return Chain(folder, one.config.model_copy(update={"store": store}))


def test_a_comparison_is_made_once_and_an_index_is_built_of_it(tmp_path: Path) -> None:
    one, reused = lexical(tmp_path), dict[str, bool]()

    def on_stage(title: str, what: Made | dict[str, Any]) -> None:
        if isinstance(what, Made):
            reused[title] = what.reused

    made = maker(one.config, tmp_path, on_stage)
    choice = compare(one.config, made)
    assert reused == dict.fromkeys(["corpus", "chunk fixed", "index fixed", "search_eval fixed", "choose"], False)
    assert winner(choice) == ("fixed", "bm25")
    again = compare(one.config, made)
    assert again.digest == choice.digest and set(reused.values()) == {True}
    with pytest.raises(StateError, match="slipway rag build"):
        current_index(tmp_path / "store")
    built = build(one.config, made, "fixed")
    assert current_index(tmp_path / "store") == built.path.resolve()
    assert current_retriever(tmp_path / "store") == "bm25"
    assert reused["chunk fixed"], "what the comparison made serves the build"
    with pytest.raises(ConfigError, match="one of fixed"):
        build(one.config, made, "other")
