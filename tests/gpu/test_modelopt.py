"""On CUDA, what a quantized pass writes is what nvidia-modelopt writes on CUDA, input scales included."""

import json

import pytest

from slipway.calibration import calibration_tokens
from slipway.config import CalibrationConfig, QuantizeConfig
from slipway.formats import FORMATS
from slipway.progress import Progress
from slipway.standalone import quantize_directory
from tests.modelopt_oracle import Job, differences, export
from tests.pico import pico_model

CALIBRATION = CalibrationConfig(samples=4, length=48, micro_batch=1)
CHECKED = ("nvfp4", "nvfp4a16", "fp8", "fp8-dynamic")  # MXFP4's ties differ by intent: tests/flow/test_modelopt_parity.py


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = pico_model(tmp_path_factory.mktemp("pico") / "model", seed=3, shards=2, tied=False)
    rows = [{"text": f"{i} little numbers, and {i * i} larger ones. "} for i in range(20)]
    (out.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("theirs")
    tokens = calibration_tokens(model.parent / "rows.jsonl", model, CALIBRATION).tolist()
    used = {fmt: tokens if FORMATS[fmt].activations == "static" else () for fmt in CHECKED}
    export(*(Job(fmt, model, root / fmt, used[fmt], device="cuda") for fmt in CHECKED))
    return root


@pytest.mark.parametrize("fmt", CHECKED)
def test_equal_to_modelopt_bit_for_bit(model, theirs, tmp_path, fmt):
    rows = model.parent / "rows.jsonl" if FORMATS[fmt].activations == "static" else None
    params = QuantizeConfig(format=fmt, device="cuda", calibration=CALIBRATION)
    quantize_directory(model, None, rows, tmp_path / "ours", params, Progress())
    assert differences(tmp_path / "ours", theirs / fmt) == []
