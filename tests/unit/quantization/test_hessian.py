"""H and D of a matmul's inputs: the sums, the damped factor, and the weight that least squares gives."""

import numpy as np
import pytest
import torch

from slipway.errors import CheckpointError
from slipway.quantization.hessian import DAMPING, Moments, compensated, damped_cholesky_


def inputs(tokens=512, features=256, seed=0):
    """Correlated inputs of unequal size [T, I]."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(features, features, generator=random) / features**0.5 + torch.eye(features) / 2
    size = torch.logspace(-1, 0.5, features)[torch.randperm(features, generator=random)]
    return torch.randn(tokens, features, generator=random) @ mix * size


def weights(rows=40, features=256, seed=1):
    return (torch.randn(rows, features, generator=torch.Generator().manual_seed(seed)) / 16).to(torch.bfloat16)


def test_moments_are_the_sums_and_repeat():
    x, exact = inputs(300, 48), inputs(300, 48, seed=5)

    def summed():
        moments = Moments("q", 48, drift=True)
        for a, b in zip(x.split(100), exact.split(100), strict=True):
            moments.add(a, b)
        return moments

    one, two = summed(), summed()
    assert one.tokens == 300 and torch.equal(one.hessian, two.hessian) and torch.equal(one.drift, two.drift)
    assert torch.allclose(one.hessian, x.T @ x, rtol=1e-4, atol=1e-3)
    assert torch.allclose(one.drift, (exact - x).T @ x, rtol=1e-4, atol=1e-2)


def test_compensation_is_the_least_squares_weight():
    weight, exact = weights(8, 64), inputs(2000, 64)
    x = exact + 0.2 * inputs(2000, 64, seed=7) + 0.05 * exact.roll(1, 1)
    moments = Moments("q", 64, drift=True)
    moments.add(x, exact)
    wanted = torch.linalg.lstsq(x.double(), (exact @ weight.float().T).double()).solution.T
    actual = compensated(weight, moments.hessian, moments.drift, 1e-6)
    assert torch.allclose(actual.double(), wanted, atol=5e-4) and not torch.allclose(weight.double(), wanted, atol=5e-3)
    assert torch.equal(compensated(weight, moments.hessian, torch.zeros_like(moments.drift)), weight.float())


def test_more_damping_where_rounding_left_the_hessian_indefinite():
    x = inputs(20, 32)
    h = x.T @ x
    h -= 0.2 * h.diagonal().mean() * torch.eye(32)  # the least eigenvalue is four dampings below zero
    raised = h + 0.5 * h.diagonal().mean() * torch.eye(32)
    factor = damped_cholesky_(h, 0.05)
    assert torch.allclose(factor @ factor.T, raised, rtol=1e-3, atol=1e-3) and torch.allclose(h, raised)
    with pytest.raises(CheckpointError, match="Hessian: not positive definite"):
        damped_cholesky_(-h)


@pytest.mark.parametrize(
    "value, words", [(float("nan"), "NaN or Inf"), (float("inf"), "NaN or Inf"), (0.0, "all zero over 4 tokens")]
)
def test_inputs_to_learn_nothing_from_are_refused_by_name(value, words):
    moments = Moments("model.layers.0.self_attn.q_proj", 32)
    moments.add(torch.full((4, 32), value))
    with pytest.raises(CheckpointError, match=rf"q_proj: {words}"):
        moments.check()


def test_moments_by_hand():
    moments = Moments("q", 2, drift=True)
    moments.add(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([[2.0, 2.0], [3.0, 1.0]]))
    assert moments.hessian.tolist() == [[10, -1], [-1, 5]]  # X^T X
    assert moments.drift.tolist() == [[1, 2], [6, -2]]  # (X0 - X)^T X of differences (1, 0) and (0, 2)
    moments.add(torch.tensor([[0.0, 4.0]], dtype=torch.bfloat16), torch.tensor([[0.0, 4.0]], dtype=torch.bfloat16))
    assert moments.hessian.tolist() == [[10, -1], [-1, 21]] and moments.drift.tolist() == [[1, 2], [6, -2]]
    assert moments.tokens == 3 and moments.hessian.dtype == torch.float32
    moments.check()


def test_without_drift_none_is_held_and_exact_inputs_change_nothing():
    moments = Moments("q", 2)
    moments.add(torch.eye(2), torch.ones(2, 2))
    assert moments.drift is None and torch.equal(moments.hessian, torch.eye(2))


def test_the_factor_is_numpys_of_the_damped_hessian_which_is_left_in_place():
    hessian = torch.tensor([[4.0, 2.0], [2.0, 6.0]])
    factor = damped_cholesky_(hessian)
    assert DAMPING == 0.1 and torch.allclose(hessian, torch.tensor([[4.5, 2.0], [2.0, 6.5]]))  # 0.1 * mean(4, 6)
    expected = np.linalg.cholesky(np.array([[4.5, 2.0], [2.0, 6.5]]))
    assert np.allclose(factor.numpy(), expected, rtol=1e-6) and factor[0, 1] == 0


def test_a_hessian_with_nan_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"Hessian: not positive definite, mean diagonal nan.*damaged weights"):
        damped_cholesky_(torch.tensor([[float("nan"), 0.0], [0.0, 1.0]]))


def test_compensation_leaves_the_hessian_and_the_weight_as_they_are():
    weight, hessian = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    actual = compensated(weight, hessian, torch.tensor([[0.0, 4.5], [0.0, 0.0]]), damping=1 / 6)  # lambda = 0.5
    assert actual[0].tolist() == pytest.approx([1, 2 + 4.5 / 4.5]) and actual.dtype == torch.float32
    assert hessian.tolist() == [[2, 0], [0, 4]] and weight.tolist() == [[1, 2]]
