"""An adapter that lacks what its config names is refused by key and module; one that is whole is taken."""

import pytest
from safetensors.torch import load_file, save_file

from slipway.errors import AdapterError
from slipway.weights.base_names import BaseNames
from slipway.weights.lora import LoraAdapter
from slipway.weights.model_config import read_config
from slipway.weights.shards import Shards
from tests.support.pico import pico_adapter, pico_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = pico_model(tmp_path_factory.mktemp("base"))
    return BaseNames(Shards.open(directory), read_config(directory))


def without(adapter, part):
    """Remove the tensors whose name has `part`."""
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if part not in name}, file)
    return adapter


@pytest.mark.parametrize(
    "part, lacking",
    [
        ("layers.2.mlp.up_proj", "1 of what target_modules in .* names: model.layers.2.mlp.up_proj"),
        ("layers.3.", "7 of what target_modules .*layers.3.mlp.up_proj.* and 2 more"),
        ("v_proj", "4 of what target_modules"),
    ],
)
def test_a_targeted_module_without_a_pair_is_named(tmp_path, base, part, lacking):
    adapter = LoraAdapter(without(pico_adapter(tmp_path), part))
    with pytest.raises(AdapterError, match=f"has nothing for {lacking}.*exclude_modules"):
        adapter.match(base)


@pytest.mark.parametrize("targets", [["*_proj"], ["*.layers.*"], ["*"]])
def test_a_module_of_a_wildcard_without_a_pair_is_named(tmp_path, base, targets):
    """Embedding and head, which a wildcard takes in and no trainer puts a pair on, are not missed."""
    adapter = pico_adapter(tmp_path, config={"target_modules": targets})
    assert len(LoraAdapter(adapter).match(base)) == 28
    with pytest.raises(AdapterError, match=r"1 of what target_modules in .* names: model\.layers\.2\.mlp\.up_proj;"):
        LoraAdapter(without(adapter, "layers.2.mlp.up_proj")).match(base)


@pytest.mark.parametrize(
    "config",
    [
        {"exclude_modules": ["v_proj"]},
        {"exclude_modules": r".*\.v_proj"},
        {"target_modules": r".*\.(q|k|o|gate|up|down)_proj"},
        {"target_modules": "all-linear"},
        {"target_modules": None},
    ],
)
def test_what_was_left_out_on_purpose_is_not_missed(tmp_path, base, config):
    adapter = LoraAdapter(without(pico_adapter(tmp_path, config=config), "v_proj"))
    assert len(adapter.match(base)) == 24


def test_every_target_of_a_whole_adapter_has_its_pair(tmp_path, base):
    assert len(LoraAdapter(pico_adapter(tmp_path)).match(base)) == 28
