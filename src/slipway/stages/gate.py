"""Is the candidate good enough to replace what serves? Every rule passes, fails, or says that the items cannot tell.

- floor: the candidate's point estimate reaches the floor. The interval is shown beside it and decides nothing.
- non-inferiority: paired on the same items, d = candidate - reference, margin m, each end of the interval one-sided at
  `confidence`: pass when low > -m, fail when high < -m, else inconclusive.
- bits per parameter: the quantized checkpoint is no larger than its format says.

Any fail fails the gate; else any inconclusive rule leaves it inconclusive. Quality won by fine-tuning (merged - base)
and lost to quantization (merged - candidate, positive is a loss) are figures, not rules.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slipway.config.gate import GateConfig
from slipway.errors import ConfigError
from slipway.evaluation.gate_rules import (
    bits_rules,
    floor_rules,
    non_inferiority_rule,
    overall,
    paired_differences,
    read_items,
)
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Evaluation, Quantized, Verdict
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
    base: Evaluation,
    champion: Evaluation | None,
    quantized: Quantized,
    params: GateConfig,
    space: Workspace,
) -> None:
    """Write `verdict.json` and `summary.json`. A failed gate is a result, not an error: `require_pass` turns it into
    one.

    Raises DataError when two evaluations are not of the same items in the same order, ConfigError for an unknown metric
    or an empty gate.
    """
    items = {"candidate": read_items(candidate), "merged": read_items(merged), "base": read_items(base)}
    if champion:
        items["champion"] = read_items(champion)
    paired = [r for r in params.non_inferiority if r.against in items]
    rules = [
        *floor_rules(candidate, params),
        *(non_inferiority_rule(r, items, params.confidence) for r in paired),
        *bits_rules(quantized, params),
    ]
    if not rules:
        raise ConfigError("gate", "no rule applies", "at least one floor or paired test", "set gate.floors")
    doc = {
        "outcome": overall([r.outcome for r in rules]),
        "rules": [asdict(r) for r in rules],
        "skipped": [
            f"{r.metric} against {r.against}: there is none yet" for r in params.non_inferiority if r not in paired
        ],
        "finetuning_gain": paired_differences(items["merged"], items["base"], params.confidence, "base"),
        "quantization_cost": paired_differences(items["merged"], items["candidate"], params.confidence, "candidate"),
        "confidence": params.confidence,
    }
    write_atomic(space.out / "verdict.json", json.dumps(doc, indent=1) + "\n")
    write_atomic(space.out / "summary.json", json.dumps(_summary(doc), indent=1) + "\n")
    space.progress.note(f"gate: {doc['outcome']}, {len(rules)} rules")


def _summary(doc: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"outcome": doc["outcome"], "rules": len(doc["rules"])}
    for outcome in ("fail", "inconclusive"):
        flat[f"rules_{outcome}"] = sum(r["outcome"] == outcome for r in doc["rules"])
    for name in ("finetuning_gain", "quantization_cost"):
        flat |= {f"{name}_{metric}": round(d["value"], 6) for metric, d in doc[name].items()}
    return flat
