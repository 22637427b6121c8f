"""Squared weight error of a quantization, measured as it is written.

Short because it is one sum: the export makes it, and the streamed and the calibrated pass both add to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class WeightError:
    """Sums of squares over the measured weights, by tensor."""

    squared: dict[str, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    without_gptq: list[str] = field(
        default_factory=list
    )  # weights that `gptq` could not round: no inputs, or stacked experts

    def add(self, name: str, exact: torch.Tensor, rounded: torch.Tensor) -> None:
        """Count a weight, or rows that stand for it, once a name: as it was and as a runtime reads it, of one shape."""
        self.reference[name] = float(exact.float().square().sum(dtype=torch.float64))
        self.squared[name] = float((exact.float() - rounded.float()).square().sum(dtype=torch.float64))

    @property
    def relative(self) -> float:
        """Squared error over squared weights, of all that was added; 0 of nothing."""
        total = sum(self.reference.values())
        return sum(self.squared.values()) / total if total else 0.0
