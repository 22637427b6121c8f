"""Section `deploy.canary`: what of real traffic a candidate must stand before the switch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slipway.config.base import Section
from slipway.config.evaluate import JudgeConfig


class CanaryConfig(Section):
    """A candidate beside its champion for a time; off by default."""

    way: Literal["none", "mirror", "weight", "replay"] = Field(
        "none",
        description="`mirror`: it gets a copy of each request, answers are judged in pairs; `weight`: a share of the "
        "requests, which shows crashes and latency; `replay`: captured prompts, where memory holds one engine only.",
    )
    share: int = Field(10, ge=1, le=50, description="Percent of the requests with way `weight`.")
    for_s: float = Field(7200, gt=0, description="Longest time that it runs, seconds; it ends when it has decided.")
    margin: float = Field(
        0.02, gt=0, lt=1, description="Share of answers by which the candidate may lose more pairs than it wins."
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="Probability at most of a wrong end, however often one looks.")
    judge: JudgeConfig | None = Field(
        None, description="Who judges unequal answers; null: nobody, and only (nearly) equal answers pass."
    )
    answer_s: float = Field(600, gt=0, description="Longest answer of the candidate, seconds; then it has failed.")
    prompts: int = Field(200, ge=1, le=1000, description="Captured prompts asked with way `replay`, the newest.")

    @property
    def longest_s(self) -> float:
        """Seconds that it may take; 0 without one."""
        return 0.0 if self.way == "none" else self.for_s + self.prompts * self.answer_s * (self.way == "replay")
