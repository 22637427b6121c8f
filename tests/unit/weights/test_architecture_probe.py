"""What transformers says of classes that the table does not have, and of what it does not know."""

import pytest
import torch
from torch import nn

from slipway.errors import CheckpointError
from slipway.weights.architecture_probe import class_name, describe, inputs_first, probe
from tests.support.families import FAMILIES, family_config, model_class

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}


def test_a_class_that_the_table_lacks_is_asked_of_transformers():
    row = probe({"architectures": ["PhiForCausalLM"], "model_type": "phi", **SMALL, "num_attention_heads": 2})
    assert row.name == "PhiForCausalLM" and row.base == "model" and not row.tied_by_default
    assert "model.layers.#.mlp.fc1" in row.modules["linear"] and row.modules["head"] == ("lm_head",)


def test_a_config_without_architectures_names_the_causal_model_of_its_type():
    assert class_name({"model_type": "phi"}) == "PhiForCausalLM"
    assert class_name({"model_type": "nobody"}) == "" and class_name({"architectures": [3]}) == ""


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["TheirsForCausalLM"], "model_type": "theirs"},
        {"architectures": ["LlamaForCausalLM"], "model_type": "theirs"},
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": "wide"},
        {},
    ],
)
def test_a_class_that_nobody_knows_is_refused_by_name(config):
    with pytest.raises(CheckpointError, match=r"architecture in config\.json: .*not guessed") as refused:
        probe(config)
    assert len(str(refused.value)) < 700


def test_a_linear_as_wide_as_there_are_experts_beside_it_is_a_router():
    config = {
        **SMALL,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_experts": 4,
        "moe_intermediate_size": 32,
    }
    row = probe({"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", **config})
    assert "model.layers.#.mlp.shared_expert_gate" in row.modules["router"]
    assert "model.layers.#.mlp.shared_expert.gate_proj" in row.modules["linear"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_matrix_of_a_family_has_a_role(name):
    with torch.device("meta"):
        model = model_class(name).from_config(family_config(name))
    row = describe(model)
    linears = {path for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert {path for path in linears if row.role(f"{path}.weight", 2) not in ("linear", "head", "tower")} == set()


class Experts(nn.Module):
    """Stacked experts that declare nothing."""

    def __init__(self, shape, width=None):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.zeros(shape))
        if width:
            self.hidden_size = width


def test_undeclared_experts_are_read_by_their_widths_or_refused():
    assert inputs_first(Experts((2, 8, 32), 8)) and not inputs_first(Experts((2, 32, 8), 8))
    for unclear in (Experts((2, 8, 8), 8), Experts((2, 8, 32))):
        with pytest.raises(CheckpointError, match="orientation not declared"):
            inputs_first(unclear)
