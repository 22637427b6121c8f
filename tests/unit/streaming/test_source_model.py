"""What names and sizes a model to be exported, whatever way its config tells it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from slipway.streaming.source_model import Model, hidden_size, is_tied
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


def test_a_config_that_leaves_the_tie_out_is_read_by_what_is_stored(base):
    source = Shards.open(base)
    assert is_tied({}, source) and is_tied({"text_config": {"tie_word_embeddings": True}}, source)
    assert not is_tied({"tie_word_embeddings": False}, source)


def test_a_head_of_its_own_is_not_tied_unless_the_config_says_so(tmp_path):
    source = Shards.open(pico_model(tmp_path / "untied", tied=False, layers=1))
    assert not is_tied({}, source) and not is_tied({"text_config": {}}, source)
    assert is_tied({"tie_word_embeddings": True}, source)
    assert not is_tied({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, source)


@pytest.mark.parametrize(
    "config, width",
    [
        ({"hidden_size": 64}, 64),
        ({"text_config": {"hidden_size": 96}}, 96),
        ({"hidden_size": 8, "text_config": {"hidden_size": 96}}, 96),
        ({"n_embd": 32}, 0),
    ],
)
def test_the_width_is_the_text_models(config, width):
    assert hidden_size(config) == width
