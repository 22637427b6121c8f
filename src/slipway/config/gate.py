"""Section `gate`: what a candidate must reach."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.config.base import Section

Metric = Literal["exact_match", "intent_accuracy"]


class NonInferiority(Section):
    """The candidate may be worse than the reference by less than `margin`."""

    against: Literal["champion", "merged"] = Field(
        description="Reference: the serving release, or the unquantized merge."
    )
    metric: Metric = Field(description="Per-item metric compared in pairs.")
    margin: float = Field(gt=0, lt=1, description="Largest loss accepted, share of items.")


class GateConfig(Section):
    """What a candidate must show before it is promoted."""

    floors: dict[Metric, Annotated[float, Field(ge=0, le=1)]] = Field(
        {"exact_match": 0.80, "intent_accuracy": 0.88},
        description="Least value of each metric, share of items; applied always, and alone while there is no champion.",
    )
    non_inferiority: list[NonInferiority] = Field(
        default_factory=list, description="Paired tests; skipped when the reference does not exist."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided level of the paired tests.")
    max_bits_per_parameter: float | None = Field(
        None, gt=0, description="Most bits per quantized parameter; catches a format that is not what its label says."
    )
