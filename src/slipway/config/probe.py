"""Section `deploy.probe`: how a candidate is asked at its target before the switch.

Short because the limits of its answers are not settings: they come from what its evaluation measured.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from slipway.config.base import Section


def _off(value: object) -> object:
    """YAML reads `off` as a boolean."""
    return "off" if value is False else value


class TargetAgreementConfig(Section):
    """Kernel agreement of a candidate at its target: what it writes there, scored here by the weights it was built
    from."""

    check: Annotated[Literal["required", "when-possible", "off"], BeforeValidator(_off)] = Field(
        "when-possible",
        description="`required`: nothing is promoted unchecked; `when-possible`: where the weights are in this store "
        "and the engine gives token ids; a check that fails undoes the promotion either way.",
    )
    prompts: int = Field(4, ge=1, le=50, description="Prompts answered, the last one at length.")
    tokens: int = Field(128, ge=24, description="Tokens of an answer, past its end, at most the context's.")
    long_tokens: int = Field(384, ge=24, description="Tokens of the last answer, at most the context's.")
    limit_s: float = Field(600, gt=0, description="Longest time for all of it, seconds; then it counts as not checked.")
    states_gb: float = Field(2.0, gt=0, description="Hidden states held, GB.")


class ProbeConfig(Section):
    """The recorded answers of the evaluation, asked of the candidate."""

    timeout_s: float = Field(300, gt=0, description="Longest wait for one answer, seconds.")
    at_once: int = Field(4, ge=1, description="Answers at a time.")
    slowest: float | None = Field(
        20, gt=1, description="Most times the recorded seconds a token, a sanity check; null: they are shown only."
    )
    agreement: TargetAgreementConfig = Field(
        default_factory=TargetAgreementConfig, description="Its kernels, against the weights."
    )
