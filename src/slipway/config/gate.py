"""Section `gate`: what a candidate must reach.

Metrics are named as the evaluation declares them (docs/metrics.md); `primary` is the task's first one, whatever it is.
Every key is shorthand for rows, and `rules` takes rows themselves: `config/gate_rows.py` makes one list of both.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Section, born
from slipway.config.gate_kinds import KINDS

RuleName = Literal[
    "floor",
    "non_inferiority",
    "gain",
    "verbosity",
    "cut_off",
    "repetition",
    "bits_per_parameter",
    "speed",
    "of_roofline",
    "memory",
    "warm_start",
    "boot_spread",
]
Reference = Literal["champion", "best", "merged", "base"]
Rows = Literal["new", "fixed"]


class NonInferiority(Section):
    """The candidate may be worse than the reference by less than `margin`."""

    against: Reference = Field(
        description="Reference: the serving release, the best release of its line (where that is another one), the "
        "unquantized merge, or the model before fine-tuning."
    )
    metric: str = Field(min_length=1, description="Metric compared in pairs, item by item; `primary`: the task's own.")
    margin: float = Field(
        gt=0, allow_inf_nan=False, description="Largest loss accepted, in the metric's unit (0.1 is ten percent)."
    )


class RuleRow(Section):
    """One rule of the gate as a row; which keys its kind takes and needs: `slipway gate --help`."""

    rule: RuleName = Field(description="Kind of the rule.")
    metric: str | None = Field(None, min_length=1, description="Metric that is judged; `primary`: the task's own.")
    against: Reference | None = Field(None, description="Reference of a paired rule.")
    limit: float | Literal["auto"] | None = Field(
        None, description="Threshold, in the unit of what is measured; `auto` for speed and of_roofline only."
    )
    margin: float | None = Field(None, gt=0, description="Largest loss of a paired rule, in the metric's unit.")
    alpha: float | None = Field(
        None, gt=0, lt=0.5, description="One-sided level of this rule's test; null: 1 - gate.confidence."
    )
    smaller: float | None = Field(None, gt=0, lt=1, description="Rule gain: as gate.min_smaller.")
    faster: float | None = Field(None, gt=0, description="Rule gain: as gate.min_faster.")
    context: int | None = Field(None, ge=1, description="Rule memory: as gate.users_context.")
    rows: Annotated[Rows | None, born(None)] = Field(
        None,
        description="Test rows of a paired rule against the champion: `new`, that it neither learnt nor was tested on, "
        "or `fixed`, that it was tested on too; null: all.",
    )

    @property
    def identity(self) -> tuple[str, str | None, str | None, str | None]:
        """What makes two rows the same rule: kind, metric, reference, and which test rows."""
        return self.rule, self.metric, self.against, self.rows

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        kind = KINDS[self.rule]
        given = {name for name in type(self).model_fields if name != "rule" and getattr(self, name) is not None}
        if unknown := sorted(given - set(kind.takes)):
            raise ValueError(f"rule {self.rule} takes {', '.join(kind.takes)}, not {', '.join(unknown)}")
        if missing := [name for name in kind.needs if name not in given]:
            raise ValueError(f"rule {self.rule} needs {', '.join(missing)}")
        if self.rows and self.against != "champion":
            raise ValueError(
                f"rows {self.rows} are those since the champion, so the rule is against it, not {self.against}"
            )
        _check_limit(self.rule, self.limit)
        return self


# least limit, whether it is itself allowed, largest limit (None: no end)
_LIMITS: dict[str, tuple[float, bool, float | None]] = {
    "verbosity": (1, False, None),
    "cut_off": (0, True, 1),
    "repetition": (0, True, 1),
    "bits_per_parameter": (0, False, None),
    "speed": (0, False, None),
    "of_roofline": (0, False, 1),
    "memory": (1, True, None),
    "warm_start": (0, False, None),
    "boot_spread": (0, False, None),
}


def _check_limit(rule: str, limit: float | str | None) -> None:
    """The same bounds as the keys have that are shorthand for the rule. Raises ValueError."""
    if limit == "auto" and rule not in ("speed", "of_roofline"):
        raise ValueError(f"rule {rule} has no limit `auto`; give a number")
    if not isinstance(limit, float) or rule not in _LIMITS:
        return
    least, itself, most = _LIMITS[rule]
    if limit < least or (limit == least and not itself) or (most is not None and limit > most):
        start, end = "from" if itself else "above", "" if most is None else f" up to {most:g}"
        raise ValueError(f"the limit of rule {rule} is {limit:g}; it is a number {start} {least:g}{end}")
    if rule == "memory" and limit != int(limit):
        raise ValueError(f"the limit of rule memory is {limit:g}; it is a whole number of requests")


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
    rules: Annotated[list[RuleRow], born([])] = Field(
        default_factory=list,
        description="Rules as rows: kind, metric, against, limit or margin, alpha, rows (`slipway gate --help`); one "
        "of the same kind, metric, reference and test rows as another key makes takes its place.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided level of the paired tests.")
    trials: Annotated[int, born(1)] = Field(
        50,
        ge=1,
        description="Candidates that are held to one best release before one is shown to be better than it; each is "
        "tested at (1 - confidence) / (2 trials), so that none of them slips below the margin or becomes the best "
        "release by chance.",
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
    min_speed_ratio: Annotated[Annotated[float, Field(gt=0)] | Literal["auto"] | None, born(None)] = Field(
        "auto",
        description="Least tokens per second, as a multiple of the champion's at the same concurrency; auto: 0.9, "
        "where boots of both engines were measured on one machine and can tell; null: no rule.",
    )
    min_of_roofline: Annotated[Annotated[float, Field(gt=0, le=1)] | Literal["auto"] | None, born(None)] = Field(
        "auto",
        description="Least share of the tokens per second that the memory bandwidth of `serving` allows (needs "
        "serving.bandwidth_gb_s); auto: the share is shown and decides nothing; null: no rule.",
    )
    users: Annotated[int | None, born(None)] = Field(
        None, ge=1, description="Requests at once that the target must have memory for; null: no rule."
    )
    users_context: Annotated[int, born(4096)] = Field(
        4096, ge=1, description="Tokens of each of these requests, prompt and answer."
    )

    @model_validator(mode="after")
    def _each_rule_once(self) -> Self:
        seen: dict[tuple[str | None, ...], int] = {}
        for at, row in enumerate(self.rules):
            if row.identity in seen:
                words = " ".join(part for part in row.identity if part)
                raise ValueError(f"gate.rules.{seen[row.identity]} and gate.rules.{at} are the same rule, {words}")
            seen[row.identity] = at
        return self
