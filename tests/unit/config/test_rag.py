"""Section `rag`: strategies by their kind, embedders that are whole, and what decides a vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slipway.config.load import load_config
from slipway.config.rag import EmbedderConfig, FixedStrategy, RagConfig, WindowStrategy
from slipway.errors import ConfigError

CONF = Path(__file__).resolve().parents[3] / "conf"


def test_strategies_are_told_by_their_kind() -> None:
    config = RagConfig.model_validate({"strategies": {"w": {"kind": "sentence-window", "sentences": 1}}})
    assert config.strategies == {"w": WindowStrategy(sentences=1)}
    assert {one.kind for one in RagConfig().strategies.values()} == {
        "fixed",
        "recursive",
        "semantic",
        "sentence-window",
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"strategies": {}}, "at least 1"),
        ({"strategies": {"x": {"kind": "magic"}}}, "magic"),
        ({"strategies": {"x": {"kind": "fixed", "tokens": 32, "overlap": 32}}}, "smaller than a chunk"),
        ({"strategies": {"x": {"kind": "recursive", "overlap": 3}}}, "overlap"),
        ({"retrievers": ["bm25", "bm25"]}, "names one twice"),
        ({"retrievers": []}, "at least 1"),
        ({"embedder": {"source": "directory"}}, "needs `directory`"),
        ({"embedder": {"source": "url", "url": "http://x"}}, "needs `url` and `model`"),
        ({"choose": {"prefer": ["beauty"]}}, "embedded_tokens"),
        ({"answers": {"prompt": "{question}"}}, r"prompt holds no \{passages\}"),
        ({"answers": {"refusal": "..."}}, "must hold a word"),
        ({"answers": {"arms": ["closed"]}}, "must hold `retrieved`"),
        ({"answers": {"arms": ["retrieved", "retrieved"]}}, "each once"),
        ({"answers": {"items": 0}}, "greater than or equal to 1"),
        ({"arm": "window"}, r"arm is 'window'; it must be choose, or one of fixed-256, .*/bm25, /dense, /hybrid"),
        ({"arm": "windows/dense"}, "arm is 'windows/dense'"),
        ({"arm": "window/sparse"}, "arm is 'window/sparse'"),
        ({"arm": "window/dense/"}, "arm is"),
        ({"arm": ""}, "arm is ''"),
        ({"arm": "window/dense", "strategies": {"own": {"kind": "fixed"}}}, "one of own with"),
    ],
)
def test_what_does_not_hold_together_is_refused(values: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RagConfig.model_validate(values)


def test_a_key_holds_what_decides_a_vector_and_not_where_it_is_made() -> None:
    package = EmbedderConfig()
    assert package.key_document() == EmbedderConfig(threads=3).key_document()
    assert package.key_document() != EmbedderConfig(query_prefix="q: ").key_document()
    here, there = (EmbedderConfig(source="directory", directory=name) for name in "ab")
    assert here.key_document() == there.key_document()
    assert "package" not in here.key_document()
    served = [EmbedderConfig(source="url", url=f"http://{name}", model="m") for name in "ab"]
    assert served[0].key_document() == served[1].key_document()
    assert FixedStrategy().key_document() == {"kind": "fixed", "tokens": 256, "overlap": 32}


def test_an_arm_is_one_strategy_and_one_retriever_and_choose_is_all() -> None:
    everything = RagConfig()
    assert everything.of_arm == everything
    assert RagConfig(arm="choose").of_arm.strategies == everything.strategies
    one = RagConfig.model_validate(
        {"arm": "a/b/dense", "strategies": {"a/b": {"kind": "fixed"}, "c": {"kind": "fixed"}}}
    )
    assert (list(one.of_arm.strategies), one.of_arm.retrievers) == (["a/b"], ["dense"])
    hybrid = RagConfig(arm="window/hybrid", retrievers=["bm25"]).of_arm
    assert hybrid.retrievers == ["hybrid"], "an arm need not be among what is compared"


def test_the_shipped_layer_names_its_arm_and_a_gate_with_a_floor_on_it() -> None:
    config = load_config(CONF, ["layers.rag=rag/embedded"])
    assert config.rag.arm == "window/dense"
    assert config.gate.floors["rag_recall"] == 0.74
    assert load_config(CONF).rag.arm is None
    both = ["layers.rag=rag/embedded", "layers.agent=agent/home"]
    with pytest.raises(ConfigError, match=r"layers\.gate="):
        load_config(CONF, both)
    floors = load_config(CONF, [*both, "layers.gate=gates/embedded-app"]).gate.floors
    assert {"rag_recall", "agent_success", "json_exact"} <= set(floors)
