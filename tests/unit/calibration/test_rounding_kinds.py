"""Names of roundings beside what rounds."""

from __future__ import annotations

from typing import get_args

import torch

from slipway.calibration.kernel_rounding import rounded
from slipway.calibration.rounding_kinds import KernelRounding, Rounding


def test_every_name_rounds_and_none_does_not() -> None:
    x = torch.linspace(-3, 3, 64).reshape(2, 32) ** 3
    for name in get_args(Rounding):
        assert torch.equal(rounded(x, name), x) == (name == "none"), name


def test_kernels_round_nothing_unless_they_are_named() -> None:
    assert set(vars(KernelRounding()).values()) == {"none"}
