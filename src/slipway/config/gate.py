"""Section `gate`: what a candidate must reach.

Metrics are named as the evaluation declares them (docs/metrics.md); `primary` is the task's first one, whatever it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.config.base import Section, born


class NonInferiority(Section):
    """The candidate may be worse than the reference by less than `margin`."""

    against: Literal["champion", "best", "merged", "base"] = Field(
        description="Reference: the serving release, the best release of its line (where that is another one), the "
        "unquantized merge, or the model before fine-tuning."
    )
    metric: str = Field(min_length=1, description="Metric compared in pairs, item by item; `primary`: the task's own.")
    margin: float = Field(
        gt=0, allow_inf_nan=False, description="Largest loss accepted, in the metric's unit (0.1 is ten percent)."
    )


class GateConfig(Section):
    """What a candidate must show before it is promoted."""

    floors: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description="Worst value accepted by metric, in its unit (0.8 is 80 percent); applied always, and alone while "
        "there is no champion. `{}` takes all of them away.",
    )
    non_inferiority: list[NonInferiority] = Field(
        default_factory=list, description="Paired tests; skipped when the reference does not exist."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided level of the paired tests.")
    trials: Annotated[int, born(1)] = Field(
        50,
        ge=1,
        description="Candidates that are held to one best release before one is shown to be better than it; each is "
        "tested at (1 - confidence) / trials, so that none of them slips below the margin by chance.",
    )
    tie: Annotated[Literal["keep", "promote"], born("promote")] = Field(
        "keep",
        description="What becomes of a candidate that is no better than the champion and brings neither new training "
        "data nor a smaller or faster engine: `keep` fails it, `promote` lets it pass.",
    )
    min_smaller: Annotated[float, born(0.05)] = Field(
        0.05, gt=0, lt=1, description="Share of the champion's bytes that a smaller engine saves at least."
    )
    min_faster: Annotated[float, born(0.05)] = Field(
        0.05, gt=0, description="Share that a faster engine gains at least, beyond what boots differ by."
    )
    min_items: Annotated[int, born(1)] = Field(
        20, ge=1, description="Fewest test items that a rule decides on; with fewer it is inconclusive."
    )
    more_items: Annotated[bool, born(False)] = Field(
        True,
        description="Whether all test rows are evaluated where a paired rule is inconclusive on evaluate.max_items of "
        "them; both looks together keep the level.",
    )
    max_verbosity: Annotated[float | None, born(None)] = Field(
        1.5, gt=1, description="Most answer tokens of the candidate, as a multiple of the unquantized merge's."
    )
    max_cut_off: Annotated[float | None, born(None)] = Field(
        0.2, ge=0, le=1, description="Largest share of answers that end at evaluate.max_new_tokens."
    )
    max_repetition: Annotated[float | None, born(None)] = Field(
        0.2, ge=0, le=1, description="Largest share of repeated 8-grams in long answers (32 words or more), their mean."
    )
    max_bits_per_parameter: float | None = Field(
        None, gt=0, description="Most bits per quantized parameter; catches a format that is not what its label says."
    )
    max_warm_start_s: Annotated[float | None, born(None)] = Field(
        None, gt=0, description="Longest warm start of the candidate's engine, seconds, the median of its boots."
    )
    max_boot_spread: Annotated[float | None, born(None)] = Field(
        None, gt=0, description="Most that its speed may differ from boot to boot, as a share of the median (0.1: 10%)."
    )
    min_speed_ratio: Annotated[float | None, born(None)] = Field(
        None, gt=0, description="Least tokens per second, as a multiple of the champion's at the same concurrency."
    )
    min_of_roofline: Annotated[float | None, born(None)] = Field(
        None,
        gt=0,
        le=1,
        description="Least share of the tokens per second that the memory bandwidth of `serving` allows (needs "
        "serving.bandwidth_gb_s).",
    )
    users: Annotated[int | None, born(None)] = Field(
        None, ge=1, description="Requests at once that the target must have memory for; null: no rule."
    )
    users_context: Annotated[int, born(4096)] = Field(
        4096, ge=1, description="Tokens of each of these requests, prompt and answer."
    )
