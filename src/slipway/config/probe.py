"""Section `deploy.probe`: how a candidate is asked at its target before the switch.

Short because the limits of its answers are not settings: they come from what its evaluation measured.
"""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Section


class ProbeConfig(Section):
    """The recorded answers of the evaluation, asked of the candidate."""

    timeout_s: float = Field(300, gt=0, description="Longest wait for one answer, seconds.")
    at_once: int = Field(4, ge=1, description="Answers at a time.")
    slowest: float | None = Field(
        20, gt=1, description="Most times the recorded seconds a token, a sanity check; null: they are shown only."
    )
