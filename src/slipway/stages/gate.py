"""Is the candidate good enough to replace what serves? Every rule passes, fails, or says that the items cannot tell.

- floor: the candidate's point estimate reaches the floor. The interval is shown beside it and decides nothing.
- non-inferiority: paired on the same items, d = candidate - reference, margin m, each end of the interval one-sided at
  `confidence`: pass when low > -m, fail when high < -m, else inconclusive.
- how answers look: verbosity against the merge, share of cut-off answers, repetition in long ones.
- a rule whose metric was not measured, on too few items, or where both sides are all wrong or empty: inconclusive.
- bits per parameter: the quantized checkpoint is no larger than its format says.
- how it starts: seconds of a warm start, and how far its speed differs from boot to boot.
- kernel agreement: how far the engine's log-probabilities are from what its weights say, in units of rounding.

Any fail fails the gate; else any inconclusive rule leaves it inconclusive. Quality won by fine-tuning (merged - base)
and lost to quantization (merged - candidate, positive is a loss) are figures, not rules.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slipway.config.gate import GateConfig
from slipway.errors import ConfigError
from slipway.evaluation.agreement_rules import agreement_rules, skipped_agreement
from slipway.evaluation.answer_rules import answer_rules, skipped_answer_rules
from slipway.evaluation.causes import likely_causes
from slipway.evaluation.gate_rules import bits_rules, floor_rules, overall
from slipway.evaluation.metric import read_items, read_metrics
from slipway.evaluation.paired_rules import Evaluated, non_inferiority_rule, paired_differences
from slipway.evaluation.start_rules import start_rules
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Engine, Evaluation, Quantized, Verdict
from slipway.system.files import write_atomic

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Verdict


def params_of(config: Config) -> GateConfig:
    """This stage's params in a run."""
    return config.gate


def gate(
    candidate: Evaluation,
    merged: Evaluation,
    base: Evaluation | None,
    champion: Evaluation | None,
    quantized: Quantized,
    engine: Engine | None,
    params: GateConfig,
    space: Workspace,
) -> None:
    """Write `verdict.json` and `summary.json`. A failed gate is a result, not an error: `require_pass` turns it into
    one.

    Raises DataError when two evaluations are not of the same items in the same order, ConfigError for an empty gate.
    """
    sides = {"candidate": candidate, "merged": merged, "base": base, "champion": champion}
    evaluated = {name: Evaluated(read_items(side), read_metrics(side)) for name, side in sides.items() if side}
    paired = [r for r in params.non_inferiority if r.against in evaluated]
    served = engine.summary if engine else {}
    rules = [
        *floor_rules(evaluated["candidate"].metrics, params),
        *(non_inferiority_rule(r, evaluated, params) for r in paired),
        *answer_rules(evaluated["candidate"].metrics, evaluated["merged"].metrics, params),
        *bits_rules(quantized, params),
        *start_rules(served, params),
        *agreement_rules(served),
    ]
    if not rules:
        raise ConfigError("gate", "no rule applies", "at least one floor or paired test", "set gate.floors")
    doc = {
        "outcome": overall([r.outcome for r in rules]),
        "rules": [asdict(r) for r in rules],
        "causes": likely_causes(evaluated["candidate"].items),
        "skipped": [
            *(f"{r.metric} against {r.against}: there is none yet" for r in params.non_inferiority if r not in paired),
            *skipped_answer_rules(evaluated["merged"].metrics, params),
            *skipped_agreement(served),
        ],
        "finetuning_gain": _difference(evaluated, "base", params) if base else {},
        "quantization_cost": _difference(evaluated, "candidate", params),
        "confidence": params.confidence,
    }
    write_atomic(space.out / "verdict.json", json.dumps(doc, indent=1) + "\n")
    write_atomic(space.out / "summary.json", json.dumps(_summary(doc), indent=1) + "\n")
    space.progress.note(f"gate: {doc['outcome']}, {len(rules)} rules")


def _difference(evaluated: dict[str, Evaluated], against: str, params: GateConfig) -> dict[str, dict[str, Any]]:
    return paired_differences(evaluated["merged"], evaluated[against], params.confidence, against)


def _summary(doc: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"outcome": doc["outcome"], "rules": len(doc["rules"])}
    for outcome in ("fail", "inconclusive"):
        flat[f"rules_{outcome}"] = sum(r["outcome"] == outcome for r in doc["rules"])
    for name in ("finetuning_gain", "quantization_cost"):
        flat |= {f"{name}_{metric}": round(d["value"], 6) for metric, d in doc[name].items()}
    return flat
