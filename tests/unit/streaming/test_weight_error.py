"""Squared error over squared weights, by hand."""

import pytest
import torch

from slipway.streaming.weight_error import WeightError


def test_the_share_is_over_all_tensors_and_not_the_mean_of_shares():
    error = WeightError()
    error.add("a", torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 2.0]]))
    assert error.relative == 4 / 25
    error.add("b", torch.tensor([[10.0], [0.0]]), torch.tensor([[11.0], [2.0]]))
    assert (error.reference, error.squared) == ({"a": 25.0, "b": 100.0}, {"a": 4.0, "b": 5.0})
    assert error.relative == 9 / 125


def test_nothing_and_zeros_have_no_error():
    error = WeightError()
    assert error.relative == 0 and error.without_gptq == []
    error.add("zeros", torch.zeros(2, 2), torch.zeros(2, 2))
    assert error.relative == 0


def test_a_tensor_measured_again_replaces_its_figures():
    error = WeightError()
    error.add("a", torch.ones(4), torch.zeros(4))
    error.add("a", torch.ones(4), torch.full((4,), 0.5))
    assert error.squared == {"a": 1.0} and error.relative == 0.25


def test_bf16_is_subtracted_in_fp32_and_summed_in_fp64():
    error = WeightError()
    exact, rounded = torch.tensor([256.0], dtype=torch.bfloat16), torch.tensor([255.5])  # which bf16 does not hold
    error.add("bf16", exact, rounded)
    assert error.squared["bf16"] == 0.25
    many = torch.full((1 << 20,), 1 / 3)
    error.add("many", many, torch.zeros_like(many))
    # an fp32 sum over the same squares misses this by far more
    assert error.squared["many"] == pytest.approx(float(many[0].square()) * (1 << 20), rel=1e-14)
