"""What a pass on CUDA writes is what nvidia-modelopt writes on the CPU, its reference arithmetic, bit for bit.

On CUDA modelopt divides by constants as products with their inverses, so that its own scales there differ from its own
on the CPU in the last bit: it cannot be the reference. Input scales come out of a network's matmuls, whose last bits
the devices do not share: formats with static ones are compared on the CPU (tests/flow, tests/lab).
"""

import pytest

from slipway.config.quantize import QuantizeConfig
from slipway.quantization.formats import FORMATS
from slipway.streaming.directories import quantize_directory
from slipway.system.progress import Progress
from tests.oracles.modelopt_oracle import Job, differences, export
from tests.support.pico import pico_model

CHECKED = ("nvfp4a16", "fp8-dynamic")  # MXFP4's ties differ by intent: tests/flow/test_modelopt_parity.py


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("pico") / "model", seed=3, shards=2, tied=False)


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("theirs")
    export(*(Job(fmt, model, root / fmt) for fmt in CHECKED))
    return root


@pytest.mark.parametrize("fmt", CHECKED)
def test_equal_to_modelopt_bit_for_bit(model, theirs, tmp_path, fmt):
    assert FORMATS[fmt].activations != "static"
    quantize_directory(model, None, None, tmp_path / "ours", QuantizeConfig(format=fmt, device="cuda"), Progress())
    assert differences(tmp_path / "ours", theirs / fmt) == []
