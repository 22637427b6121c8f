"""A whole model that is trained: what it saves, and the memory it must have."""

import pytest
import torch
from safetensors.torch import load_file

from slipway.config.train import TrainConfig
from slipway.errors import ResourceError
from slipway.training.full_model import load_full, require_memory
from slipway.training.loop import load_trained, trained_state
from tests.support.pico import pico_model


def test_every_weight_is_trained_and_saved_under_the_bases_names(tmp_path):
    base = pico_model(tmp_path / "base", layers=2)
    model = load_full(str(base), TrainConfig(method="sft", activation_checkpointing="full"))
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    (tmp_path / "out").mkdir()
    model.save(tmp_path / "out")
    saved, stored = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", base))
    assert {name: torch.equal(saved[name], tensor) for name, tensor in stored.items()} == dict.fromkeys(stored, True)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_its_state_is_put_back(tmp_path):
    model = load_full(str(pico_model(tmp_path, layers=2)), TrainConfig(method="sft"))
    before = {name: tensor.clone() for name, tensor in trained_state(model).items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_trained(model, before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained_state(model).items())


def test_a_model_that_does_not_fit_is_refused_with_both_figures():
    require_memory(1_000_000, 25e6)
    with pytest.raises(ResourceError, match=r"20\.0 GB for 1B parameters .* at most 8\.0 GB, 80% of what is free"):
        require_memory(1_000_000_000, 10e9)
