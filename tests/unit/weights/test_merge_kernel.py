"""The compiled merge gives the exact merge rounded once, like torch's operations; what it leaves open it names."""

import ctypes
import shutil

import pytest
import torch

from slipway.system import native_code
from slipway.weights import merge_kernel as module
from slipway.weights.merge_kernel import MergeKernel, merge_kernel
from slipway.weights.rounded_merge import settle
from slipway.weights.shards import LowRank
from tests.oracles.exact_merge import exact_merge

pytestmark = pytest.mark.skipif(native_code.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def kernel() -> MergeKernel:
    kernel = merge_kernel()
    assert kernel is not None
    return kernel


def update(rank, rows, columns, scaling=1 / 3, *, seed=0, size=0.05):
    random = torch.Generator().manual_seed(seed)
    return LowRank(
        torch.randn(rank, columns, generator=random), size * torch.randn(rows, rank, generator=random), scaling
    )


def weights(rows, columns, dtype=torch.bfloat16):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)).to(dtype)


def merged(kernel, weight, low_rank, band=None):
    """(the merge, in bands of so many rows; its largest magnitude by the kernel; how many elements fp64 left open)."""
    factors, out, opens, largest = kernel.factors(low_rank), torch.empty_like(weight, dtype=torch.bfloat16), [], []
    for begin in range(0, len(weight), band or len(weight)):
        rows = slice(begin, begin + (band or len(weight)))
        most, still = kernel.add(weight[rows], factors, begin, out[rows])
        largest.append(float(most))
        opens += still
    if opens:
        settle(out, 0, factors, opens)
    return out, max(largest), sum(len(part.index) for part in opens)


def same(one, other):
    return torch.equal(one.view(torch.int16), other.view(torch.int16))


@pytest.mark.parametrize(
    "rank, shape", [(1, (1, 1)), (7, (5, 63)), (16, (9, 64)), (64, (4, 200)), (192, (2, 70)), (3, (2, 1025))], ids=str
)
def test_is_the_exact_merge_rounded_once(kernel, rank, shape):
    weight, low_rank = weights(*shape), update(rank, *shape)
    out, largest, _ = merged(kernel, weight, low_rank)
    assert same(out, exact_merge(weight, low_rank.a, low_rank.b, low_rank.scaling))
    assert largest == float(out.float().abs().amax())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scaling", [1.0, 2.0, 24 / 24**0.5, -0.7, 1e-3], ids=str)
def test_any_stored_dtype_and_scaling(kernel, dtype, scaling):
    weight, low_rank = weights(12, 80, dtype), update(8, 12, 80, scaling)
    assert same(merged(kernel, weight, low_rank)[0], exact_merge(weight, low_rank.a, low_rank.b, scaling))


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-20, 1e4, 1e36])
def test_updates_of_any_size(kernel, size):
    weight, low_rank = weights(6, 70), update(3, 6, 70, size=size)
    out = merged(kernel, weight, low_rank)[0]
    assert torch.equal(out, exact_merge(weight, low_rank.a, low_rank.b, low_rank.scaling))
    assert not torch.signbit(out[out == 0]).any()


@pytest.mark.parametrize("band", [1, 3, 4, 5])
def test_any_band_gives_the_same_bytes(kernel, band):
    weight, low_rank = weights(13, 96), update(16, 13, 96)
    assert same(merged(kernel, weight, low_rank, band)[0], merged(kernel, weight, low_rank)[0])


@pytest.mark.parametrize("last, want", [(0.0, 1.0), (2.0**-60, 1.0 + 2.0**-7), (-(2.0**-60), 1.0)])
def test_what_fp64_cannot_decide_is_named(kernel, last, want):
    """See tests of `rounded_merge`: a tie of ties that a term below fp64's precision decides."""
    low_rank = LowRank(torch.tensor([[1.0], [2.0**-8], [2.0**-24], [last]]), torch.ones(1, 4), 1.0)
    out, _, count = merged(kernel, torch.zeros(1, 1), low_rank)
    assert count == 1 and out.item() == want


def test_more_open_elements_than_there_was_room_for(kernel, monkeypatch):
    monkeypatch.setattr(kernel, "_open", torch.empty(2, dtype=torch.int64))
    low_rank = LowRank(torch.tensor([[1.0], [2.0**-8], [2.0**-24]]).repeat(1, 70), torch.ones(2, 3), 1.0)
    out, _, count = merged(kernel, torch.zeros(2, 70), low_rank)
    assert count == 140 and (out == 1.0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_is_right_where_the_largest_was_open(kernel, sign):
    """0.5 + 2^-9 is a tie of bf16, decided towards the even 0.5 by fp64: the upper end in fp32 is a step above it."""
    weight = torch.full((1, 3), 0.5 * sign)
    low_rank = LowRank(torch.tensor([[2.0**-10, 0.0, 0.0], [2.0**-10, 0.0, 0.0]]), sign * torch.ones(1, 2), 1.0)
    out, largest, count = merged(kernel, weight, low_rank)
    assert (largest, count) == (0.5, 0) and same(out, exact_merge(weight, low_rank.a, low_rank.b, 1.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_not_finite_comes_through(kernel, value, dtype):
    weight = weights(4, 70, dtype)
    weight[2, 66] = value
    out, largest, _ = merged(kernel, weight, update(2, 4, 70))
    assert (~torch.isfinite(out)).nonzero().tolist() == [[2, 66]] and not torch.isfinite(torch.tensor(largest))


def test_a_nan_of_all_ones_stays_one(kernel):
    weight = torch.tensor([[0x7FFFFFFF, -1]], dtype=torch.int32).view(torch.float32)
    assert merged(kernel, weight, update(2, 1, 2))[0].isnan().all()


def test_no_rows_and_the_largest_of_values(kernel):
    empty = torch.empty(0, 8, dtype=torch.bfloat16)
    largest, opens = kernel.add(empty, kernel.factors(update(2, 1, 8)), 0, empty.clone())
    assert float(largest) == 0 and opens == []
    values = torch.tensor([[0.5, -3.0, -0.0]], dtype=torch.bfloat16)
    assert float(kernel.largest(values)) == 3.0 and kernel.largest(values).dtype == torch.float32
    assert not torch.isfinite(kernel.largest(torch.tensor([1.0, float("nan"), 2.0]).to(torch.bfloat16)))


def test_without_a_compiler_there_is_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert merge_kernel() is None


def test_a_loop_that_merges_otherwise_is_not_used(tmp_path, monkeypatch):
    """As a compiler that drops a rounding would make it: compiled from a source in which bf16 truncates."""
    wrong = tmp_path / "merge_kernel.cpp"
    wrong.write_text(module.SOURCE.read_text().replace("(u + 0x7fff + ((u >> 16) & 1)) >> 16", "u >> 16"))
    assert wrong.read_text() != module.SOURCE.read_text()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "SOURCE", wrong)
    assert isinstance(native_code.library(wrong), ctypes.CDLL) and merge_kernel() is None
