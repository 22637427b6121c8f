"""One NaN or Inf among the weights is found on CUDA, eager or compiled, and its tensor is named."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.config.quantize import QuantizeConfig
from slipway.errors import CheckpointError
from slipway.streaming.directories import quantize_directory
from slipway.system.progress import Progress
from tests.support.pico import pico_adapter, pico_model


@pytest.mark.parametrize("compiled", ["off", "on"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["model.layers.2.mlp.down_proj.weight", "model.layers.1.self_attn.v_proj.weight", "lm_head.weight"]
)
def test_named(tmp_path, compiled, value, name):
    model, adapter = pico_model(tmp_path / "model", tied=False), pico_adapter(tmp_path / "adapter", targets=("v_proj",))
    tensors = load_file(model / "model.safetensors")
    tensors[name][17, 5] = value
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    assert not torch.isfinite(tensors[name]).all()
    with pytest.raises(CheckpointError, match=name):
        quantize_directory(
            model, adapter, None, tmp_path / "out", QuantizeConfig(device="cuda", compile=compiled), Progress()
        )
