"""The whole pass compiled for the CPU writes the files that it writes eagerly; compiling takes seconds, so once for
all."""

import pytest
import torch

from slipway.quantization.compiled import Kernels
from tests.support.pico import pico_adapter, pico_model
from tests.support.streaming import calibration_rows, files, quantized

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # torch's compiler imports what torch deprecates


@pytest.mark.parametrize(
    "settings", [{"format": "nvfp4a16"}, {"format": "nvfp4", "kv_cache": "fp8"}, {"format": "fp8-dynamic"}], ids=str
)
def test_compiled_equals_eager(tmp_path, settings):
    base = pico_model(tmp_path / "base", layers=2, shards=2)
    adapter = pico_adapter(tmp_path / "adapter", layers=range(2), rank=12, alpha=7)
    settings = {"adapter": adapter, "calibration": calibration_rows(tmp_path / "rows.jsonl"), "workers": 3, **settings}
    eager, compiled = (quantized(base, tmp_path / mode, compile=mode, **settings) for mode in ("off", "on"))
    assert files(compiled) == files(eager) and Kernels(torch.device("cpu"), "on", 0).compiled
