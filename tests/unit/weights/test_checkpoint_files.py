"""Which files win, held to transformers itself."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slipway.errors import CheckpointError
from slipway.weights.checkpoint_files import INDEX, SINGLE, shard_files, weights_file
from slipway.weights.shards import Shards
from tests.support.families import write_family

NORM = "model.norm.weight"


@pytest.fixture
def model(tmp_path):
    return write_family("llama_tied", tmp_path / "model")


def index(directory, parts):
    """Write `parts` (file -> tensors, tensors that the index leaves out) with an index."""
    for file, (listed, unlisted) in parts.items():
        save_file({**listed, **unlisted}, directory / file, {"format": "pt"})
    weight_map = {name: file for file, (listed, _) in parts.items() for name in listed}
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def norm_by_transformers(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).model.norm.weight


def test_the_single_file_wins_over_an_index(model):
    tensors = load_file(model / SINGLE)
    index(model, {"model-00001-of-00001.safetensors": ({**tensors, NORM: tensors[NORM] + 1}, {})})
    assert weights_file(model).name == SINGLE
    assert torch.equal(Shards.open(model).read(NORM), norm_by_transformers(model))


def test_tensors_that_the_index_leaves_out_count(model):
    tensors = load_file(model / SINGLE)
    (model / SINGLE).unlink()
    rest = {name: tensor for name, tensor in tensors.items() if name != NORM}
    index(model, {"a.safetensors": (rest, {NORM: tensors[NORM] + 1})})
    assert shard_files(weights_file(model)) == ["a.safetensors"]
    assert torch.equal(Shards.open(model).read(NORM), norm_by_transformers(model))


def test_a_tensor_in_two_files_of_the_index_is_refused(model):
    tensors = load_file(model / SINGLE)
    (model / SINGLE).unlink()
    index(
        model, {"a.safetensors": (tensors, {}), "b.safetensors": ({"x": tensors[NORM].clone()}, {NORM: tensors[NORM]})}
    )
    with pytest.raises(CheckpointError, match=rf"tensor {NORM}: in a\.safetensors and in b\.safetensors"):
        Shards.open(model)


def test_the_file_that_the_config_names_wins(model):
    tensors = load_file(model / SINGLE)
    save_file({**tensors, NORM: tensors[NORM] + 2}, model / "other.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "transformers_weights": "other.safetensors"}))
    assert weights_file(model).name == "other.safetensors"
    assert torch.equal(Shards.open(model).read(NORM), norm_by_transformers(model))
    for bad in ("../other.safetensors", "weights.bin", 3):
        (model / "config.json").write_text(json.dumps({**config, "transformers_weights": bad}))
        with pytest.raises(CheckpointError, match=r"transformers_weights of .*mend config"):
            weights_file(model)


@pytest.mark.parametrize(
    "there, message",
    [
        ("pytorch_model.bin", r"no safetensors, but pytorch_model\.bin"),
        ("model.fp16.safetensors", r"no safetensors of the model's name, but model\.fp16\.safetensors"),
    ],
)
def test_pickles_and_variants_are_refused_by_name(model, there, message):
    (model / SINGLE).rename(model / there)
    with pytest.raises(CheckpointError, match=f"{message}.*save_pretrained writes safetensors"):
        weights_file(model)
