"""Masks that follow from a seed and a place, and nothing else."""

from __future__ import annotations

import pytest
import torch

from slipway.training.dropout import SeededDropout, seed_dropouts
from slipway.training.lanes import drawing


def drawn(module: SeededDropout, seed: int, shape: tuple[int, ...] = (400, 500)) -> torch.Tensor:
    with drawing(seed):
        return module(torch.ones(shape))  # type: ignore[no-any-return]


def test_a_mask_is_the_same_whenever_it_is_drawn_and_another_for_other_seeds_and_places() -> None:
    module = SeededDropout(0.25, 3)
    first = drawn(module, 7)
    torch.rand(5)  # somebody else draws
    assert torch.equal(first, drawn(module, 7))
    for other in (drawn(module, 8), drawn(module, 7 + 2**32), drawn(SeededDropout(0.25, 4), 7)):
        same = (first == other).double().mean().item()
        assert same == pytest.approx(0.25**2 + 0.75**2, abs=0.01), "independent masks"


def test_elements_are_dropped_with_their_probability_and_the_mean_stays() -> None:
    values = drawn(SeededDropout(0.05, 0), 1)
    assert (values == 0).double().mean().item() == pytest.approx(0.05, abs=0.003)
    assert set(values.unique().tolist()) == {0.0, torch.tensor(1 / 0.95).item()}


def test_evaluation_changes_nothing_and_outside_of_a_step_it_is_torchs() -> None:
    module, values = SeededDropout(0.5, 0), torch.randn(64, 64)
    torch.manual_seed(3)
    outside = module(values)
    torch.manual_seed(3)
    assert torch.equal(outside, torch.nn.functional.dropout(values, 0.5))
    with drawing(1):
        assert torch.equal(module.eval()(values), values)


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.1), torch.nn.ModuleDict({"default": torch.nn.Dropout(0.2)}), torch.nn.Identity()
    )
    seed_dropouts(model)
    replaced = [module for module in model.modules() if isinstance(module, SeededDropout)]
    assert [module.p for module in replaced] == [0.1, 0.2] and len({module.place for module in replaced}) == 2
    assert not any(isinstance(module, torch.nn.Dropout) for module in model.modules())
