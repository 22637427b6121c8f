"""Memory of serving: the formula on models whose figures are known, sizes read from files, damage named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError
from slipway.planning.serving_memory import RESERVE, ServingMemory, kv_values, parameters, serving_memory

LLAMA_70B = {
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


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (LLAMA_70B, 2 * 80 * 8 * 128),  # 327,680 bytes a token in fp16: llama.cpp prints 320 KiB for Llama 3 70B
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 2 * 12 * 768),  # GPT-2
        ({"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 61 * 576),  # DeepSeek-V3
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": None, "hidden_size": 64}, 256),
        ({"num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128}, 49152),
    ],
)
def test_values_of_the_kv_cache(config, values):
    assert kv_values(config) == values


def test_parameters_are_counted_in_the_files(tmp_path):
    bf16, codes = torch.zeros(4, 8, dtype=torch.bfloat16), torch.zeros(4, 8, dtype=torch.uint8)
    folder = model(tmp_path / "m", LLAMA_70B, {"a": bf16, "b": torch.zeros(3)}, {"c": codes})
    assert parameters(folder) == 32 + 3 + 64


def test_the_parts_add_up(tmp_path):
    folder = model(tmp_path / "m", {"text_config": LLAMA_70B}, {"a": torch.zeros(10, 10)})
    need = serving_memory(folder, slots=8, context=1024)
    assert (need.weights, need.kv_cache) == (200.0, 327_680 * 8 * 1024)
    assert need.compute == 512 * (128256 + 4 * (8192 + 28672)) * 4
    assert need.total == pytest.approx(need.weights + need.kv_cache + need.compute + 0.3e9)
    assert serving_memory(folder, slots=8, context=1024, weight_bytes=0.5625).weights == 56.25


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
