"""The same on the real model: SmolLM2-135M fetched, quantized, and compared with nvidia-modelopt's export tensor by
tensor. Its first layers alone unless SLIPWAY_SOAK_FORMATS=all, with which `make soak` asks for every layer and format.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from slipway.config.model import ModelConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.store import StoreConfig
from slipway.pipeline.workspace import Workspace
from slipway.stages.fetch import fetch
from slipway.stages.quantize import quantize
from slipway.store.artifacts import Checkpoint
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from tests.oracles.input_amax import input_amaxes
from tests.oracles.modelopt_oracle import Job, differences, export
from tests.support.write_whole import write_whole

WHOLE = os.environ.get("SLIPWAY_SOAK_FORMATS") == "all"
LAYERS = 5  # of thirty


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    out = tmp_path_factory.mktemp("smollm2")
    cache = Path(StoreConfig().cache).expanduser()
    fetch(ModelConfig(), Workspace(out, tmp_path_factory.mktemp("work"), cache, Progress()))
    seal(out, "checkpoint", "k", {})
    return load(Checkpoint, out)


@pytest.fixture(scope="module")
def model(fetched, tmp_path_factory):
    """The published weights of the embedding and of the first layers."""
    if WHOLE:
        return fetched
    out = tmp_path_factory.mktemp("first-layers")
    for file in fetched.path.iterdir():
        if file.name != "manifest.json" and file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
    (weights,) = (load_file(file) for file in fetched.path.glob("*.safetensors"))
    left_out = tuple(f"model.layers.{layer}." for layer in range(LAYERS, config["num_hidden_layers"]))
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(left_out)}
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
    seal(out, "checkpoint", "first-layers", {})
    return load(Checkpoint, out)


def test_the_fetched_model_speaks(fetched):
    tokenizer, network = AutoTokenizer.from_pretrained(fetched.path), AutoModelForCausalLM.from_pretrained(fetched.path)
    assert tokenizer.tokenize("in 2026") == ["in", "Ġ", "2", "0", "2", "6"]
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        answer = network.generate(**ids, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, ids["input_ids"].shape[1] :])


def test_equal_to_modelopt_bit_for_bit(tmp_path, model):
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    tokens = tuple(
        tuple(tokenizer(text).input_ids)
        for text in ("The capital of France is Paris.", "for i in range(10):\n    print(i)")
    )
    inputs, kv = input_amaxes(model.path, tokens)
    # every format on a pico model is in tests/flow; the weights of the other two are those of these
    static = ("nvfp4", "fp8")
    formats = (*static, "nvfp4a16", "fp8-dynamic") if WHOLE else static
    theirs = {fmt: tmp_path / f"theirs-{fmt}" for fmt in formats}
    export(
        *(Job(fmt, model.path, theirs[fmt], tokens if fmt in static else (), kv_cache=fmt in static) for fmt in formats)
    )
    for fmt in formats:
        ours = write_whole(model.path, tmp_path / f"ours-{fmt}", fmt, amaxes=inputs, kv=kv if fmt in static else {})
        assert differences(ours, theirs[fmt]) == []


@pytest.mark.parametrize("fmt", ["nvfp4a16", "fp8-dynamic"])
def test_streamed_equals_whole(tmp_path, model, fmt):
    out = tmp_path / "streamed"
    out.mkdir()
    quantize(model, None, QuantizeConfig(format=fmt, max_shard_gb=0.02), Workspace(out, tmp_path, tmp_path, Progress()))
    assert differences(out, write_whole(model.path, tmp_path / "whole", fmt)) == []
