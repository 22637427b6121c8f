"""Roundings by hand, and where in a layer they are put."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slipway.calibration.kernel_rounding import head_rounding, layer_rounding, rounded
from slipway.calibration.rounding_kinds import KernelRounding


def test_blocks_of_eight_bits_have_a_scale_in_half_precision():
    x = torch.zeros(2, 64)
    x[0, :4] = torch.tensor([127.0, 0.4, -0.6, 63.5])
    x[1, 32] = 1.0
    out = rounded(x, "q8_0")
    assert out[0, :4].tolist() == [127.0, 0.0, -1.0, 64.0]  # ties to even
    scale = float(torch.tensor(1 / 127).half())
    assert out[1, 32].item() == pytest.approx(127 * scale) != 1.0
    assert out[1, :32].eq(0).all()
    assert torch.equal(rounded(x[:, :33], "q8_0"), x[:, :33])  # no whole block


def test_float_formats():
    x = torch.tensor([[1 + 2.0**-9, 448.0, -1000.0, 2.0**-30]])
    assert rounded(x, "none") is x
    assert rounded(x, "bf16")[0].tolist() == [1.0, 448.0, -1000.0, 2.0**-30]
    assert rounded(x, "fp16")[0].tolist() == [1 + 2.0**-9, 448.0, -1000.0, 0.0]
    assert rounded(x, "fp8", torch.tensor(1.0))[0].tolist() == [1.0, 448.0, -448.0, 0.0]
    by_token = rounded(x, "fp8-token")
    assert by_token[0, 2].item() == pytest.approx(-1000.0)
    assert torch.equal(by_token, rounded(x, "fp8"))  # no static scale


def test_four_bits_with_a_static_scale_and_without():
    x = torch.tensor([[6.0, 5.1, 0.3, -0.2] * 4])
    assert rounded(x, "nvfp4", torch.tensor(1.0))[0, :4].tolist() == [6.0, 6.0, 0.5, 0.0]  # 5 is the tie of 4 and 6
    assert rounded(x, "nvfp4")[0, :2].tolist() == pytest.approx([6.0, 6.0], rel=1e-2)
    assert rounded(x.bfloat16(), "nvfp4").dtype == torch.bfloat16


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.plain, self.coded = nn.Linear(32, 32, bias=False), nn.Linear(32, 32)
        self.stack = nn.Parameter(torch.randn(2, 32, 32, generator=draw))

    def forward(self, x):
        return functional.linear(self.plain(x), weight=self.coded.weight) @ self.stack[1] + x @ x.mT @ x


@torch.no_grad()
def test_products_with_parameters_read_rounded_inputs_and_others_do_not():
    layer, x = Layer(), torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    rounding = KernelRounding(inputs="bf16", quantized="q8_0")
    with layer_rounding(layer, rounding, {"coded.weight": None}):
        out = layer(x)
    first = rounded(x, "bf16") @ layer.plain.weight.T
    second = rounded(first, "q8_0") @ layer.coded.weight.T
    torch.testing.assert_close(out, rounded(second, "bf16") @ layer.stack[1] + x @ x.mT @ x)
    assert torch.equal(layer(x), layer(x)) and not torch.equal(layer(x), out)


@torch.no_grad()
def test_results_are_rounded_where_asked_and_a_static_scale_is_used():
    layer, x = Layer(), torch.full((1, 32), 1000.0)
    with layer_rounding(layer, KernelRounding(quantized="fp8", results="bf16"), {"plain.weight": torch.tensor(1.0)}):
        out = layer.plain(x)
    assert torch.equal(out, rounded(torch.full((1, 32), 448.0) @ layer.plain.weight.T, "bf16"))


@torch.no_grad()
def test_the_head_reads_rounded_inputs_and_its_logits_stay():
    head, x = nn.Linear(32, 5, bias=False), torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    with head_rounding(KernelRounding(inputs="bf16", results="bf16")):
        out = head(x)
    torch.testing.assert_close(out, rounded(x, "bf16") @ head.weight.T)


def test_attention_reads_rounded_queries_keys_and_values():
    layer, seen = Layer(), []

    def attend(_module, query, key, value):
        seen.extend((query, key, value))

    x = torch.full((1, 1, 2, 4), 1 + 2.0**-13)
    with layer_rounding(layer, KernelRounding(attention="fp16"), {}):
        ALL_ATTENTION_FUNCTIONS.get_interface("eager", attend)(layer, x, x, x)
    assert [state.eq(1).all().item() for state in seen] == [True] * 3
    ALL_ATTENTION_FUNCTIONS.get_interface("eager", attend)(layer, x, x, x)
    assert seen[3] is x
