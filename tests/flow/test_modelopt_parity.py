"""Every tensor and config document that we write for the pico model is what nvidia-modelopt writes."""

import pytest

from slipway.artifacts import Checkpoint, load, seal
from slipway.config import QuantizeConfig
from slipway.jobs import Workspace
from slipway.progress import Progress
from slipway.quantize import quantize
from tests.modelopt_oracle import differences, export
from tests.pico import pico_model

CASES = [(fmt, tied) for fmt in ("nvfp4", "fp8") for tied in (True, False)]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    root = tmp_path_factory.mktemp("modelopt")
    for tied in (True, False):
        seal(pico_model(root / f"model-{tied}", tied=tied, seed=3, shards=2), "checkpoint", "k", {})
    export(*((fmt, root / f"model-{tied}", root / f"{fmt}-{tied}") for fmt, tied in CASES))
    return root


@pytest.mark.parametrize("fmt, tied", CASES)
def test_equal_to_modelopt_bit_for_bit(tmp_path, theirs, fmt, tied):
    checkpoint = load(Checkpoint, theirs / f"model-{tied}")
    quantize(checkpoint, QuantizeConfig(format=fmt), Workspace(tmp_path, tmp_path, tmp_path, Progress()))
    assert differences(tmp_path, theirs / f"{fmt}-{tied}") == []
