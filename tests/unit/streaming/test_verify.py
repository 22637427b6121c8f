"""Bytes on disk against the formats' labels."""

import pytest
import torch

from slipway.errors import CheckpointError
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.streaming.source_model import Model
from slipway.streaming.tensor_plan import Plan, make_plan
from slipway.streaming.verify import check_bits
from slipway.weights.shards import Shards, TensorInfo
from tests.support.pico import pico_model
from tests.support.streaming import calibration_rows, quantized

CALIBRATED = ("nvfp4", "fp8")
NAME = "model.layers.0.mlp.up_proj"


class Headers:
    """Names, dtypes and shapes; no bytes."""

    def __init__(self, **infos):
        self.metadata, self.infos = {}, {name: TensorInfo(dtype, shape) for name, (dtype, shape) in infos.items()}

    def names(self):
        return list(self.infos)

    def info(self, name):
        return self.infos[name]

    def read(self, name):
        pytest.fail(f"{name} was read")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("model") / "base", layers=2)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return calibration_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


def planned(base, fmt):
    model = Model(Shards.open(base), base, {})
    return make_plan(model.source, FORMATS[fmt], ["lm_head"], weights=model.weights())


@pytest.mark.parametrize(
    "fmt, bits", [("nvfp4a16", 4.5), ("mxfp4", 4.25), ("fp8-dynamic", 8 + 4 / 9), ("nvfp4", 4.5), ("fp8", 8.0)]
)
def test_bits_on_disk_are_the_formats(tmp_path, base, rows, fmt, bits):
    out = quantized(
        base, tmp_path / "out", format=fmt, **({"calibration": rows, "kv_cache": "fp8"} if fmt in CALIBRATED else {})
    )
    plan = planned(base, fmt)
    layout = LAYOUTS["compressed-tensors" if fmt == "mxfp4" else "modelopt"]
    assert check_bits(Shards.open(out), Shards.open(base), plan, layout) == pytest.approx(bits)


def test_a_label_that_lies_about_its_bytes_is_caught(tmp_path, base):
    """What went wrong elsewhere: labelled NVFP4, written as FP8."""
    source, layout = Shards.open(base), LAYOUTS["modelopt"]
    lie, truth = (planned(base, fmt) for fmt in ("nvfp4a16", "fp8-dynamic"))
    written = Shards.open(quantized(base, tmp_path / "out", format="fp8-dynamic"))
    assert check_bits(written, source, truth, layout) == pytest.approx(8.4, abs=0.1)
    with pytest.raises(CheckpointError, match=r"labelled nvfp4a16: 8\.\d+ bits per parameter; expected 4\.5"):
        check_bits(written, source, lie, layout)


def headers(packed, scales):
    """A weight of 128 x 64 in NVFP4: 2 codes a byte, a scale byte per 16."""
    written = {
        f"{NAME}.weight": (torch.uint8, packed),
        f"{NAME}.weight_scale": (torch.float8_e4m3fn, scales),
        f"{NAME}.weight_scale_2": (torch.float32, ()),
    }
    return Headers(**written), Headers(**{f"{NAME}.weight": (torch.bfloat16, (128, 64))})


def test_headers_alone_decide_and_scalars_do_not_count():
    plan = Plan({f"{NAME}.weight": FORMATS["nvfp4a16"]}, [], [])
    assert check_bits(*headers((128, 32), (128, 4)), plan, LAYOUTS["modelopt"]) == 4.5


@pytest.mark.parametrize("packed, scales, bits", [((128, 64), (128, 4), "8.500"), ((128, 32), (128, 8), "5.000")])
def test_a_weight_or_scales_of_another_size_are_refused_by_name(packed, scales, bits):
    plan = Plan({f"{NAME}.weight": FORMATS["nvfp4a16"]}, [], [])
    with pytest.raises(
        CheckpointError, match=rf"{NAME}\.weight, labelled nvfp4a16: {bits} bits per parameter; expected 4\.5"
    ):
        check_bits(*headers(packed, scales), plan, LAYOUTS["modelopt"])


def test_nothing_quantized_has_no_bits(base):
    source = Shards.open(base)
    assert check_bits(source, source, Plan({}, source.names(), []), LAYOUTS["modelopt"]) == 0
