"""Section `watch`: how what serves is compared with the evaluation that it was released by."""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Section


class WatchConfig(Section):
    """Looks at what serves: how much is asked, and from where on a difference is an alarm."""

    items: int = Field(200, ge=1, description="Test items of the release's evaluation asked again at each look.")
    prompts: int = Field(
        200, ge=1, le=1000, description="Captured prompts compared with the evaluation's at each look, at most."
    )
    days: float = Field(7, gt=0, le=365, description="Captured prompts looked at: those of so many days.")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="Most chance of any false alarm about one release in `weeks` weeks."
    )
    weeks: int = Field(52, ge=1, le=520, description="Weeks that alpha is spread over.")
    looks_a_week: int = Field(1, ge=1, le=7, description="Planned looks a week; more are taken at smaller levels.")
    max_drop: float = Field(
        0.02, ge=0, lt=1, description="Quality: most that the mean of a metric may have fallen, as a share."
    )
    max_verbosity: float = Field(
        1.25, ge=1, le=100, description="Verbosity: most times as many, or as few, tokens an answer (geometric mean)."
    )
    max_unanswered: float = Field(0.02, gt=0, lt=1, description="Most share of requests that get no whole answer.")
    at_once: int = Field(2, ge=1, le=64, description="Requests at a time.")
    timeout_s: float = Field(120, gt=0, description="Longest wait for one answer, seconds.")
