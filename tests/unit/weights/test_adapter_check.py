"""A trained adapter is counted when it is whole and about its base, and refused by file or tensor when it is not."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.config.train import TrainConfig
from slipway.errors import AdapterError
from slipway.store.artifacts import Checkpoint
from slipway.weights.adapter_check import check_adapter, name_base
from tests.support.pico import HIDDEN, pico_adapter, pico_model

PARAMS = TrainConfig(rank=4)
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def base(tmp_path):
    return Checkpoint(uri=str(pico_model(tmp_path / "base")), digest="")


@pytest.fixture
def adapter(tmp_path):
    return pico_adapter(tmp_path / "adapter", targets=["q_proj", "down_proj"], layers=[1, 2])


def refused(match, adapter, base, params=PARAMS):
    with pytest.raises(AdapterError, match=match):
        check_adapter(adapter, base, params)


def test_the_parameters_are_those_of_every_pair(adapter, base):
    # rank 4: q_proj 64 x 64, down_proj 64 x 128, two layers
    assert check_adapter(adapter, base, PARAMS) == 2 * 4 * ((64 + 64) + (64 + 128))
    assert check_adapter(adapter, base, PARAMS) == sum(
        tensor.numel() for tensor in load_file(adapter / "adapter_model.safetensors").values()
    )


def test_a_file_that_is_cut_short_is_named(adapter, base):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused("adapter_model", adapter, base)


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_values_that_are_not_finite_are_named_by_tensor(adapter, base, bad):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    name = Q0.replace(".0.", ".2.") + ".lora_B.weight"
    tensors[name][3, 1] = bad
    save_file(tensors, file, {"format": "pt"})
    refused(rf"tensor {name} .*1 of 256 values are NaN or Inf", adapter, base)


def test_another_rank_than_the_configs_is_refused(adapter, base):
    refused(r"r of .*adapter_config\.json: 4; expected train\.rank=8.*run again", adapter, base, TrainConfig(rank=8))


def test_an_adapter_of_another_base_is_refused_by_tensor(tmp_path, base):
    extra = {f"{Q0.replace('.0.', '.9.')}.lora_{side}.weight": torch.zeros(4, HIDDEN) for side in "A"}
    extra |= {f"{Q0.replace('.0.', '.9.')}.lora_B.weight": torch.zeros(HIDDEN, 4)}
    other = pico_adapter(tmp_path / "other", extra=extra)
    refused(r"layers\.9\.self_attn\.q_proj\.lora_A\.weight: lands on model\.layers\.9", other, base)


def test_an_adapter_without_tensors_is_refused(tmp_path, base):
    refused("no tensors; expected a LoRA pair", pico_adapter(tmp_path / "empty", targets=[]), base)


def test_the_base_is_named_and_the_rest_of_the_config_stays(adapter):
    file = adapter / "adapter_config.json"
    before = json.loads(file.read_text())
    name_base(file, "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert json.loads(file.read_text()) == {
        **before,
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    }
    assert file.read_text().endswith("}\n") and before["base_model_name_or_path"] == "pico"


def test_names_of_modules_are_in_one_order_whatever_order_a_process_wrote_its_sets_in(adapter):
    file, written = adapter / "adapter_config.json", set()
    document = json.loads(file.read_text())
    for names in (["v_proj", "k_proj", "q_proj"], ["q_proj", "v_proj", "k_proj"]):
        file.write_text(json.dumps({**document, "target_modules": names, "exclude_modules": None}))
        name_base(file, "base")
        written.add(file.read_text())
    assert [json.loads(text)["target_modules"] for text in written] == [["k_proj", "q_proj", "v_proj"]]
    file.write_text(json.dumps({**document, "target_modules": "all-linear"}))
    name_base(file, "base")
    assert json.loads(file.read_text())["target_modules"] == "all-linear"
