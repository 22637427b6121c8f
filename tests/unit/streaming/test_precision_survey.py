"""The ladder from measurement to disk: errors are those of the formats, the budget holds on disk, the choice is on
record."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.config.quantize import QuantizeConfig
from slipway.errors import ConfigError
from slipway.quantization.formats import FORMATS
from slipway.streaming.directories import quantize_directory
from slipway.system.progress import Progress
from tests.support.pico import pico_adapter, pico_model

CALIBRATION = {"samples": 4, "length": 32}
BAD = "model.layers.2.mlp.down_proj"


@pytest.fixture
def model(tmp_path):
    """One weight is the worst for NVFP4: one number in sixteen takes the scale, and all others round to zero."""
    folder = pico_model(tmp_path / "model", tied=False)
    tensors = load_file(folder / "model.safetensors")
    weight = tensors[f"{BAD}.weight"]
    tensors[f"{BAD}.weight"] = torch.full_like(weight, 0.02).index_fill_(1, torch.arange(0, weight.shape[1], 16), 0.5)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"text": f"{i} green bottles hanging on the wall. " * 4}) + "\n" for i in range(8))
    )
    return file


def run(tmp_path, model, rows=None, adapter=None, **params):
    out = tmp_path / "out"
    return quantize_directory(
        model, adapter, rows, out, QuantizeConfig(calibration=CALIBRATION, **params), Progress()
    ), out


def chosen(out):
    return {
        module: row["chosen"] for row in json.loads((out / "precision.json").read_text()) for module in row["modules"]
    }


@pytest.mark.parametrize("layout, upper", [("modelopt", "bf16"), ("compressed-tensors", "fp8-dynamic")])
def test_without_calibration(tmp_path, model, layout, upper):
    figures, out = run(
        tmp_path, model, layout=layout, max_bits=5.5, adapter=pico_adapter(tmp_path / "adapter", targets=["q_proj"])
    )
    formats = chosen(out)
    assert formats[BAD] == upper and 4.5 <= figures["bits_per_parameter"] <= 5.6
    assert {formats[f"model.layers.0.self_attn.{m}_proj"] for m in "qkv"} == {
        formats["model.layers.0.self_attn.q_proj"]
    }


def test_errors_are_those_of_the_format(tmp_path, model):
    _, out = run(tmp_path, model, layout="compressed-tensors", max_bits=5.5)
    row = next(row for row in json.loads((out / "precision.json").read_text()) if row["modules"] == [BAD])
    weight = load_file(model / "model.safetensors")[f"{BAD}.weight"]
    for name in ("nvfp4a16", "fp8-dynamic"):
        fmt = FORMATS[name]
        scale = fmt.scale(weight.abs().amax())
        error = weight.float() - fmt.decode(fmt.encode(weight, scale), scale)
        assert row["errors"][name] == pytest.approx(
            float(error.square().sum() / weight.float().square().sum()), rel=1e-5
        )
    assert row["errors"]["bf16"] == 0.0


def test_with_calibration_the_upper_rung_has_input_scales(tmp_path, model, rows):
    figures, out = run(tmp_path, model, rows, format="nvfp4", max_bits=6.5)
    fp8 = [module for module, fmt in chosen(out).items() if fmt == "fp8"]
    tensors = load_file(out / "model.safetensors")
    assert fp8 and figures["calibration_tokens"] == 128
    assert all(
        tensors[f"{m}.input_scale"].dtype == torch.float32 and tensors[f"{m}.weight"].dtype == torch.float8_e4m3fn
        for m in fp8
    )
    document = json.loads((out / "hf_quant_config.json").read_text())["quantization"]
    assert document["quant_algo"] == "MIXED_PRECISION"


def test_a_budget_below_the_format_is_refused_before_anything_is_written(tmp_path, model):
    with pytest.raises(ConfigError, match=r"max_bits: 4\.2; expected at least 4\.500"):
        run(tmp_path, model, max_bits=4.2)
    assert not list((tmp_path / "out").glob("*.safetensors*"))
