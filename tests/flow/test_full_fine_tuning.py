"""Full fine-tuning at pico size: every weight trained, passed through the merge, quantized, each stage in its own
process."""

import pytest
from transformers import AutoModelForCausalLM

from slipway.config.merge import MergeConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.train import TrainConfig
from slipway.pipeline.ensure import ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import Checkpoint
from slipway.store.store import Store
from tests.support.nemo import dataset_of
from tests.support.pico import pico_model

SFT = TrainConfig(method="sft", max_steps=4, pack_length=512, lr=1e-3, threads=1, epochs=3, accumulate=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    with store.create(Checkpoint, "base", {}) as out:
        pico_model(out, layers=2)
    inputs = {"base": store.find(Checkpoint, "base"), "data": dataset_of(store)}

    def make(call):
        return ensure(call, store, store.root, LocalRunner(), lambda event: None).artifact

    trained = make(StageCall("train_cpu", inputs, SFT))
    merged = make(StageCall("merge", {"base": inputs["base"], "adapter": trained}, MergeConfig()))
    quantize = StageCall("quantize", {"checkpoint": merged, "data": inputs["data"]}, QuantizeConfig(device="cpu"))
    return {"trained": trained, "merged": merged, "quantized": make(quantize)}


def test_what_was_trained_is_what_the_merge_hands_on_and_transformers_loads(made):
    merged, trained = made["merged"], made["trained"]
    assert merged.summary["materialized"] and merged.summary["updated_tensors"] > 10
    same = [(folder.path / "model.safetensors").read_bytes() for folder in (merged, trained)]
    assert same[0] == same[1] and trained.summary["steps"] == 4
    assert AutoModelForCausalLM.from_pretrained(merged.path).config.num_hidden_layers == 2


def test_quantize_takes_it(made):
    assert made["quantized"].summary["bits_per_parameter"] < 16
    assert (made["quantized"].path / "config.json").exists()
