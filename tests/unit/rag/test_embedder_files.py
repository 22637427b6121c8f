"""Which files an embedder is, and what it is named by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.config.rag import EmbedderConfig
from slipway.errors import CheckpointError
from slipway.rag.embedder_files import EmbedderFacts, embedder_files, facts_of
from tests.support.pico_embedder import pico_embedder


def facts(params: EmbedderConfig) -> EmbedderFacts:
    return facts_of(params, embedder_files(params, Path("unused")))


def test_everything_that_decides_a_vector_changes_the_digest(tmp_path: Path) -> None:
    base = pico_embedder(tmp_path / "a")
    changes: list[dict[str, Any]] = [
        {"query_prefix": "query: "}, {"passage_prefix": "passage: "}, {"pooling": "cls"}, {"max_length": 20},
    ]  # fmt: skip
    others = [facts(base.model_copy(update=change)).digest for change in changes]
    other_weights = facts(pico_embedder(tmp_path / "b", seed=1)).digest
    assert len({facts(base).digest, other_weights, *others}) == 6
    moved = pico_embedder(tmp_path / "c")
    assert facts(moved).digest == facts(base).digest == facts(base.model_copy(update={"threads": 1})).digest
    assert (facts(base).pooling, facts(base).max_length) == ("mean", 16)


def test_a_model_says_its_pooling_and_its_longest_input(tmp_path: Path) -> None:
    params = pico_embedder(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (tmp_path / "sentence_bert_config.json").unlink()
    assert (facts(params).pooling, facts(params).max_length) == ("cls", 64)
    with pytest.raises(CheckpointError, match=r"max_length: 65; expected at most 64"):
        facts(params.model_copy(update={"max_length": 65}))


def test_files_that_are_no_embedder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"rag\.embedder\.directory"):
        embedder_files(EmbedderConfig(source="directory", directory=str(tmp_path / "no")), tmp_path)
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        facts(EmbedderConfig(source="directory", directory=str(tmp_path)))
    params = pico_embedder(tmp_path / "m")
    (tmp_path / "m/config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json is no JSON object"):
        facts(params)
    (tmp_path / "m/config.json").write_text("{")
    with pytest.raises(CheckpointError, match="a JSON document"):
        facts(params)


def test_a_server_is_named_by_what_it_is_asked_with(tmp_path: Path) -> None:
    params = EmbedderConfig(source="url", url="http://127.0.0.1:1", model="e5", max_length=128)
    nothing = embedder_files(pico_embedder(tmp_path), tmp_path)
    ours = facts_of(params, nothing)
    assert ours.max_length == 128
    assert facts_of(params.model_copy(update={"url": "http://other"}), nothing).digest == ours.digest
    assert facts_of(params.model_copy(update={"model": "e6"}), nothing).digest != ours.digest
