"""Section `evaluate`: what is measured of a served model. Short because a section is one file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slipway.config.base import Section


class EvaluateConfig(Section):
    """Quality and speed of a served model."""

    max_items: int | None = Field(None, ge=1, description="Test items scored, taken evenly over labels; null: all.")
    max_new_tokens: int = Field(48, ge=1, description="Longest answer, tokens.")
    concurrency: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 4], min_length=1, description="Concurrent requests of the speed runs."
    )
    speed_requests: int = Field(24, ge=4, description="Requests per speed run.")
    timeout_s: float = Field(120, gt=0, description="Longest wait for one answer, seconds.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")
