"""Is the candidate good enough to replace what serves? Every rule passes, fails, or says that the items cannot tell.

- floor: the candidate's point estimate reaches the floor. The interval is shown beside it and decides nothing.
- non-inferiority: paired on the same items, d = candidate - reference, margin m, each end of the interval one-sided at
  `confidence`: pass when low > -m, fail when high < -m, else inconclusive. References are the merge, the base, the
  champion, and the best release of its line: held to the champion alone, release after release may lose a margin each.
  All must pass, which needs no correction; a fail must hold for all of them together (`evaluation.multiplicity`).
- gain: a tie keeps the champion, unless the candidate brings new data, or is smaller or faster.
- how answers look: verbosity against the merge, share of cut-off answers, repetition in long ones.
- a rule whose metric was not measured, on too few items, or where both sides are all wrong or empty: inconclusive.
- bits per parameter: the quantized checkpoint is no larger than its format says.
- speed as a multiple of the champion's and as a share of the roofline; memory for the planned users.
- how it starts: seconds of a warm start, and how far its speed differs from boot to boot.
- kernel agreement: how far the engine's log-probabilities are from what its weights say, in units of rounding.

Any fail fails the gate; else any inconclusive rule leaves it inconclusive. Quality won by fine-tuning (merged - base)
and lost to quantization (merged - candidate, positive is a loss) are figures, not rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from slipway.config.base import born
from slipway.config.gate import GateConfig, NonInferiority
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError
from slipway.evaluation.agreement_rules import agreement_rules, skipped_agreement
from slipway.evaluation.answer_rules import answer_rules, skipped_answer_rules
from slipway.evaluation.capacity_rules import capacity_rules
from slipway.evaluation.causes import likely_causes
from slipway.evaluation.engine_traits import Traits, engine_digest, traits_of
from slipway.evaluation.gain_rules import gain_rules
from slipway.evaluation.gate_rules import Rule, bits_rules, floor_rules, overall
from slipway.evaluation.looks import look_alpha
from slipway.evaluation.metric import entries, read_items, read_metrics
from slipway.evaluation.multiplicity import trial_alpha
from slipway.evaluation.paired_rules import (
    BEST,
    PAIRED,
    Evaluated,
    non_inferiority_rule,
    paired_differences,
    without_chance_fails,
)
from slipway.evaluation.speed_rules import roofline_rules, skipped_speed, speed_rules
from slipway.evaluation.start_rules import start_rules
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Engine, Evaluation, Quantized, Verdict
from slipway.system.files import write_atomic

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Verdict


class GateParams(GateConfig):
    """What the stage needs: the config's section, the machine that serves, and how many looks there are."""

    serving: TargetConfig = Field(default_factory=TargetConfig, description="The machine that serves.")
    test_rows: Annotated[int | None, born(None)] = Field(
        None, ge=1, description="Test rows that there are, where the first look is at fewer; null: there is one look."
    )
    first_look: Annotated[int | None, born(None)] = Field(None, ge=1, description="Test rows of the first look.")
    look: Annotated[int, born(1)] = Field(1, ge=1, le=2, description="Which look at the test rows this is.")

    def key_document(self) -> dict[str, Any]:
        """The machine decides only what is measured against it."""
        document = super().key_document()
        if self.users is None and self.min_of_roofline is None:
            del document["serving"]
        return document


def params_of(config: Config, rows: int | None = None, look: int = 1) -> GateParams:
    """This stage's params in a run. `rows`: rows of the test split, where they may be looked at twice: first
    `evaluate.max_items` of them, then all."""
    most, looks = config.evaluate.max_items, {}
    if config.gate.more_items and rows is not None and most is not None and most < rows:
        looks = {"test_rows": rows, "first_look": most, "look": look}
    return GateParams(**config.gate.model_dump(), serving=config.serving, **looks)


@dataclass(frozen=True)
class _Sides:
    """Evaluations by role, and the traits of the engines that a candidate is compared with."""

    evaluated: Mapping[str, Evaluated]
    candidate: Traits
    champion: Traits | None
    quantized: Quantized
    served: Mapping[str, Any]


def gate(
    candidate: Evaluation,
    merged: Evaluation,
    base: Evaluation | None,
    champion: Evaluation | None,
    quantized: Quantized,
    engine: Engine | None,
    params: GateParams,
    space: Workspace,
    best: Evaluation | None = None,
) -> None:
    """Write `verdict.json` and `summary.json`. A failed gate is a result, not an error: `require_pass` turns it into
    one. `best`: of the best release of its line, where that is not the champion.

    Raises DataError when two evaluations are not of the same items in the same order, ConfigError for an empty gate.
    """
    sides = {"candidate": candidate, "merged": merged, "base": base, "champion": champion, BEST: best}
    evaluated = {name: Evaluated(read_items(side), read_metrics(side)) for name, side in sides.items() if side}
    compared = _Sides(
        evaluated,
        traits_of(candidate),
        traits_of(champion) if champion else None,
        quantized,
        engine.summary if engine else {},
    )
    rules = without_chance_fails(list(_rules(compared, params)), 1 - params.confidence)
    if not rules:
        raise ConfigError("gate", "no rule applies", "at least one floor or paired test", "set gate.floors")
    doc = {
        "outcome": overall([r.outcome for r in rules]),
        "rules": [asdict(r) for r in rules],
        "untested": _untested(rules, params),
        "causes": likely_causes(evaluated["candidate"].items),
        "skipped": list(_skipped(compared, params)),
        "measured": _measured(evaluated["candidate"].metrics),
        "compared": {
            role: {"engine": engine_digest(side), "better": _shown_better(evaluated, role, params)}
            for role, side in (("champion", champion), (BEST, best))
            if side
        },
        "finetuning_gain": _difference(evaluated, "base", params) if base else {},
        "quantization_cost": _difference(evaluated, "candidate", params),
        "confidence": params.confidence,
    }
    if doc["untested"]:
        space.progress.note(f"inconclusive on {params.first_look} test rows: {doc['untested']} more are evaluated next")
    write_atomic(space.out / "verdict.json", json.dumps(doc, indent=1) + "\n")
    write_atomic(space.out / "summary.json", json.dumps(_summary(doc), indent=1) + "\n")
    space.progress.note(f"gate: {doc['outcome']}, {len(rules)} rules")


def _rules(sides: _Sides, params: GateParams) -> Iterator[Rule]:
    """Every rule that is set and can be applied, in the order of the tables."""
    metrics, merged = sides.evaluated["candidate"].metrics, sides.evaluated["merged"].metrics
    yield from floor_rules(metrics, params)
    for rule in params.non_inferiority:
        if rule.against in sides.evaluated:
            yield non_inferiority_rule(rule, sides.evaluated, params, _level(rule, params))
    if sides.champion:
        against = paired_differences(
            sides.evaluated["candidate"], sides.evaluated["champion"], params.confidence, "champion"
        )
        yield from gain_rules(sides.candidate, sides.champion, against, params)
    yield from answer_rules(metrics, merged, params)
    yield from bits_rules(sides.quantized, params)
    yield from speed_rules(sides.candidate.speed, sides.champion.speed if sides.champion else None, params)
    yield from roofline_rules(sides.candidate.speed, sides.quantized, params.serving, params)
    yield from capacity_rules(sides.quantized, params.serving, params)
    yield from start_rules(sides.served, params)
    yield from agreement_rules(sides.served)


def _level(rule: NonInferiority, params: GateParams) -> float:
    """The one-sided level of a paired rule: less against a best release that is not the champion, and at each of two
    looks at the test rows."""
    alpha = trial_alpha(1 - params.confidence, params.trials if rule.against == BEST else 1)
    if params.test_rows is None or params.first_look is None:
        return alpha
    return look_alpha(alpha, params.first_look / params.test_rows, params.look)


def _untested(rules: Sequence[Rule], params: GateParams) -> int:
    """Test rows that may settle what a paired rule left open; 0 where none does, or nothing is left."""
    outcomes = {rule.outcome for rule in rules}
    undecided = any(rule.rule == PAIRED and rule.items_needed for rule in rules)
    if params.test_rows is None or params.first_look is None or params.look != 1:
        return 0
    return params.test_rows - params.first_look if undecided and "fail" not in outcomes else 0


def _skipped(sides: _Sides, params: GateParams) -> Iterator[str]:
    """What is set and was not applied, with the reason."""
    for rule in params.non_inferiority:
        if rule.against not in sides.evaluated:
            none = "the champion is it" if rule.against == BEST and sides.champion else "there is none yet"
            yield f"{rule.metric} against {rule.against}: {none}"
    yield from skipped_speed(sides.champion.speed if sides.champion else None, params)
    yield from skipped_answer_rules(sides.evaluated["merged"].metrics, params)
    yield from skipped_agreement(sides.served)


def _measured(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidate's metrics in short, the primary one first: by them later runs find the best release of the line."""
    return [
        {"name": name, "value": entry["value"], "direction": entry["direction"], "n": entry["n"]}
        for name, entry in entries(metrics).items()
    ]


def _shown_better(evaluated: Mapping[str, Evaluated], role: str, params: GateParams) -> bool:
    """Whether the candidate's primary metric is better than this side's by the paired test: then it is the line's best
    release, once it is promoted."""
    differences = paired_differences(evaluated["candidate"], evaluated[role], params.confidence, role)
    primary = next(iter(entries(evaluated["candidate"].metrics)), None)
    d = differences.get(str(primary))
    return d is not None and d["value"] > 0 and d["p"] / 2 < 1 - params.confidence


def _difference(evaluated: dict[str, Evaluated], against: str, params: GateConfig) -> dict[str, dict[str, Any]]:
    return paired_differences(evaluated["merged"], evaluated[against], params.confidence, against)


def _summary(doc: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"outcome": doc["outcome"], "rules": len(doc["rules"])}
    for outcome in ("fail", "inconclusive"):
        flat[f"rules_{outcome}"] = sum(r["outcome"] == outcome for r in doc["rules"])
    for name in ("finetuning_gain", "quantization_cost"):
        flat |= {f"{name}_{metric}": round(d["value"], 6) for metric, d in doc[name].items()}
    return flat
