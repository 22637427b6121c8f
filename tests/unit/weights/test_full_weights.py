"""Weights that full fine-tuning left: checked against their base, handed on as they are."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.errors import AdapterError, CheckpointError
from slipway.weights.full_weights import check_full_weights, holds_full_weights, pass_through
from slipway.weights.shards import Shards
from tests.support.pico import pico_adapter, pico_model


@pytest.fixture
def base(tmp_path):
    return Shards.open(pico_model(tmp_path / "base", layers=2))


def changed(folder, **tensors):
    """The pico model trained: `tensors` replace those of its file, None removes one."""
    file = pico_model(folder, layers=2) / "model.safetensors"
    stored = {**load_file(file), **tensors}
    save_file({name: tensor for name, tensor in stored.items() if tensor is not None}, file, {"format": "pt"})
    return folder


NORM = "model.norm.weight"


def test_an_adapter_is_not_full_weights(tmp_path):
    assert holds_full_weights(pico_model(tmp_path / "m", layers=2)) and holds_full_weights(
        pico_model(tmp_path / "s", layers=2, shards=2)
    )
    assert not holds_full_weights(pico_adapter(tmp_path / "a"))


def test_tensors_that_training_changed_are_counted(tmp_path, base):
    weights, count = check_full_weights(changed(tmp_path / "t", **{NORM: torch.zeros(64)}), base)
    assert count == 1 and weights.names() == base.names()


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({NORM: None}, r"lacks \['model.norm.weight'\] and has besides none"),
        ({"extra.weight": torch.ones(2)}, r"has besides \['extra.weight'\]"),
        ({NORM: torch.ones(32)}, r"model.norm.weight is \(32,\)|model.norm.weight is torch.Size"),
        ({}, "every tensor equals the base's"),
    ],
)
def test_weights_of_another_model_or_untrained_ones_are_refused(tmp_path, base, tensors, reason):
    with pytest.raises(AdapterError, match=reason):
        check_full_weights(changed(tmp_path / "t", **tensors), base)


def test_values_that_are_not_finite_are_refused_by_name(tmp_path, base):
    with pytest.raises(CheckpointError, match="norm"):
        check_full_weights(changed(tmp_path / "t", **{NORM: torch.full((64,), torch.nan)}), base)


@pytest.mark.parametrize("shards", [1, 2])
def test_files_are_handed_on_without_a_second_copy(tmp_path, shards):
    trained = pico_model(tmp_path / "t", layers=2, shards=shards)
    out = tmp_path / "out"
    out.mkdir()
    pass_through(trained, out)
    assert Shards.open(out).names() == Shards.open(trained).names()
    assert all((out / p.name).stat().st_ino == p.stat().st_ino for p in trained.glob("*.safetensors"))
    assert not (out / "tokenizer.json").exists()
