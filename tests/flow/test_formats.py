"""Compiled for the CPU, every format makes the bytes that it makes eagerly: of each finite bf16 number, and of
zeros."""

import pytest
import torch

from slipway.quantization.compiled import Kernels
from slipway.quantization.formats import FORMATS

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # torch's compiler imports what torch deprecates

_ALL = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
_FINITE = _ALL[_ALL.isfinite()]  # 65280, subnormals among them
_SHUFFLED = _FINITE[torch.randperm(len(_FINITE), generator=torch.Generator().manual_seed(0))]
WEIGHTS = {
    "every number": _SHUFFLED.reshape(-1, 64),
    "numbers of a model": torch.randn(64, 512, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16),
    "subnormal": (_SHUFFLED[_SHUFFLED.abs() < 2.0**-120][:2048]).reshape(-1, 64),
    "zeros": torch.zeros(3, 64, dtype=torch.bfloat16),
}


@pytest.fixture(scope="module")
def kernels():
    kernels = Kernels(torch.device("cpu"), "on", 0)
    assert kernels.compiled, kernels.why
    return kernels


@pytest.mark.parametrize("fmt", [*FORMATS.values(), FORMATS["fp8"].stacked()], ids=[*FORMATS, "fp8 stacked"])
def test_compiled_equals_eager(kernels, fmt):
    compiled = kernels(fmt.encode)
    for what, weight in WEIGHTS.items():
        scale = fmt.scale(weight.abs().amax())
        eager, other = fmt.encode(weight, scale), compiled(weight, scale)
        for role, tensor in eager.items():
            assert torch.equal(tensor.view(torch.uint8), other[role].view(torch.uint8)), (what, role)
