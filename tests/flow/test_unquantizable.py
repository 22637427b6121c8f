"""Why Conv1D and Granite-MoE's stacked experts stay in bf16: written quantized, transformers does not read them back.

Should a release of it do so, these tests fail, and the two can be quantized.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.families import model_class, write_family

_WEIGHTS = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False}
_CASES = {
    "gpt2": ("Conv1D", "c_fc.weight", lambda name, weight: {name: weight}),
    "granitemoe": (
        "Linear",
        "input_linear.weight",
        lambda name, weight: {name.replace(".weight", f".{i}.weight"): rows for i, rows in enumerate(weight)},
    ),
}


@pytest.mark.parametrize("name", _CASES)
def test_transformers_finds_no_place_for_the_scales(tmp_path, name):
    target, ending, parts = _CASES[name]
    file = write_family(name, tmp_path) / "model.safetensors"
    written = {}
    for key, weight in load_file(file).items():
        for part, rows in (parts(key, weight) if key.endswith(ending) else {}).items():
            scale = rows.float().abs().amax(1, keepdim=True) / 448
            written |= {part: (rows.float() / scale).to(torch.float8_e4m3fn), f"{part}_scale": scale}
        if not key.endswith(ending):
            written[key] = weight
    save_file(written, file, {"format": "pt"})
    group = {"targets": [f"re:.*{ending.removesuffix('.weight')}.*", target], "weights": _WEIGHTS}
    group["format"] = "float-quantized"
    document = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"]}
    document |= {"config_groups": {"group_0": group}, "quantization_status": "compressed"}
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": document}))
    _, info = model_class(name).from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    homeless = [key for key in info["unexpected_keys"] if key.endswith("_scale")]
    assert len(homeless) == sum(key.endswith("_scale") for key in written)
