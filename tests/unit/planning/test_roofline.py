"""The roof against hand-made checkpoints whose bytes are counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError, ConfigError
from slipway.planning.roofline import figures, read_weights, roof

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 32,
}


def model(path: Path, tensors: dict[str, int], **config: Any) -> Path:
    """A directory with bf16 tensors of that many values."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file({name: torch.zeros(n, dtype=torch.bfloat16) for name, n in tensors.items()}, path / "model.safetensors")
    return path


def test_a_dense_model_reads_its_weights_and_the_keys_of_every_user(tmp_path: Path) -> None:
    path = model(tmp_path / "m", {"model.layers.0.a.weight": 1000, "model.embed_tokens.weight": 256})
    above = roof(path, 1.0, users=3, context=10)
    assert above.weights == 2 * 1256  # the embedding is the head
    assert above.kv_cache == 3 * 10 * (2 * 2 * 1 * 4) * 2  # layers x (keys, values) x heads x width, fp16
    assert above.tokens_per_s == pytest.approx(3e9 / (2512 + 960))
    assert roof(path, 1.0, 3, 10, gpus=2).tokens_per_s == pytest.approx(2 * above.tokens_per_s)


def test_an_embedding_that_is_only_looked_up_is_not_read(tmp_path: Path) -> None:
    tensors = {"lm_head.weight": 256, "model.embed_tokens.weight": 256}
    assert read_weights(model(tmp_path / "m", tensors), {"tie_word_embeddings": False}, 1) == 512


@pytest.mark.parametrize(("users", "share"), [(1, 0.25), (2, 1 - 0.75**2), (64, 1.0)])
def test_experts_are_read_as_far_as_tokens_touch_them(tmp_path: Path, users: int, share: float) -> None:
    tensors = {"model.layers.0.mlp.experts.0.up.weight": 8000, "model.layers.0.mlp.gate.weight": 50}
    config = {"num_experts": 8, "num_experts_per_tok": 2}
    path = model(tmp_path / "m", tensors, **config)
    assert roof(path, 1.0, users, 10).weights == pytest.approx(100 + 16000 * share, rel=1e-6)


def test_experts_without_their_number_are_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "m", {"model.layers.0.mlp.experts.0.up.weight": 8})
    with pytest.raises(CheckpointError, match="experts"):
        roof(path, 1.0, 1, 10)


def test_a_run_has_its_share_of_the_roof(tmp_path: Path) -> None:
    above = roof(model(tmp_path / "m", {"a.weight": 1000}), 1.0, 1, 10)
    assert figures({"tokens_per_s": above.tokens_per_s / 4}, above)["of_roof"] == 0.25


@pytest.mark.parametrize("bad", [(0.0, 1, 10), (1.0, 0, 10), (1.0, 1, 0), (float("nan"), 1, 1)])
def test_figures_of_zero_are_refused(tmp_path: Path, bad: tuple[float, int, int]) -> None:
    with pytest.raises(ConfigError):
        roof(model(tmp_path / "m", {"a.weight": 8}), *bad)
