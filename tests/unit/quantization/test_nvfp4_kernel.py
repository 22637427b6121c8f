"""The compiled NVFP4 loop makes torch's bytes: of every finite bf16 number, of zeros, subnormals and ties."""

import ctypes
import shutil

import pytest
import torch

from slipway.quantization import nvfp4_kernel as module
from slipway.quantization.formats import FORMATS
from slipway.quantization.nvfp4_kernel import nvfp4_kernel
from slipway.system import native_code

pytestmark = pytest.mark.skipif(native_code.compiler() is None, reason="needs a C++ compiler")
FORMAT = FORMATS["nvfp4"]
ALL = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
FINITE = ALL[ALL.isfinite()]
SHUFFLED = FINITE[torch.randperm(len(FINITE), generator=torch.Generator().manual_seed(0))]
TIES = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, -0.25, -0.75, -1.25, -2.5, -5.0, -0.0, 0.125, -0.125])
WEIGHTS = {
    "every number": SHUFFLED.reshape(-1, 64),
    "in order": FINITE.reshape(-1, 48),
    "numbers of a model": torch.randn(37, 528, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16),
    "subnormal": SHUFFLED[SHUFFLED.abs() < 2.0**-120][:2048].reshape(-1, 64),
    "ties": torch.stack([TIES * 2.0**-e for e in range(30)]).to(torch.bfloat16),
    "zeros": torch.zeros(3, 32, dtype=torch.bfloat16),
    "one block": torch.randn(1, 16, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16),
}


@pytest.fixture(scope="module")
def encode():
    encode = nvfp4_kernel()
    assert encode is not None
    return encode


@pytest.mark.parametrize("what", WEIGHTS)
@pytest.mark.parametrize("factor", [1.0, 3.0, 1e-3])
def test_it_makes_torchs_bytes(encode, what, factor):
    """`factor`: scales as they are for a group whose largest magnitude lies elsewhere."""
    weight = WEIGHTS[what]
    scale = FORMAT.scale(weight.abs().amax()) * factor
    eager, ours = FORMAT.encode(weight, scale), encode(weight, scale)
    assert eager.keys() == ours.keys()
    for role, tensor in eager.items():
        assert tensor.dtype == ours[role].dtype and torch.equal(tensor.view(torch.uint8), ours[role].view(torch.uint8))


def test_rows_that_are_not_contiguous(encode):
    weight = WEIGHTS["numbers of a model"]
    ours, want = encode(weight[::2, 16:48], torch.tensor(0.001)), FORMAT.encode(weight[::2, 16:48], torch.tensor(0.001))
    assert torch.equal(ours["weight"], want["weight"])


def test_without_a_compiler_there_is_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert nvfp4_kernel() is None


def test_a_loop_that_rounds_otherwise_is_not_used(tmp_path, monkeypatch):
    wrong = tmp_path / "nvfp4_kernel.cpp"
    wrong.write_text(module.SOURCE.read_text().replace("0x1p22f", "0x1p23f"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "SOURCE", wrong)
    assert isinstance(native_code.library(wrong), ctypes.CDLL) and nvfp4_kernel() is None
