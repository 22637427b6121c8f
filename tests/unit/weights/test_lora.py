"""Adapters: read and scaled as PEFT does, merged within one bf16 step of PEFT, and everything else refused by name."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slipway.errors import AdapterError
from slipway.weights.lora import LoraAdapter
from slipway.weights.merge_proof import peft_merge
from slipway.weights.merged import MergedSource
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import Shards
from tests.oracles.exact_merge import assert_nearly_fp32
from tests.support.pico import HIDDEN, LAYERS, pico_adapter, pico_model

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def merged(base, adapter):
    return MergedSource(Shards.open(base), LoraAdapter(adapter))


def merged_by_peft(base, adapter):
    """PEFT's merge of the fp32-upcast base, then one rounding."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().to(torch.bfloat16).state_dict()


CASES = {
    "plain": {},
    "rank 1, odd alpha": {"rank": 1, "alpha": 3},
    "rslora": {"rank": 8, "config": {"use_rslora": True}},
    "alpha_pattern": {"config": {"alpha_pattern": {"q_proj": 1, r"layers\.1\.mlp\.up_proj": 7}}},
    "rank_pattern": {"config": {"rank_pattern": {"k_proj": 2}}, "rank_of": {"k_proj": 2}},
    "rslora with both patterns": {
        "config": {"use_rslora": True, "rank_pattern": {"mlp.down_proj": 3}, "alpha_pattern": {"mlp.down_proj": 5}},
        "rank_of": {"mlp.down_proj": 3},
    },
    "upper layers, two targets": {"layers": [2, 3], "targets": ["v_proj", "o_proj"]},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_merge_is_within_one_bf16_step_of_pefts(tmp_path, case):
    base, adapter = pico_model(tmp_path / "base", shards=2), pico_adapter(tmp_path / "adapter", **case)
    source, want = merged(base, adapter), merged_by_peft(base, adapter)
    assert source.updates
    for name in source.names():
        assert_nearly_fp32(source.read(name), want[name], name)


def test_rounding_twice_gives_other_bits(tmp_path):
    """The convention matters: adding in bf16 is not the same merge."""
    base, adapter = pico_model(tmp_path / "base"), pico_adapter(tmp_path / "adapter")
    source, plain = merged(base, adapter), Shards.open(base)
    differing = 0
    for name in source.updates:
        weight, (product,) = plain.read(name), source.recipe(name).updates
        twice = weight + merge(torch.zeros_like(weight), product)
        differing += int((source.read(name) != twice).sum())
    assert differing > 100


def test_modules_to_save_replace(tmp_path):
    base = pico_model(tmp_path / "base", tied=False)
    head = torch.randn(Shards.open(base).info("lm_head.weight").shape)
    extra = {"base_model.model.lm_head.weight": head}
    adapter = pico_adapter(tmp_path / "adapter", config={"modules_to_save": ["lm_head"]}, extra=extra)
    source, want = merged(base, adapter), merged_by_peft(base, adapter)
    assert torch.equal(source.read("lm_head.weight"), head.to(torch.bfloat16))
    for name in source.names():
        assert_nearly_fp32(source.read(name), want[name], name)


def test_fan_in_fan_out_is_peft_s_merge_into_a_conv1d(tmp_path):
    """W stored [in, out] = [4, 6], as GPT-2 stores it."""
    save_file({"h.0.c_attn.weight": torch.randn(4, 6)}, tmp_path / "model.safetensors")
    prefix = "base_model.model.h.0.c_attn.lora_"
    save_file(
        {f"{prefix}A.weight": torch.randn(2, 4), f"{prefix}B.weight": torch.randn(6, 2)},
        tmp_path / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 3,
        "fan_in_fan_out": True,
        "target_modules": ["c_attn"],
        "inference_mode": True,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    base, lora = Shards.open(tmp_path), LoraAdapter(tmp_path)
    source = MergedSource(base, lora)
    name = "h.0.c_attn.weight"
    assert_nearly_fp32(source.read(name), peft_merge(base, source, lora, [name])[name], name)
    assert not torch.equal(source.read(name), base.read(name).to(torch.bfloat16))


REFUSED = {
    "lora_bias without biases": ({"lora_bias": True}, "lora_bias in .* names: model.layers.0"),
    "dora without magnitudes": ({"use_dora": True}, "use_dora in .* names: model.layers.0.*and 23 more"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights.*pissa"),
    "target_parameters without pairs": (
        {"target_parameters": ["experts.gate_up_proj"]},
        "has no pair for experts.gate_up_proj; expected .*the class of the base has no stacked experts",
    ),
    "trainable tokens without rows": (
        {"trainable_token_indices": [1, 2]},
        r"trainable_token_indices in .* names: \[1, 2\]",
    ),
    "a module to save that is not there": (
        {"modules_to_save": ["model.norm"]},
        "has nothing for 1 of what modules_to_save in .* names: model.norm",
    ),
    "a pair where the config puts none": (
        {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]},
        r"down_proj.lora_A.weight: a pair on model.layers.0.mlp.down_proj, where adapter_config.json puts none",
    ),
    "a pair in a layer that is left out": (
        {"layers_to_transform": [0, 1, 2]},
        r"a pair on model.layers.3.*where adapter_config.json puts none: PEFT passes over it",
    ),
    "an excluded pair": ({"exclude_modules": ["up_proj"]}, r"a pair on model.layers.0.mlp.up_proj, where"),
    "a module to save inside another": (
        {"modules_to_save": ["mlp", "down_proj"]},
        r"names model\.layers\.0\.mlp\.down_proj and model\.layers\.0\.mlp around it; .*PEFT cannot load",
    ),
    "a pair on biases of experts": (
        {"target_parameters": ["experts.gate_up_proj_bias"]},
        "target_parameters of .*: experts.gate_up_proj_bias; expected weights of modules.*biases are none",
    ),
    "layer replication": ({"layer_replication": [[0, 2], [1, 4]]}, "layer_replication"),
    "a feature of the future": ({"use_quantum": True}, "use_quantum.*Slipway does not merge it"),
    "another peft type": ({"peft_type": "LOHA"}, "peft_type.*LOHA; expected LORA"),
    "no rank": ({"r": None}, "r of .*null; expected a positive integer"),
    "another rank": ({"r": 8}, r"lora_A.weight: \[4, 128\].*rank 8"),
    "alpha of zero": ({"lora_alpha": 0}, "changes nothing: 28 tensors"),
}


@pytest.mark.parametrize("config, message", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_merged_is_refused_by_name(tmp_path, config, message):
    base, adapter = pico_model(tmp_path / "base"), pico_adapter(tmp_path / "adapter", config=config)
    with pytest.raises(AdapterError, match=message):
        merged(base, adapter)


def test_an_adapter_of_zeros_is_refused_and_one_with_some_zeros_says_which(tmp_path):
    base = pico_model(tmp_path / "base", layers=1)
    adapter = pico_adapter(tmp_path / "adapter", layers=[0])
    tensors = load_file(adapter / "adapter_model.safetensors")
    zeros = {name: torch.zeros_like(t) if "lora_B" in name else t for name, t in tensors.items()}
    some = {name: zeros[name] if "q_proj" in name else tensor for name, tensor in tensors.items()}
    save_file(some, adapter / "adapter_model.safetensors")
    assert (
        "1 of them change nothing, their products are zero: model.layers.0.self_attn.q_proj"
        in merged(base, adapter).notes()[1]
    )
    save_file(zeros, adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"changes nothing: 7 tensors.*expected a product that is not zero"):
        merged(base, adapter)


BAD_TENSORS = {
    "wrong shape": (
        f"{Q0}.lora_B.weight",
        torch.ones(HIDDEN + 16, 4),
        r"q_proj.lora_A.weight: makes \[80, 64\]; expected \[64, 64\]",
    ),
    "transposed": (f"{Q0}.lora_A.weight", torch.ones(HIDDEN, 4), r"q_proj.lora_A.weight: \[64, 4\]"),
    "a convolution": (
        f"{Q0}.lora_A.weight",
        torch.ones(4, HIDDEN, 1, 1),
        r"q_proj.lora_A.weight: a LoRA pair on a convolution, lora_A \[4, 64, 1, 1\]; expected a pair on a Linear",
    ),
    "a bias of lora_B": (
        f"{Q0}.lora_B.bias",
        torch.ones(HIDDEN),
        "lora_B.bias: a bias of lora_B; expected none: lora_bias is off",
    ),
    "integers": (
        f"{Q0}.lora_B.weight",
        torch.ones(HIDDEN, 4, dtype=torch.int8),
        "q_proj.lora_B.weight: stored as int8: codes, .*expected floating point",
    ),
    "a layer too many": (
        f"base_model.model.model.layers.{LAYERS}.mlp.up_proj.weight",
        torch.ones(4, HIDDEN),
        "layers.4.mlp.up_proj.weight: neither",
    ),
    "A alone": ("base_model.model.model.norm.lora_A.weight", torch.ones(4, HIDDEN), "has no lora_B"),
    "B alone": ("base_model.model.model.norm.lora_B.weight", torch.ones(HIDDEN, 4), "has no lora_A"),
    "embedding": (
        "base_model.model.model.embed_tokens.lora_embedding_A",
        torch.ones(4, 384),
        "has no lora_embedding_B",
    ),
    "dora magnitude": (f"{Q0}.lora_magnitude_vector", torch.ones(HIDDEN), "a magnitude; expected none: use_dora"),
    "a whole module": (
        "base_model.model.model.norm.weight",
        torch.ones(HIDDEN),
        "norm.weight: neither.*modules_to_save",
    ),
}


@pytest.mark.parametrize("name, tensor, message", BAD_TENSORS.values(), ids=BAD_TENSORS.keys())
def test_every_adapter_tensor_must_land(tmp_path, name, tensor, message):
    base, adapter = pico_model(tmp_path / "base"), pico_adapter(tmp_path / "adapter", extra={name: tensor})
    with pytest.raises(AdapterError, match=message):
        merged(base, adapter)


def test_a_bias_of_lora_b_needs_one_in_the_base_and_pefts_merge_does_too(tmp_path):
    base = pico_model(tmp_path / "base")
    bias = {f"{Q0}.lora_B.bias": torch.ones(HIDDEN)}
    adapter = pico_adapter(tmp_path / "adapter", config={"lora_bias": True}, extra=bias)
    with pytest.raises(AdapterError, match=r"no such bias in the base; .*PEFT does not merge it either.*lora_bias=fal"):
        merged(base, adapter)


def test_an_adapter_around_an_adapted_model_is_refused_as_one(tmp_path):
    """PEFT saves it with its prefix twice, and what the inner adapter did is in neither file nor base."""
    base, adapter = pico_model(tmp_path / "base"), pico_adapter(tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    save_file({f"base_model.model.{name}": tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(AdapterError, match=r"a model that has an adapter itself; .*merge the inner adapter first"):
        merged(base, adapter)


def test_nan_is_named(tmp_path):
    adapter = LoraAdapter(pico_adapter(tmp_path, extra={f"{Q0}.lora_A.weight": torch.full((4, HIDDEN), float("nan"))}))
    with pytest.raises(
        AdapterError, match=r"layers\.0\.self_attn\.q_proj\.lora_A\.weight .*256 of 256 values are NaN or Inf"
    ):
        adapter.read(f"{Q0}.lora_A.weight")


def test_saved_head_of_a_tied_model_lands_nowhere(tmp_path):
    extra = {"base_model.model.lm_head.weight": torch.ones(384, HIDDEN)}
    adapter = pico_adapter(tmp_path / "adapter", config={"modules_to_save": ["lm_head"]}, extra=extra)
    with pytest.raises(AdapterError, match=r"lands on lm_head\.weight, which the base does not have"):
        merged(pico_model(tmp_path / "base"), adapter)


@pytest.mark.parametrize(
    "gone, message",
    [("adapter_config.json", "no adapter_config.json"), ("adapter_model.safetensors", "no adapter_model")],
)
def test_a_missing_file_is_named(tmp_path, gone, message):
    (pico_adapter(tmp_path) / gone).unlink()
    with pytest.raises(AdapterError, match=message):
        LoraAdapter(tmp_path)


def test_a_truncated_adapter_is_named(tmp_path):
    file = pico_adapter(tmp_path) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors.*by its header"):
        LoraAdapter(tmp_path)
