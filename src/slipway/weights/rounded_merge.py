"""The correctly rounded merge of a low-rank update: the same bytes on every processor, for any band of rows.

    delta = fp32(s * sum_k B[i, k] A[k, j])      the exact value, rounded once to nearest, ties to even; a zero is +0
    W'    = bf16(fp32(fp32(W) + delta))          A [r, I], B [O, r], W [O, I]

A BLAS sums over k in an order that depends on the processor, the number of rows and of threads, and every order rounds
otherwise. So a product is trusted only as far as its error bound. Rounding and addition are monotone: when both ends of
the interval around a computed product give the same W', that is the W' of the exact product. Three steps of growing
precision, each for the elements that the one before left open:

1. By BLAS. In any order a sum of r products errs by at most r u sum_k |B[i, k] A[k, j]|, u = 2^-24 in fp32
   (Jeannerod and Rump, 2013), and the last sum is at most ||B[i]|| ||A[:, j]||. Leaves open about 1 element in 1,000
   (rank 16, updates a tenth of the weights); the share grows with r^1.5 in fp32, so that large ranks are multiplied in
   fp64 and rounded to fp32. On a GPU, which has bandwidth to spare and would wait for what the CPU decides, every
   product is fp64 until its error is added.
2. In fp64, where a product of two fp32 values is exact: u = 2^-53. Leaves open about 1 element in 10^7 or fewer.
3. In rational numbers. Here exact ties are decided.

A product of reduced precision (TF32, the bf16 "fast math" modes of some libraries) would break the bound of step 1: the
precision is measured for every update, and where it is not fp32's the product is made in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from slipway.weights.shards import LowRank

_U32, _U64 = 2.0**-24, 2.0**-53  # half the distance from 1 to the next fp32 and fp64
_SLACK = 1.01  # for the roundings inside the bounds themselves
_UNDERFLOW = 2.0**-125  # more than one operation can lose where a BLAS flushes subnormals to zero
_LARGE_RANK = 33  # from here fp64 products cost less than the elements that fp32 leaves open
_CHUNK = 1 << 17  # fp64 products of step 2 at a time: 1 MB stays in a core's cache
_BAND = 1 << 20  # elements of a product at a time in `merge`


@dataclass(frozen=True)
class Factors:
    """A low-rank update on the device that merges it, with the error bound of its products.

    `update` holds the exact factors on the CPU; `a` [r, I] and `b` = s * B [O, r] are fp32 or fp64 on the device;
    `bound` [O], of the product's dtype, is at least the error of every element of a row of `product`, and of the
    additions in `add_product`.
    """

    update: LowRank
    a: torch.Tensor
    b: torch.Tensor
    bound: torch.Tensor

    @classmethod
    def of(
        cls, update: LowRank, device: torch.device, *, wide: bool | None = None, narrow: bool | None = None
    ) -> Factors:
        """Factors on `device` of an update on the CPU.

        `wide`: products stay fp64; None: where the device is no CPU. `narrow`: products are made in fp32 by IEEE
        operations; None: for small ranks, where a product is measured to be fp32's.
        """
        wide = device.type != "cpu" if wide is None else wide
        rank, columns = update.a.shape
        a, b = update.a.to(device), update.b.to(device).double() * update.scaling
        # squares of fp32 values neither overflow nor vanish in fp64; `vector_norm` of columns takes 20 times as long
        row, column = b.square().sum(1).sqrt(), a.double().square_().sum(0).amax().sqrt()
        if narrow is None:
            narrow = not wide and rank < _LARGE_RANK and _is_fp32(rank, columns, device)
        # r of the sum; 1 each of s * B or of the product rounded to fp32, and of the two additions of the bound
        roundings = (rank if narrow or wide else 0) + 4
        relative = roundings * (_U64 if wide else _U32) * row * column
        absolute = (rank + 2) * _UNDERFLOW * (1 + column)
        bound = torch.where(row > 0, relative + absolute, 0.0) * _SLACK
        dtype = torch.float32 if narrow else torch.float64
        return cls(update, a.to(dtype), b.to(dtype), bound if wide else bound.float())

    def product(self, begin: int, count: int, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Rows `begin` and on of s * (B @ A), [count, I]: fp32, or fp64 where `wide`; an element is off by less than
        its row's bound. The result may be in `memory`, of its shape and dtype."""
        b = self.b[begin : begin + count]
        if memory is None or self.a.dtype != self.bound.dtype:
            return (b @ self.a).to(self.bound.dtype)
        return torch.mm(b, self.a, out=memory)


@dataclass(frozen=True)
class Open:
    """Elements of a merged weight that the error of the product leaves undecided, on the CPU."""

    index: torch.Tensor  # int64 [n], flat in the whole weight
    weight: torch.Tensor  # fp32 [n], before the merge


def _is_fp32(rank: int, columns: int, device: torch.device) -> bool:
    """Whether a product of this rank and width is made in fp32 here, measured: 4/3 errs in the same direction in every
    term when it is cut to fewer bits, as TF32 and bf16 modes do."""
    a, b = torch.full((rank, columns), 4 / 3, device=device), torch.full((16, rank), 4 / 3, device=device)
    exact = rank * float(torch.tensor(4 / 3)) ** 2
    lowest, highest = (float(end) for end in (b @ a).aminmax())
    error = (rank + 1) * _U32 * exact
    return lowest - exact >= -error and highest - exact <= error


def add_product(
    weight: torch.Tensor, product: torch.Tensor, bound: torch.Tensor, out: torch.Tensor, low: torch.Tensor
) -> torch.Tensor:
    """out, low = bf16(W + product), at the upper and at the lower end of the product's error.

    weight floating [R, I]; product [R, I] and bound [R], both fp32 or both fp64; out and low bf16 [R, I]; all apart.
    Where `out` and `low` are equal, that is the correctly rounded merge; see `still_open` for the rest. Returns max|W +
    product|, fp32 scalar, before rounding: rounding is monotone, so rounded it is max|out|. A compiler may leave out a
    rounding between two steps, but not one of a result.
    """
    base, error = weight.float(), bound.unsqueeze(1)
    upper, lower = base + (product + error).float(), base + (product - error).float()
    out.copy_(upper.to(torch.bfloat16))
    low.copy_(lower.to(torch.bfloat16))
    return upper.abs().amax()


def still_open(weight: torch.Tensor, out: torch.Tensor, low: torch.Tensor, begin: int) -> Open:
    """The elements in which `out` and `low` differ; weight as it was, all three [R, I]; `begin`: the band's first
    row."""
    upper, lower = out.view(torch.int16).view(-1), low.view(torch.int16).view(-1)
    if upper.device.type == "cpu":  # NumPy skips runs of zeros: 12 against 58 us for 2^18 elements
        at = torch.from_numpy((upper.numpy() != lower.numpy()).nonzero()[0])
    else:
        at = (upper != lower).nonzero().view(-1)
    before = weight.reshape(-1).index_select(0, at)
    return Open(at.cpu().add_(begin * out.shape[1]), before.float().cpu())


def settle(out: torch.Tensor, first_row: int, factors: Factors, opens: Sequence[Open]) -> torch.Tensor:
    """Put the right values into the open elements of `out`, bf16 [R, I], which starts at row `first_row` of the whole
    weight.

    Returns the largest magnitude among the open elements before and after, bf16 scalar on the CPU: where it is that of
    all of `out` or more, the largest magnitude of `out` may have changed.
    """
    index, weight = torch.cat([part.index for part in opens]), torch.cat([part.weight for part in opens])
    if not len(index):
        return torch.zeros((), dtype=torch.bfloat16)
    update, rows = factors.update, index // out.shape[1]
    columns = index - rows * out.shape[1]
    # Columns are gathered fastest as rows, if there are enough of them to pay for the copy.
    a = update.a.T.contiguous() if len(index) >= out.shape[1] else update.a.T
    step = max(1, _CHUNK // a.shape[1])
    chunks = zip(*(torch.split(part, step) for part in (weight, rows, columns)), strict=True)
    settled = torch.cat([_merged(part, update, a, i, j) for part, i, j in chunks])
    flat, at = out.view(-1), (index - first_row * out.shape[1]).to(out.device)
    before = flat.index_select(0, at).cpu()
    flat.index_copy_(0, at, settled.to(out.device))
    return torch.maximum(before.abs().amax(), settled.abs().amax())


def merge(weight: torch.Tensor, update: LowRank) -> torch.Tensor:
    """The correctly rounded merge of a whole weight [O, I] and an update, on the CPU: bf16 [O, I]. NaN and Inf come
    through."""
    factors, out, opens = Factors.of(update, weight.device), torch.empty_like(weight, dtype=torch.bfloat16), []
    step = max(1, _BAND // max(weight.shape[1], 1))
    for begin in range(0, weight.shape[0], step):
        rows, into = weight[begin : begin + step], out[begin : begin + step]
        low = torch.empty_like(into)
        add_product(rows, factors.product(begin, len(rows)), factors.bound[begin : begin + len(rows)], into, low)
        opens.append(still_open(rows, into, low, begin))
    if opens:
        settle(out, 0, factors, opens)
    return out


def _merged(
    weight: torch.Tensor, update: LowRank, a: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """bf16 [n]: W' at n places; weight fp32 [n], rows and columns int64 [n]; a: the update's A transposed, [I, r]."""
    terms = update.b.index_select(0, rows).double().mul_(a.index_select(0, columns))  # [n, r], each exact
    value = terms.sum(-1) * update.scaling
    # r of the sum, 1 of the scaling, 1 of the additions
    error = (terms.shape[1] + 2) * _U64 * _SLACK * abs(update.scaling) * terms.abs_().sum(-1)
    upper, lower = _plus(weight, (value + error).float()), _plus(weight, (value - error).float())
    for i in (lower < upper).nonzero().view(-1).tolist():  # the interval holds a tie, or a value next to one
        exact = _exact(update, int(rows[i]), int(columns[i]))
        upper[i] = _plus(weight[i], torch.tensor(nearest_fp32(exact), dtype=torch.float32))
    return upper


def _plus(weight: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """bf16(W + delta), a zero delta counting as +0."""
    return (weight + torch.where(delta == 0, 0.0, delta)).to(torch.bfloat16)


def _exact(update: LowRank, row: int, column: int) -> Fraction:
    """s * sum_k B[row, k] A[k, column]."""
    pairs = zip(update.b[row].tolist(), update.a[:, column].tolist(), strict=True)
    return sum((Fraction(b) * Fraction(a) for b, a in pairs), Fraction()) * Fraction(update.scaling)


def nearest_fp32(value: Fraction) -> float:
    """The fp32 value nearest to a rational number, ties to even; +0 for a zero, an infinity beyond fp32's range."""
    magnitude = abs(value)
    if not magnitude:
        return 0.0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(magnitude / quantum) * quantum
    if rounded >= 2**128:
        return math.copysign(math.inf, value)
    return math.copysign(float(rounded), value) if rounded else 0.0
