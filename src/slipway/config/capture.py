"""Section `deploy.capture`: how much is kept where a person turned capture on.

Short because turning it on is no setting: `slipway capture on TARGET` does, and the target remembers it.
"""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Section


class CaptureConfig(Section):
    """Retention of captured prompts."""

    days: float = Field(7, gt=0, le=365, description="Days that a captured prompt is kept.")
    megabytes: float = Field(50, gt=0, le=10_000, description="Size of all captured prompts, MB.")
