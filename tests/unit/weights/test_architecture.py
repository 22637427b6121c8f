"""Names, orientation and roles by a class's description, without transformers."""

import pytest

from slipway.weights.architecture import Architecture, Rename
from slipway.weights.architecture_table import ARCHITECTURES


def test_a_renaming_replaces_the_first_match_within_its_scope():
    rename = Rename(r"(?P<g0>^old(?!\w))|(?P<g1>^older\.(.+))", r"new.\1", scope="text")
    assert rename.apply("model.text.older.weight", "model") == "model.text.new.weight"
    assert rename.apply("text.older.weight", "model") == "text.new.weight"
    assert rename.apply("vision.older.weight", "model") is None
    assert Rename(r"(?P<g0>\.gamma(?!\w))", ".weight").apply("norm.gamma_2", "") is None


@pytest.mark.parametrize(
    "name, stored, path, role",
    [
        ("Qwen3MoeForCausalLM", "model.layers.3.mlp.experts.5.up_proj.weight", None, "linear"),
        ("Qwen3MoeForCausalLM", "model.layers.3.mlp.gate.weight", "model.layers.3.mlp.gate", "router"),
        ("MixtralForCausalLM", "model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate", "router"),
        ("Lfm2MoeForCausalLM", "model.layers.2.feed_forward.gate.weight", "model.layers.2.feed_forward.gate", "router"),
        ("GPT2LMHeadModel", "h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn", "transposed"),
        ("GPT2LMHeadModel", "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn", "transposed"),
        ("LlamaForCausalLM", "lm_head.weight", "lm_head", "head"),
        ("LlamaForCausalLM", "layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj", "linear"),
        ("LlamaForCausalLM", "model.layers.1.mlp.side_proj.weight", None, "unknown"),
        ("LlamaForCausalLM", "model.layers.2.mlp.up_proj.weight", None, "mtp"),
        ("DeepseekV3ForCausalLM", "model.layers.2.shared_head.head.weight", None, "mtp"),
        ("DeepseekV3ForCausalLM", "model.layers.1.self_attn.q_proj.weight", None, "linear"),
        (
            "Gemma3ForConditionalGeneration",
            "language_model.model.layers.1.mlp.up_proj.weight",
            "model.language_model.layers.1.mlp.up_proj",
            "linear",
        ),
        (
            "Gemma3ForConditionalGeneration",
            "vision_tower.vision_model.encoder.layers.9.mlp.fc1.weight",
            "model.vision_tower.encoder.layers.9.mlp.fc1",
            "tower",
        ),
        ("Gemma3ForConditionalGeneration", "language_model.lm_head.weight", "lm_head", "head"),
        ("Qwen2_5_VLForConditionalGeneration", "visual.merger.mlp.0.weight", "model.visual.merger.mlp.0", "tower"),
        ("Qwen2_5_VLForConditionalGeneration", "visual.patch_embed.proj.weight", None, "outside"),
        ("Idefics3ForConditionalGeneration", "model.connector.modality_projection.proj.weight", None, "tower"),
    ],
)
def test_what_a_stored_tensor_is(name, stored, path, role):
    row = ARCHITECTURES[name]
    assert row.role(stored, 2, layers=4 if "layers.3" in stored else 3 if "layers.2.feed" in stored else 2) == role
    assert path is None or row.path(stored) == path


def test_stacked_experts_lie_as_the_class_has_them_and_its_converter_turns_them():
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert ARCHITECTURES["GptOssForCausalLM"].role(name, 3) == "experts_in_first"
    assert ARCHITECTURES["GraniteMoeForCausalLM"].role("model.layers.0.block_sparse_moe.input_linear.weight", 3) == (
        "experts_out_first"
    )
    turned = Architecture(
        "X", "x", "", {"experts_in_first": ("e.w",)}, converters=(Rename("(?P<g0>e.v)", "e.w", transposes=True),)
    )
    assert turned.role("e.v", 3) == "experts_out_first" and turned.role("e.v", 2) == "linear"
    opaque = Architecture("X", "x", "", {"linear": ("w",)}, converters=(Rename("(?P<g0>v)", "w", opaque=True),))
    assert opaque.role("v.weight", 2) == "other" and opaque.role("w.weight", 2) == "linear"


def test_biases_norms_and_what_stays_in_fp32():
    row = ARCHITECTURES["Glm4MoeForCausalLM"]
    assert row.role("model.norm.weight", 1) == "other"
    assert ARCHITECTURES["GptOssForCausalLM"].role("model.layers.0.mlp.experts.down_proj_bias", 2) == "other"
    assert row.is_fp32("model.layers.1.mlp.gate.e_score_correction_bias") and not row.is_fp32("model.norm.weight")
