"""A pair lies on a module that the config names, as PEFT or the trainer that wrote the config names modules."""

import json

import pytest

from slipway.errors import AdapterError
from slipway.weights.adapter_config import AdapterConfig
from slipway.weights.base_names import BaseNames
from slipway.weights.model_config import read_config
from slipway.weights.pair_checks import require_bias_of_pair, require_named
from slipway.weights.shards import Shards
from tests.support.pico import pico_model

UP = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = pico_model(tmp_path_factory.mktemp("base"))
    return BaseNames(Shards.open(directory), read_config(directory))


def config(directory, **keys):
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **keys}))
    return AdapterConfig(directory)


@pytest.mark.parametrize(
    "targets",
    [None, "all-linear", ["up_proj"], [UP], r".*\.up_proj", ["*.up_proj"], ["*_proj"], ["*.layers.*.up_proj"]],
)
def test_names_expressions_and_the_wildcards_of_other_trainers_are_taken(tmp_path, base, targets):
    require_named(config(tmp_path, target_modules=targets), base, UP, "a")


@pytest.mark.parametrize("module", [UP, "layers.0.mlp.up_proj"])
def test_the_path_in_the_class_counts_as_the_name_in_the_adapter_does(tmp_path, base, module):
    require_named(config(tmp_path, target_modules=r"model\.layers\.0\.mlp\.up_proj"), base, module, "a")


@pytest.mark.parametrize("targets", [[], ["q_proj"], r".*\.layers\.1\..*", ["*.layers.1.*"], ["*.q_proj"], ["*up"]])
def test_a_module_that_the_config_does_not_name_is_refused(tmp_path, base, targets):
    with pytest.raises(AdapterError, match=rf"a pair on {UP}, where adapter_config\.json puts none"):
        require_named(config(tmp_path, target_modules=targets), base, UP, "a")


@pytest.mark.parametrize(
    "parameter, named", [("up_proj.weight", True), (f"{UP}.weight", True), ("p_proj.weight", False)]
)
def test_a_parameter_that_the_config_names_is_taken(tmp_path, base, parameter, named):
    """As PEFT writes routers for all-linear: `gate.weight` beside the Linears' names."""
    keys = config(tmp_path, target_modules=["q_proj"], target_parameters=[parameter])
    if named:
        require_named(keys, base, UP, "a")
        return
    with pytest.raises(AdapterError, match=f"a pair on {UP}"):
        require_named(keys, base, UP, "a")


def test_a_head_that_is_tied_to_an_embedding_with_a_pair_needs_no_name(tmp_path, base):
    keys = {"target_modules": ["embed_tokens"]}
    require_named(config(tmp_path, **keys, ensure_weight_tying=True), base, "lm_head", "a")
    with pytest.raises(AdapterError, match="a pair on lm_head"):
        require_named(config(tmp_path, **keys), base, "lm_head", "a")


def test_a_bias_of_lora_b_needs_the_key_and_the_pair(tmp_path):
    require_bias_of_pair(config(tmp_path, lora_bias=True), True, "b")
    with pytest.raises(AdapterError, match="has no lora_B beside it"):
        require_bias_of_pair(config(tmp_path, lora_bias=True), False, "b")
    with pytest.raises(AdapterError, match="lora_bias is off"):
        require_bias_of_pair(config(tmp_path), True, "b")
