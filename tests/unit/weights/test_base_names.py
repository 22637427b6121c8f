"""Names of an adapter and of its base meet in the class, whichever transformers either was written with."""

import pytest

from slipway.errors import CheckpointError
from slipway.weights.base_names import BaseNames
from slipway.weights.model_config import read_config
from slipway.weights.shards import Shards
from tests.support.families import write_family
from tests.support.pico import pico_model


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made = {}

    def base(name, config=True):
        if name not in made:
            made[name] = write_family(name, tmp_path_factory.mktemp(name))
        return BaseNames(Shards.open(made[name]), read_config(made[name]) if config else None)

    return base


@pytest.mark.parametrize(
    "family, name, stored",
    [
        ("llama", "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"),
        (
            "gemma3",
            "model.language_model.layers.0.self_attn.q_proj.weight",
            "language_model.model.layers.0.self_attn.q_proj.weight",
        ),
        (
            "gemma3",
            "language_model.model.layers.0.self_attn.q_proj.weight",
            "language_model.model.layers.0.self_attn.q_proj.weight",
        ),
        ("qwen2_5_vl", "model.language_model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"),
        ("qwen2_5_vl", "model.visual.blocks.0.attn.qkv.bias", "visual.blocks.0.attn.qkv.bias"),
        ("mixtral", "model.layers.0.mlp.gate.weight", "model.layers.0.block_sparse_moe.gate.weight"),
        (
            "mixtral",
            "model.layers.0.block_sparse_moe.experts.3.w1.weight",
            "model.layers.0.block_sparse_moe.experts.3.w1.weight",
        ),
        ("llama", "model.layers.7.mlp.up_proj.weight", None),
        ("llama", "model.layers.1.mlp.up_proj.bias", None),
        ("qwen3_moe", "model.layers.0.mlp.experts.gate_up_proj.weight", None),
    ],
)
def test_a_name_is_the_stored_tensor_of_its_place_in_the_class(bases, family, name, stored):
    assert bases(family).tensor(name) == stored


def test_stacked_experts_are_in_the_order_of_the_class(bases):
    apart = bases("mixtral").stacked("model.layers.1.mlp.experts.gate_up_proj")
    prefix = "model.layers.1.block_sparse_moe.experts"
    assert apart == [f"{prefix}.{expert}.{leaf}.weight" for expert in range(4) for leaf in ("w1", "w3")]
    whole = "model.layers.1.mlp.experts.down_proj"
    assert bases("gpt_oss").stacked(whole) == [whole]
    assert bases("llama").stacked(whole) == []


def test_the_class_says_what_is_stored_inputs_first(bases):
    gpt2, oss, llama = bases("gpt2"), bases("gpt_oss"), bases("llama")
    assert gpt2.inputs_first("transformer.h.0.attn.c_attn.weight") is True
    assert gpt2.inputs_first("lm_head.weight") is False, "its head is a Linear, and not stored"
    assert oss.inputs_first("model.layers.0.mlp.experts.down_proj") is True
    assert llama.inputs_first("model.layers.0.mlp.up_proj.weight") is False
    assert bases("gpt2", config=False).inputs_first("transformer.h.0.attn.c_attn.weight") is None


def test_head_and_embedding_are_those_of_the_class(bases):
    assert bases("llama").vocabulary() == [("model.embed_tokens.weight", "lm_head.weight", False)]
    assert bases("gpt2").vocabulary() == [("transformer.wte.weight", "lm_head.weight", True)]
    assert bases("gpt2").tied_embedding("lm_head.weight") == "transformer.wte.weight"
    assert bases("llama").tied_embedding("lm_head.weight") is None
    assert bases("gpt2", config=False).vocabulary() == []
    assert bases("gpt2").has_vocabulary("transformer.wte.weight")
    assert not bases("gpt2").has_vocabulary("transformer.wpe.weight")


def test_modules_are_paths_of_the_class_and_experts_their_own(bases):
    modules = bases("qwen2_5_vl").modules()
    assert modules["model.language_model.layers.0.self_attn.q_proj"] == "model.layers.0.self_attn.q_proj.weight"
    experts = bases("qwen3_moe")
    assert "model.layers.0.mlp.experts.2.up_proj" in experts.modules()
    assert experts.is_expert("model.layers.0.mlp.experts.2.up_proj.weight")
    assert not experts.is_expert("model.layers.0.self_attn.q_proj.weight")
    assert experts.paths()["model.norm.weight"] == "model.norm.weight"


def test_a_class_that_nobody_knows_is_refused(tmp_path):
    base = Shards.open(pico_model(tmp_path, layers=1))
    with pytest.raises(CheckpointError, match=r"NobodyForCausalLM|nobody"):
        BaseNames(base, {"model_type": "nobody", "architectures": ["NobodyForCausalLM"]})
