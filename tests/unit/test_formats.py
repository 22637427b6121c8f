"""Formats: FP8 by hand, fused groups, and config documents whose every key the consumers know."""

import json
from pathlib import Path

import pytest
import torch

from slipway.formats import FORMATS, groups, quantization_configs
from slipway.shards import TensorInfo

CONTRACTS = Path(__file__).parents[1] / "contracts" / "trtllm"
NAMES = [
    f"model.layers.{i}.{m}.weight"
    for i in (0, 1)
    for m in ("mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj")
]


def test_fp8_golden_bytes():
    fp8 = FORMATS["fp8"]
    scale = fp8.scale(torch.tensor(448.0))
    assert float(scale) == 1.0
    row = torch.tensor([[448.0, -448, 1, -0.0, 1.0625, 1.1875, 2**-9, 2**-10, 3 * 2**-10, 500]], dtype=torch.bfloat16)
    got = fp8.encode(row, scale)["weight"].view(torch.uint8).tolist()
    # ties to even: 1.0625 -> 1.0, 1.1875 -> 1.25; subnormals count in 2^-9: 0.5 -> 0, 1.5 -> 2; 500 rounds to 512, out of range
    assert got[0][:9] == [0x7E, 0xFE, 0x38, 0x80, 0x38, 0x3A, 0x01, 0x00, 0x02]
    assert fp8.decode(fp8.encode(row[:, :9], scale), scale).tolist()[0] == [448, -448, 1, 0, 1, 1.25, 2**-9, 0, 2**-8]


def test_fp8_scale_reaches_the_largest_value():
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    fp8 = FORMATS["fp8"]
    scale = fp8.scale(weight.abs().amax())
    assert float(fp8.encode(weight, scale)["weight"].float().abs().max()) == 448.0


@pytest.mark.parametrize("name", FORMATS)
def test_a_zero_weight_stays_zero(name):
    fmt, weight = FORMATS[name], torch.zeros(2, 16, dtype=torch.bfloat16)
    scale = fmt.scale(weight.abs().amax())
    assert fmt.decode(fmt.encode(weight, scale), scale).tolist() == weight.tolist()


def test_nvfp4_shares_a_scale_over_what_a_runtime_fuses():
    assert groups(NAMES, FORMATS["nvfp4"]) == [
        [NAMES[0], NAMES[1]], [NAMES[2], NAMES[4]], [NAMES[3]], [NAMES[5], NAMES[6]], [NAMES[7], NAMES[9]], [NAMES[8]],
    ]  # fmt: skip


def test_fp8_has_a_scale_for_each():
    assert groups(NAMES, FORMATS["fp8"]) == [[name] for name in NAMES]


@pytest.mark.parametrize("name", FORMATS)
def test_consumers_know_every_key_and_algorithm(name):
    known = {field["name"] for field in json.loads((CONTRACTS / "QuantConfig.json").read_text())["fields"]}
    algorithms = json.loads((CONTRACTS / "QuantAlgo.json").read_text())
    config, document = quantization_configs(FORMATS[name], ["lm_head"], "1")
    assert set(document["quantization"]) <= known
    assert document["quantization"]["quant_algo"] in algorithms["modelopt_export_quant_algo"]
    assert (config["ignore"], config["quant_method"]) == (document["quantization"]["exclude_modules"], "modelopt")


@pytest.mark.parametrize("name", FORMATS)
def test_outputs_are_what_encode_makes(name):
    fmt, weight = FORMATS[name], torch.randn(6, 32).to(torch.bfloat16)
    made = fmt.encode(weight, fmt.scale(weight.abs().amax()))
    planned = fmt.outputs(TensorInfo(weight.dtype, tuple(weight.shape)))
    assert {k: (v.dtype, tuple(v.shape)) for k, v in made.items()} == {k: (v.dtype, v.shape) for k, v in planned.items()}
    assert 8 * sum(v.nbytes for v in planned.values()) / weight.numel() == fmt.bits
