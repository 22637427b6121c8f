"""The merge of a LoRA pair in whole numbers, from the definition, sharing no arithmetic with the product:

    delta = fp32(s * sum_k B[i, k] A[k, j]),   W' = bf16(fp32(W + delta)),   ties to even, a zero delta is +0

fp32 values are whole multiples of 2^-149, so that sums and products of them are Python integers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from slipway.weights.merge_proof import bf16_steps

_FP32, _BF16 = (24, -149), (8, -133)  # bits of a significand, exponent of the smallest step


def exact_merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float) -> torch.Tensor:
    """bf16 [O, I]; weight [O, I], without -0, a [r, I], b [O, r] of any floating dtype that fp32 holds."""
    numerator, denominator = scaling.as_integer_ratio()
    sums = _integers(b) @ _integers(a)  # in units of 2^-298
    lowest = -298 - (denominator.bit_length() - 1)
    merged = [
        _merged(w, numerator * total, lowest)
        for w, total in zip(_integers(weight).reshape(-1), sums.reshape(-1), strict=True)
    ]
    assert not ((weight == 0) & torch.signbit(weight)).any(), "integers know no -0"
    return torch.tensor(merged, dtype=torch.float64).to(torch.bfloat16).view(weight.shape)


def assert_nearly_fp32(ours: torch.Tensor, theirs: torch.Tensor, name: str = "") -> None:
    """Hold a merge of small tensors to one made in fp32, PEFT's: a sum in fp32, in the order of a BLAS, is off by a
    bit.

    That moves a share of 2e-6 to 2e-4 of the elements (measured) to the next bf16 value; tensors here have at most
    24,576, of which 8 are beyond chance. Weights and updates are below 4 here: where they cancel, what is left may
    differ by the fp32 error of their sum, 2^-22, which is many steps of a value next to zero.
    """
    steps, apart = bf16_steps(ours, theirs), (ours.float() - theirs.float()).abs()
    assert ours.dtype == theirs.dtype == torch.bfloat16, name
    assert ((steps <= 1) | (apart <= 2.0**-22)).all() and (steps != 0).sum() <= 8, name


def _integers(tensor: torch.Tensor) -> Any:
    """fp32 values as Python integers, in units of 2^-149."""
    ratios = (float(value).as_integer_ratio() for value in tensor.float().reshape(-1))
    flat = np.array([n * (2**149 // d) for n, d in ratios], dtype=object)
    return flat.reshape(tuple(tensor.shape))


def _merged(weight: int, product: int, exponent: int) -> float:
    delta = rounded(product, exponent, *_FP32)
    total = rounded(weight + delta, -149, *_FP32)
    return math.ldexp(rounded(total, -149, *_BF16), -133)


def rounded(value: int, exponent: int, bits: int, lowest: int) -> int:
    """value * 2^exponent rounded to `bits` significant bits, ties to even, in units of 2^lowest, the smallest step."""
    step = max(abs(value).bit_length() + exponent - bits, lowest)
    if step <= exponent:
        return value << (exponent - lowest)
    drop = step - exponent
    whole, rest = divmod(abs(value), 1 << drop)
    half = 1 << (drop - 1)
    whole += rest > half or (rest == half and whole % 2 == 1)
    return (whole if value >= 0 else -whole) << (step - lowest)
