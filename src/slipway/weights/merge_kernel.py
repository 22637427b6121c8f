"""The correctly rounded merge of a band of rows on a CPU in one compiled loop: `merge_kernel.cpp`.

Torch reads and writes a band several times, once an operation, and decides what fp32 leaves open in NumPy and fp64
operations of their own. Here the product of four rows stays in registers, is added and rounded at both ends of its
error, and what is open is decided in fp64 on the spot; only what fp64 leaves open, 1 element in 10^7, comes back. The
result is the correctly rounded one on either way, so the bytes are the same (`slipway.weights.rounded_merge`).
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from slipway.system.native_code import library
from slipway.weights.rounded_merge import Factors, Open, merge, settle
from slipway.weights.shards import LowRank

SOURCE = Path(__file__).with_suffix(".cpp")
_PANEL = 1024  # columns, as in the source
_ROOM = 1024  # open elements that are listed at a time


class MergeKernel:
    """The compiled loop with the memory that it works in. Each thread needs its own."""

    def __init__(self, compiled: ctypes.CDLL) -> None:
        self._merge, self._largest = compiled.slipway_merge, compiled.slipway_largest
        self._panel = torch.empty(0)
        self._open = torch.empty(_ROOM, dtype=torch.int64)
        self._most = torch.empty(1, dtype=torch.bfloat16)

    def factors(self, update: LowRank) -> Factors:
        """Factors in fp32 for any rank: what that leaves open is decided where it arises."""
        return Factors.of(update, torch.device("cpu"), narrow=True)

    def add(
        self, weight: torch.Tensor, factors: Factors, begin: int, out: torch.Tensor
    ) -> tuple[torch.Tensor, list[Open]]:
        """out = the merge of a band, but for what is returned.

        weight floating [R, I], as stored; `begin`: the band's first row in the whole weight; out bf16 [R, I],
        contiguous and apart from weight. Returns max|out|, fp32 scalar, NaN and Inf coming through, and what is still
        open.
        """
        rows, columns = out.shape
        end, rank = begin + rows, factors.a.shape[0]
        is_bf16 = weight.dtype == torch.bfloat16
        stored = (weight if is_bf16 else weight.float()).contiguous()
        a, exact = factors.a.contiguous(), factors.update.b[begin:end].contiguous()
        scaled, bound = factors.b[begin:end].contiguous(), factors.bound[begin:end].contiguous()
        if self._panel.numel() < rank * _PANEL:
            self._panel = torch.empty(rank * _PANEL)

        def run() -> int:
            pointers = (_pointer(tensor) for tensor in (a, exact, scaled, bound))
            sizes = (ctypes.c_int64(n) for n in (rows, columns, rank))
            room = ctypes.c_int64(len(self._open))
            return int(
                self._merge(
                    _pointer(stored), ctypes.c_int32(is_bf16), *pointers, ctypes.c_double(factors.update.scaling),
                    *sizes, _pointer(self._panel), _pointer(out), _pointer(self._open), room, _pointer(self._most),
                )
            )  # fmt: skip

        count = run() if out.numel() else 0
        if count > len(self._open):
            self._open = torch.empty(count, dtype=torch.int64)
            run()
        at = self._open[:count].clone()
        largest = self._most[0].float() if out.numel() else torch.zeros(())
        return largest, [Open(at + begin * columns, stored.view(-1)[at].float())] if count else []

    def largest(self, rows: torch.Tensor) -> torch.Tensor:
        """Largest magnitude of bf16 values, fp32 scalar; NaN and Inf come through."""
        values = rows.contiguous()
        bits = self._largest(_pointer(values), ctypes.c_int64(values.numel()))
        return torch.tensor(bits, dtype=torch.int16).view(torch.bfloat16).float()


def merge_kernel() -> MergeKernel | None:
    """The compiled loop for one thread; None where it cannot be compiled, or merges otherwise than torch does."""
    compiled = library(SOURCE)
    if compiled is None:
        return None
    compiled.slipway_merge.restype, compiled.slipway_largest.restype = ctypes.c_int64, ctypes.c_uint16
    return MergeKernel(compiled) if _is_right(compiled) else None


@functools.cache
def _is_right(compiled: ctypes.CDLL) -> bool:
    """Whether it gives torch's bytes, tried on weights with zeros and columns that fill no tile."""
    random, kernel = torch.Generator().manual_seed(0), MergeKernel(compiled)
    a, b = torch.randn(9, 200, generator=random), torch.randn(37, 9, generator=random)
    update, weight = LowRank(a, b, 1 / 3), torch.randn(37, 200, generator=random).to(torch.bfloat16)
    weight[3], b[4] = 0, 0
    out, factors = torch.empty_like(weight), kernel.factors(update)
    largest, opens = kernel.add(weight, factors, 0, out)
    if opens:
        settle(out, 0, factors, opens)
    want = merge(weight, update)
    return torch.equal(out.view(torch.int16), want.view(torch.int16)) and bool(largest == want.abs().amax())


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
