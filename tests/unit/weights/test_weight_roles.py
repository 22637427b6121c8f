"""Which tensors are tied, kept in fp32 or of no known use, by config and headers."""

import sys
from dataclasses import dataclass, field

import pytest
import torch

from slipway.errors import CheckpointError
from slipway.weights.architecture_table import ARCHITECTURES
from slipway.weights.shards import MergeRecipe, TensorInfo
from slipway.weights.weight_roles import equal, is_tied, text_value, weight_roles

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LLAMA = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}


@dataclass
class Tensors:
    """A WeightSource in memory."""

    tensors: dict
    metadata: dict = field(default_factory=dict)

    def names(self):
        return list(self.tensors)

    def info(self, name):
        return TensorInfo(self.tensors[name].dtype, tuple(self.tensors[name].shape))

    def read(self, name):
        return self.tensors[name]

    def fetch(self, name, out, start):
        out.copy_(self.tensors[name].contiguous().view(torch.uint8).reshape(-1)[start : start + out.numel()])

    def recipe(self, name):
        return MergeRecipe(self, name, ())

    def as_stored(self, name):
        return self.info(name)


def source(**tensors):
    weight = {"model.layers.0.mlp.up_proj.weight": torch.ones(64, 32, dtype=torch.bfloat16)}
    return Tensors({**weight, **tensors})


def rows(value):
    return torch.full((8, 32), value, dtype=torch.bfloat16)


def test_a_tied_model_may_store_embedding_head_or_both():
    tied = {**LLAMA, "tie_word_embeddings": True}
    embedding = weight_roles(tied, source(**{EMBEDDING: rows(1.0)}))
    assert embedding.tied_heads == ("lm_head",) and not embedding.repeated
    head = weight_roles(tied, source(**{HEAD: rows(1.0)}))
    assert head.roles[HEAD] == "embedding" and head.tied_heads == ("lm_head",) and not head.repeated
    both = weight_roles(tied, source(**{EMBEDDING: rows(1.0), HEAD: rows(1.0)}))
    assert both.repeated == {HEAD}


def test_a_head_that_differs_from_its_embedding_is_not_tied_whatever_the_config_says():
    weights = weight_roles({**LLAMA, "tie_word_embeddings": True}, source(**{EMBEDDING: rows(1.0), HEAD: rows(2.0)}))
    assert not weights.repeated and not weights.tied_heads and weights.roles[HEAD] == "head"


def test_a_model_without_head_or_embedding_is_refused():
    with pytest.raises(CheckpointError, match="head lm_head: not stored, and not tied"):
        weight_roles(LLAMA, source(**{EMBEDDING: rows(1.0)}))
    with pytest.raises(CheckpointError, match=r"lm_head and model\.embed_tokens: neither is stored"):
        weight_roles({**LLAMA, "tie_word_embeddings": True}, source())


def test_equality_is_of_bytes_with_nothing_merged_in():
    tensors = source(a=rows(1.0), b=rows(1.0), c=rows(1.0).float())
    assert equal(tensors, "a", "b") and not equal(tensors, "a", "c")


@pytest.mark.parametrize(
    "name, config, tied",
    [
        ("LlamaForCausalLM", {}, False),
        ("Gemma2ForCausalLM", {}, True),
        ("Gemma2ForCausalLM", {"tie_word_embeddings": False}, False),
        ("Gemma3ForConditionalGeneration", {"text_config": {"tie_word_embeddings": False}}, True),
        ("Qwen2_5_VLForConditionalGeneration", {"text_config": {"tie_word_embeddings": True}}, True),
        ("Idefics3ForConditionalGeneration", {"text_config": {"tie_word_embeddings": True}}, False),
        ("LlamaForCausalLM", {"tie_word_embeddings": None}, False),
    ],
)
def test_ties_by_the_key_the_class_reads_and_its_default(name, config, tied):
    assert is_tied(ARCHITECTURES[name], config) == tied


def test_norms_left_in_fp32_stay_in_a_16_bit_model_and_are_rounded_in_an_fp32_model():
    norm = {"model.norm.weight": torch.ones(32), EMBEDDING: rows(1.0), HEAD: rows(2.0)}
    assert weight_roles(LLAMA, source(**norm)).fp32 == {"model.norm.weight"}
    wide = Tensors({name: tensor.float() for name, tensor in source(**norm).tensors.items()})
    assert weight_roles(LLAMA, wide).fp32 == frozenset()
    glm = {"architectures": ["Glm4MoeForCausalLM"], "num_hidden_layers": 1}
    bias = "model.layers.0.mlp.gate.e_score_correction_bias"
    assert weight_roles(glm, Tensors({**wide.tensors, bias: torch.ones(4)})).fp32 == {bias}


def test_a_known_class_whose_config_cannot_be_built_keeps_what_it_does_not_know():
    odd = {**LLAMA, "model_type": "theirs"}
    tensors = source(**{EMBEDDING: rows(1.0), HEAD: rows(2.0), "model.layers.0.mlp.side.weight": rows(1.0)})
    assert weight_roles(odd, tensors).roles["model.layers.0.mlp.side.weight"] == "unknown"


def test_keys_of_the_text_part_come_first():
    assert text_value({"a": 1, "text_config": {"a": 2}}, "a", 0) == 2
    assert text_value({"a": 1, "text_config": None}, "a", 0) == 1 and text_value({}, "a", 0) == 0


def test_layers_behind_the_last_are_mtp_and_ask_nobody(monkeypatch):
    """As DeepSeek-V3 publishes them: names that its class does not have."""
    monkeypatch.setitem(sys.modules, "slipway.weights.architecture_probe", None)  # importing it would fail
    extra = {f"model.layers.1.{name}.weight": rows(1.0) for name in ("eh_proj", "shared_head.head", "mlp.up_proj")}
    weights = weight_roles(LLAMA, source(**{EMBEDDING: rows(1.0), HEAD: rows(2.0), **extra}))
    assert {weights.roles[name] for name in extra} == {"mtp"}
