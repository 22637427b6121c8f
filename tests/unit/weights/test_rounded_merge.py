"""The merge is the exact one rounded once, whatever the order of sums, the band, the precision of matmuls or the
threads."""

import math
from fractions import Fraction

import pytest
import torch

from slipway.weights import rounded_merge
from slipway.weights.rounded_merge import Factors, add_product, merge, nearest_fp32, settle, still_open
from slipway.weights.shards import LowRank
from tests.oracles.exact_merge import exact_merge

CPU = torch.device("cpu")


def update(rank, rows, columns, dtype, scaling, *, seed=0, size=0.05):
    random = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, columns, generator=random).to(dtype).float()
    b = (size * torch.randn(rows, rank, generator=random)).to(dtype).float()
    return LowRank(a, b, scaling)


def weights(rows, columns, dtype, seed=1):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bits(tensor):
    return tensor.view(torch.int16)


@pytest.mark.parametrize("rank", [1, 8, 16, 64, 192])
@pytest.mark.parametrize("scaling", [1.0, 2.0, 1 / 3, 24 / math.sqrt(24), 1e-3], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_is_the_exact_merge_rounded_once(rank, scaling, dtype):
    low_rank, weight = update(rank, 23, 40, dtype, scaling), weights(23, 40, dtype)
    assert torch.equal(bits(merge(weight, low_rank)), bits(exact_merge(weight, low_rank.a, low_rank.b, scaling)))


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-20, 1e4])
@pytest.mark.parametrize("rank", [3, 40])
def test_updates_of_any_size(rank, size):
    low_rank, weight = update(rank, 17, 24, torch.float32, 0.5, size=size), weights(17, 24, torch.bfloat16)
    assert torch.equal(merge(weight, low_rank), exact_merge(weight, low_rank.a, low_rank.b, 0.5))


@pytest.mark.parametrize("rank", [2, 64])
def test_where_weight_and_update_cancel(rank):
    low_rank = update(rank, 32, 48, torch.float32, 1.0)
    weight = -(low_rank.b @ low_rank.a)
    assert torch.equal(merge(weight, low_rank), exact_merge(weight, low_rank.a, low_rank.b, 1.0))


def test_weights_of_zero():
    low_rank, weight = update(16, 32, 48, torch.bfloat16, 2.0), torch.zeros(32, 48)
    assert torch.equal(merge(weight, low_rank), exact_merge(weight, low_rank.a, low_rank.b, 2.0))


@pytest.mark.parametrize(
    "last, want",
    [(0.0, 1.0), (2.0**-60, 1.0 + 2.0**-7), (-(2.0**-60), 1.0), (2.0**-120, 1.0 + 2.0**-7)],
)
def test_a_tie_is_decided_by_the_last_term(last, want):
    """1 + 2^-8 + 2^-24 is halfway between two fp32 values, of which the even one is halfway between two bf16 values;
    2^-60 beside it is below fp64's precision."""
    low_rank = LowRank(torch.tensor([[1.0], [2.0**-8], [2.0**-24], [last]]), torch.ones(1, 4), 1.0)
    assert merge(torch.zeros(1, 1), low_rank).item() == want
    assert exact_merge(torch.zeros(1, 1), low_rank.a, low_rank.b, 1.0).item() == want


@pytest.mark.parametrize("rank", [1, 4, 40])
def test_a_zero_update_is_plus_zero(rank):
    """So that the sign of a zero does not depend on how a BLAS begins a sum: -0 + (+0) is +0."""
    a, b = -torch.ones(rank, 3), torch.zeros(2, rank)
    weight = torch.tensor([[-0.0, 0.0, -1.0], [-0.0, 2.0, 0.0]])
    merged = merge(weight, LowRank(a, b, 1.0))
    assert torch.equal(merged, weight.to(torch.bfloat16)) and not torch.signbit(merged[merged == 0]).any()
    tiny = merge(weight, LowRank(a * 1e-30, b + 1e-30, 1.0))  # below fp32's range
    assert torch.equal(tiny, weight.to(torch.bfloat16)) and not torch.signbit(tiny[tiny == 0]).any()


@pytest.mark.parametrize("rank", [4, 16, 64])
@pytest.mark.parametrize("seed", range(3))
def test_any_error_within_the_bound_gives_the_same_bytes(rank, seed):
    """Another BLAS: every element of the product moved at random, as far as the bound allows."""
    low_rank, weight = update(rank, 64, 96, torch.bfloat16, 2.0, seed=seed), weights(64, 96, torch.bfloat16)
    factors = Factors.of(low_rank, CPU)
    error = (torch.rand(64, 96, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8) * factors.bound[:, None]
    out, low = torch.empty_like(weight), torch.empty_like(weight)
    add_product(weight, factors.product(0, 64) + error, factors.bound, out, low)
    before = out.clone()
    settle(out, 0, factors, [still_open(weight, out, low, 0)])
    assert torch.equal(bits(out), bits(exact_merge(weight, low_rank.a, low_rank.b, 2.0)))
    assert rank < 16 or not torch.equal(before, out)  # the error mattered


@pytest.mark.parametrize("rank", [1, 5, 16, 32])
def test_the_bound_holds_for_every_order_of_sums(rank):
    low_rank = update(rank, 40, 56, torch.float32, 0.7)
    factors = Factors.of(low_rank, CPU)
    exact = low_rank.b.double() @ low_rank.a.double() * low_rank.scaling
    orders = [torch.randperm(rank, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    for order in orders:
        total = torch.zeros(40, 56)
        for k in order:
            total = total + factors.b[:, k, None] * factors.a[k]
        assert ((total.double() - exact).abs() <= factors.bound.double()[:, None]).all()


@pytest.mark.parametrize("band", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2])
def test_bands_and_threads(monkeypatch, band, threads):
    low_rank, weight = update(8, 33, 512, torch.float32, 0.3), weights(33, 512, torch.bfloat16)
    want = merge(weight, low_rank)
    monkeypatch.setattr(rounded_merge, "_BAND", band * 512)
    monkeypatch.setattr(rounded_merge, "_CHUNK", 24)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(merge(weight, low_rank), want)
    finally:
        torch.set_num_threads(before)


def test_a_product_of_reduced_precision_is_noticed(monkeypatch):
    """TF32, or bf16 by `torch.set_float32_matmul_precision("medium")` or DNNL_DEFAULT_FPMATH_MODE: then fp64 is
    used."""
    low_rank, matmul = update(8, 32, 64, torch.float32, 1.0), torch.Tensor.__matmul__

    def fast_math(one, other):
        cut = [t.to(torch.bfloat16).to(t.dtype) if t.dtype == torch.float32 else t for t in (one, other)]
        return matmul(*cut)

    assert Factors.of(low_rank, CPU).a.dtype == torch.float32
    monkeypatch.setattr(torch.Tensor, "__matmul__", fast_math)
    assert Factors.of(low_rank, CPU).a.dtype == torch.float64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_comes_through(value):
    weight = weights(4, 8, torch.float32)
    weight[2, 3] = value
    merged = merge(weight, update(2, 4, 8, torch.float32, 1.0))
    assert (~torch.isfinite(merged)).nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("rows", [1, 3, 23])
@pytest.mark.parametrize("rank", [2, 16, 40])
@pytest.mark.parametrize("chunk", [1, 7 * 40, 1 << 17])
def test_elements_that_are_all_open_are_settled(monkeypatch, rows, rank, chunk):
    """As many as columns or more: the columns of A are then gathered from its transpose."""
    monkeypatch.setattr(rounded_merge, "_CHUNK", chunk)
    low_rank, weight = update(rank, 23, 40, torch.float32, 1 / 3), weights(23, 40, torch.bfloat16)
    want, out = exact_merge(weight, low_rank.a, low_rank.b, 1 / 3), torch.zeros(23, 40, dtype=torch.bfloat16)
    band, first = out[23 - rows :], 23 - rows
    opens = still_open(weight[first:], band, torch.ones_like(band), first)
    assert opens.index.tolist() == list(range(first * 40, 23 * 40))
    settle(band, first, Factors.of(low_rank, CPU), [opens])
    assert torch.equal(bits(band), bits(want[first:])) and not out[:first].any()


def test_fewer_open_elements_than_columns_are_settled():
    low_rank, weight = update(16, 5, 96, torch.float32, 1 / 3), weights(5, 96, torch.bfloat16)
    want = exact_merge(weight, low_rank.a, low_rank.b, 1 / 3)
    out, low = want.clone(), want.clone()
    out[::2, 7], out[1, 90:] = 0.0, 0.0
    opens = still_open(weight, out, low, 0)
    assert len(opens.index) == 9
    settle(out, 0, Factors.of(low_rank, CPU), [opens])
    assert torch.equal(bits(out), bits(want))


@pytest.mark.parametrize("rank, wide", [(1, False), (16, False), (40, False), (16, True)])
def test_a_product_in_given_memory_is_the_product(rank, wide):
    factors = Factors.of(update(rank, 9, 32, torch.float32, 1 / 3), CPU, wide=wide)
    memory = torch.full((4, 32), float("nan"), dtype=factors.bound.dtype)
    product = factors.product(2, 4, memory)
    assert torch.equal(product, factors.product(2, 4))
    assert (product.data_ptr() == memory.data_ptr()) == (rank != 40)  # rounded to fp32, it is a tensor of its own


def test_the_largest_of_what_was_open_is_known():
    weight, low_rank = torch.zeros(1, 2), LowRank(torch.tensor([[1.0, 3.0]]), torch.ones(1, 1), 1.0)
    out = torch.tensor([[9.0, 0.0]], dtype=torch.bfloat16)
    low = torch.tensor([[0.0, 0.0]], dtype=torch.bfloat16)
    largest = settle(out, 0, Factors.of(low_rank, CPU), [still_open(weight, out, low, 0)])
    assert out.tolist() == [[1.0, 0.0]] and largest.item() == 9.0


def test_nearest_fp32_is_a_cast():
    random = torch.Generator().manual_seed(0)
    values = torch.randn(300, dtype=torch.float64, generator=random) * 10.0 ** torch.randint(
        -48, 39, (300,), generator=random
    )
    for value in [*values.tolist(), 0.0, 3.5e38, -3.5e38, 2.0**-150, 3 * 2.0**-150]:
        assert nearest_fp32(Fraction(value)) == torch.tensor(value, dtype=torch.float64).float().item()


def test_nearest_fp32_rounds_once():
    """fp64 first would make a tie of it, and then round to even."""
    above = 1 + Fraction(1, 2**24) + Fraction(1, 2**80)
    assert nearest_fp32(above) == 1 + 2.0**-23 and float(torch.tensor(float(above), dtype=torch.float64).float()) == 1.0


@pytest.mark.parametrize("rank", [1, 16, 40, 192])
@pytest.mark.parametrize("size", [0.05, 1e-20, 1e4])
def test_products_that_stay_in_fp64_as_on_a_gpu_give_the_same_bytes(rank, size):
    low_rank, weight = update(rank, 64, 96, torch.float32, 1 / 3, size=size), weights(64, 96, torch.bfloat16)
    undecided = {}
    for wide in (False, True):
        factors = Factors.of(low_rank, torch.device("cpu"), wide=wide)
        assert factors.product(0, 64).dtype == (torch.float64 if wide else torch.float32)
        out, low = torch.empty_like(weight), torch.empty_like(weight)
        add_product(weight, factors.product(0, 64), factors.bound, out, low)
        opens = [still_open(weight, out, low, 0)]
        undecided[wide] = len(opens[0].index)
        settle(out, 0, factors, opens)
        assert torch.equal(bits(out), bits(exact_merge(weight, low_rank.a, low_rank.b, 1 / 3)))
    assert undecided[True] <= undecided[False]
