"""Experts that an adapter saves whole become the tensors of a base that stores each projection of each expert apart."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import AdapterError
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards

E, I, H = 3, 4, 6  # noqa: E741 - experts, rows of a projection, inputs
LAYER = "model.layers.0.mlp"
CONFIG = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "tie_word_embeddings": False}
GATE_UP, DOWN = torch.arange(1.0, E * 2 * I * H + 1).reshape(E, 2 * I, H), -torch.ones(E, H, I)


@pytest.fixture
def base(tmp_path):
    shapes = {"gate_proj": (I, H), "up_proj": (I, H), "down_proj": (H, I)}
    experts = {
        f"{LAYER}.experts.{e}.{leaf}.weight": torch.ones(shape) for e in range(E) for leaf, shape in shapes.items()
    }
    save_file({**experts, f"{LAYER}.gate.weight": torch.ones(E, H)}, tmp_path / "model.safetensors")
    return Shards.open(tmp_path)


def adapter(directory, gate_up=GATE_UP, module="mlp.experts"):
    tensors = {f"{LAYER}.experts.gate_up_proj": gate_up, f"{LAYER}.experts.down_proj": DOWN}
    tensors = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": [], "modules_to_save": [module]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return LoraAdapter(directory)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_projection_is_its_rows_of_the_saved_tensor(tmp_path, base, dtype):
    merged = MergedSource(base, adapter(tmp_path, GATE_UP.to(dtype)), CONFIG)
    assert merged.names() == base.names()
    for e in range(E):
        parts = {"gate_proj": GATE_UP[e, :I], "up_proj": GATE_UP[e, I:], "down_proj": DOWN[e]}
        for leaf, rows in parts.items():
            assert torch.equal(merged.read(f"{LAYER}.experts.{e}.{leaf}.weight"), rows.to(torch.bfloat16))
    assert torch.equal(merged.read(f"{LAYER}.gate.weight"), torch.ones(E, H, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    "shape", [(E, 2 * I, H + 1), (E, I, H), (E - 1, 2 * I, H), (E * 2 * I, H), (2 * E, I, H)], ids=str
)
def test_another_shape_is_named(tmp_path, base, shape):
    message = rf"experts\.gate_up_proj: shape {re.escape(str(list(shape)))}; expected the rows of {2 * E} tensors"
    with pytest.raises(AdapterError, match=message):
        MergedSource(base, adapter(tmp_path, torch.ones(shape)), CONFIG)


def test_experts_that_no_key_of_the_config_names_are_refused(tmp_path, base):
    with pytest.raises(AdapterError, match=r"neither lora_A, lora_B nor in modules_to_save"):
        MergedSource(base, adapter(tmp_path, module="gate"), CONFIG)
