"""Eager or compiled, on the CPU or on CUDA: the same bytes, file by file, for every format."""

import hashlib
import json

import pytest
import torch

from slipway.config.quantize import QuantizeConfig
from slipway.quantization.formats import FORMATS
from slipway.streaming.directories import quantize_directory
from slipway.system.progress import Progress
from tests.oracles.modelopt_oracle import identical, tensors
from tests.support.adversarial import adversarial_model, attention_adapter
from tests.support.pico import pico_adapter, pico_model

WAYS = {f"{device}-{mode}": (device, mode) for device in ("cpu", "cuda") for mode in ("off", "on")}
CALIBRATION = {"samples": 2, "length": 32, "micro_batch": 1}


@pytest.fixture(scope="module", params=["pico", "adversarial", "adversarial-merged"])
def inputs(request, tmp_path_factory):
    """Model, adapter and calibration rows."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "pico":
        model, adapter = pico_model(root / "model", shards=2, tied=False), pico_adapter(root / "adapter", alpha=6)
    else:
        model = adversarial_model(root / "model")
        adapter = attention_adapter(root / "adapter") if request.param.endswith("merged") else None
    rows = root / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"text": f"{i} bottles of beer on the wall, {i} bottles of beer. " * 3}) + "\n" for i in range(8)
        )
    )
    return model, adapter, rows


@pytest.fixture(scope="module", params=FORMATS)
def made(request, inputs, tmp_path_factory):
    """The four results of one format."""
    model, adapter, rows = inputs
    fmt, root = request.param, tmp_path_factory.mktemp("made")
    calibration = rows if FORMATS[fmt].activations == "static" else None
    layout = "compressed-tensors" if fmt == "mxfp4" else "modelopt"
    for way, (device, mode) in WAYS.items():
        params = QuantizeConfig(
            format=fmt, layout=layout, device=device, compile=mode, calibration=CALIBRATION, max_shard_gb=0.05
        )
        figures = quantize_directory(model, adapter, calibration, root / way, params, Progress())
        assert figures["device"] == device and figures["kernels"] == ("compiled" if mode == "on" else "eager: as asked")
    return fmt, root


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_compiled_is_eager_on_one_device(made, device):
    assert digests(made[1] / f"{device}-off") == digests(made[1] / f"{device}-on")


def test_cpu_is_cuda(made):
    """Input scales come out of matmuls of the network, whose sums each device orders its own way; all else is bit for
    bit."""
    fmt, root = made
    if FORMATS[fmt].activations != "static":
        assert digests(root / "cpu-off") == digests(root / "cuda-off")
        return
    a, b = tensors(root / "cpu-off"), tensors(root / "cuda-off")
    assert a.keys() == b.keys()
    measured = {name for name in a if name.endswith("input_scale")}
    assert measured
    assert [name for name in sorted(a) if name not in measured and not identical(a[name], b[name])] == []
    for name in measured:
        assert torch.isclose(a[name], b[name], rtol=0.05), (name, a[name], b[name])


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
