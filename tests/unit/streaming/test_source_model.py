"""What names and sizes a model to be exported, whatever way its config tells it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from slipway.streaming.source_model import Model
from slipway.weights.shards import Shards
from tests.support.pico import pico_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("model") / "base", layers=1)


def test_config_and_bytes_are_those_of_the_directory(base):
    model = Model(Shards.open(base), base, {"model": "sha256"})
    assert model.config() == json.loads((base / "config.json").read_text())
    assert model.nbytes() == sum(tensor.nbytes for tensor in load_file(base / "model.safetensors").values())
    assert model.calibration is None


def test_bytes_are_counted_as_they_are_read(base, tmp_path):
    wide = pico_model(tmp_path / "wide", layers=1, dtype=torch.float32)
    assert Model(Shards.open(wide), wide, {}).nbytes() == 2 * Model(Shards.open(base), base, {}).nbytes()


def test_the_weights_are_what_the_class_of_the_config_says(base):
    weights = Model(Shards.open(base), base, {}).weights()
    assert weights.class_name == "LlamaForCausalLM" and weights.tied_heads == ("lm_head",)
    assert weights.roles["model.embed_tokens.weight"] == "embedding"
