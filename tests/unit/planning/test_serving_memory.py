"""Memory of serving: the formula on models whose figures are known, sizes read from files, damage named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError
from slipway.planning.kv_cache import UnknownCacheError
from slipway.planning.serving_memory import RESERVE, ServingMemory, inner_size, parameters, serving_memory, stored_bytes

LLAMA_70B = {
    "model_type": "llama",
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def model(folder, config, *files):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for i, tensors in enumerate(files):
        save_file(tensors, folder / f"model-{i}.safetensors", {"format": "pt"})
    return folder


def test_parameters_are_counted_in_the_files(tmp_path):
    bf16, codes = torch.zeros(4, 8, dtype=torch.bfloat16), torch.zeros(4, 8, dtype=torch.uint8)
    folder = model(tmp_path / "m", LLAMA_70B, {"a": bf16, "b": torch.zeros(3)}, {"c": codes})
    assert parameters(folder) == 32 + 3 + 64
    assert stored_bytes(folder) == 2 * 32 + 4 * 3 + 32


def test_the_parts_add_up(tmp_path):
    folder = model(tmp_path / "m", {"text_config": LLAMA_70B}, {"a": torch.zeros(10, 10)})
    need = serving_memory(folder, slots=8, context=1024)
    assert (need.weights, need.kv_cache) == (200.0, 327_680 * 8 * 1024)
    assert need.compute == 512 * (128256 + 4 * (8192 + 28672)) * 4
    assert need.total == pytest.approx(need.weights + need.kv_cache + need.compute + 0.3e9)
    assert serving_memory(folder, slots=8, context=1024, weight_bytes=0.5625).weights == 56.25


def test_an_mlp_is_as_wide_as_what_a_token_passes_through():
    assert inner_size({"hidden_size": 64}) == 256
    mixture = {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 48, "num_experts_per_tok": 8}
    assert (inner_size(mixture), inner_size({**mixture, "num_experts_per_tok": 1})) == (384, 96)


def test_a_model_whose_cache_is_not_known_has_no_figure(tmp_path):
    folder = model(tmp_path / "m", {**LLAMA_70B, "model_type": "novel"}, {"a": torch.zeros(2)})
    with pytest.raises(UnknownCacheError, match="cannot tell: model_type 'novel'"):
        serving_memory(folder, slots=1, context=128)


def test_what_fits_leaves_a_reserve():
    need = ServingMemory(weights=80e9, kv_cache=4e9, compute=0.7e9)
    assert need.total == 85e9 and need.fits(100e9 + 1) and not need.fits(99e9)
    assert RESERVE == 0.15


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda folder: (folder / "config.json").write_text("[1]"), r"config .*config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "no hidden_size"),
        (lambda folder: (folder / "config.json").unlink(), "FileNotFoundError"),
        (lambda folder: (folder / "model-0.safetensors").write_bytes(b"\xff" * 40), "shard .*model-0"),
        (lambda folder: (folder / "model-0.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]"), "shard"),
        (lambda folder: (folder / "model-0.safetensors").unlink(), "no .*safetensors"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, match):
    folder = model(tmp_path / "m", LLAMA_70B, {"a": torch.zeros(2)})
    damage(folder)
    with pytest.raises(CheckpointError, match=match):
        serving_memory(folder, slots=1, context=128)
