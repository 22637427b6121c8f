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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from slipway.config.base import born
from slipway.config.gate import GateConfig
from slipway.config.gate_rows import rows_of
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError
from slipway.evaluation.causes import likely_causes
from slipway.evaluation.engine_traits import engine_digest, traits_of
from slipway.evaluation.gate_evaluator import Facts, judged
from slipway.evaluation.gate_rules import Rule, Skipped, overall
from slipway.evaluation.metric import entries, read_items, read_metrics
from slipway.evaluation.multiplicity import trial_alpha
from slipway.evaluation.paired_rules import (
    BEST,
    PAIRED,
    Evaluated,
    paired_differences,
    without_chance_fails,
)
from slipway.evaluation.retrieval_metrics import left_out, retrieval_evaluated
from slipway.evaluation.speed_rules import AUTO
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Choice, Dataset, Engine, Evaluation, Quantized, Retrieval, Verdict
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
        limits = {row.rule: row.limit for row in rows_of(self)}
        share = limits.get("of_roofline")
        if "memory" not in limits and (share is None or (share == AUTO and self.serving.bandwidth_gb_s is None)):
            del document["serving"]
        return document

    @property
    def first_share(self) -> float:
        """Share of the test rows that the first of two looks is at; 1 where there is one look."""
        if self.test_rows is None or self.first_look is None:
            return 1.0
        return self.first_look / self.test_rows


def params_of(config: Config, rows: int | None = None, look: int = 1) -> GateParams:
    """This stage's params in a run. `rows`: rows of the test split, where they may be looked at twice: first
    `evaluate.max_items` of them, then all."""
    most, looks = config.evaluate.max_items, {}
    if config.gate.more_items and rows is not None and most is not None and most < rows:
        looks = {"test_rows": rows, "first_look": most, "look": look}
    return GateParams(**config.gate.model_dump(), serving=config.serving, **looks)


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
    agent: Evaluation | None = None,
    agent_champion: Evaluation | None = None,
    search: Retrieval | None = None,
    choice: Choice | None = None,
    answers: Evaluation | None = None,
    answers_champion: Evaluation | None = None,
    data: Dataset | None = None,
    champion_data: Dataset | None = None,
    search_champion: Retrieval | None = None,
) -> None:
    """Write `verdict.json` and `summary.json`. A failed gate is a result, not an error: `require_pass` turns it into
    one. `best`: of the best release of its line, where that is not the champion; `agent` and `agent_champion`: of
    agents on the candidate and on the champion, `search`: of retrieval, by the retriever that `choice` named where
    there was a choice, `search_champion`: of the champion's index, where that is another one, `answers` and
    `answers_champion`: of answers over it; the gate's rules may name their metrics. `data` and `champion_data`: what
    the two were made and tested on, for rules on new or fixed rows.

    Raises DataError when two evaluations are not of the same items in the same order, ConfigError for an empty gate.
    """
    from slipway.data.earlier_rows import since  # takes numpy with it

    sides = {"candidate": candidate, "merged": merged, "base": base, "champion": champion, BEST: best}
    evaluated = _evaluated(sides)
    searched = _searched(search, choice, search_champion, params.confidence)
    facts = Facts(
        evaluated,
        traits_of(candidate),
        traits_of(champion) if champion else None,
        quantized,
        engine.summary if engine else {},
        params.serving,
        params.confidence,
        params.trials,
        params.first_share,
        [
            *_beside(agent, agent_champion),
            *searched,
            *_beside(answers, answers_champion),
        ],
        since(data, champion_data) if data and champion_data else None,
    )
    applied = list(judged(rows_of(params), facts))
    skipped = [one.reason for one in applied if isinstance(one, Skipped)]
    skipped += [reason for sides in searched for reason in _left_out(sides)]
    rules = without_chance_fails([one for one in applied if isinstance(one, Rule)], 1 - params.confidence)
    if not rules:
        raise ConfigError("gate", "no rule applies", "at least one floor or paired test", "set gate.floors")
    doc = {
        "outcome": overall([r.outcome for r in rules]),
        "rules": [asdict(r) for r in rules],
        "untested": _untested(rules, params, facts),
        "causes": likely_causes(evaluated["candidate"].items),
        "skipped": skipped,
        "measured": _measured(facts.all_metrics),
        "beside": [entry for sides in facts.beside for entry in sides["candidate"].metrics["metrics"]],
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


def _evaluated(sides: Mapping[str, Evaluation | None]) -> dict[str, Evaluated]:
    return {name: Evaluated(read_items(side), read_metrics(side)) for name, side in sides.items() if side}


def _beside(candidate: Evaluation | None, champion: Evaluation | None) -> list[dict[str, Evaluated]]:
    """An evaluation beside the model's own test rows, with that of the champion; none without the candidate's."""
    return [_evaluated({"candidate": candidate, "champion": champion})] if candidate else []


def _searched(
    search: Retrieval | None, choice: Choice | None, champion: Retrieval | None, confidence: float
) -> list[dict[str, Evaluated]]:
    """The evaluation of retrieval, with that of the champion's index; none without the candidate's."""
    if search is None:
        return []
    sides = {"candidate": retrieval_evaluated(search, choice, confidence)}
    return [sides | ({"champion": retrieval_evaluated(champion, None, confidence)} if champion else {})]


def _left_out(sides: Mapping[str, Evaluated]) -> list[str]:
    """What a paired rule on retrieval cannot compare, as a sentence."""
    if "champion" not in sides or not (count := left_out(sides["champion"])):
        return []
    of = len(sides["champion"].items)
    return [f"{count} of {of} questions against the champion's index: it has other documents there"]


def _untested(rules: Sequence[Rule], params: GateParams, facts: Facts) -> int:
    """Test rows that may settle what a paired rule left open; 0 where none does, or nothing is left. More rows settle
    nothing about what is evaluated beside them."""
    outcomes = {rule.outcome for rule in rules}
    undecided = any(
        rule.rule == PAIRED and rule.items_needed and facts.sides_beside(rule.metric) is None for rule in rules
    )
    if params.test_rows is None or params.first_look is None or params.look != 1:
        return 0
    return params.test_rows - params.first_look if undecided and "fail" not in outcomes else 0


def _measured(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidate's metrics in short, the primary one first: by them later runs find the best release of the line."""
    return [
        {"name": name, "value": entry["value"], "direction": entry["direction"], "n": entry["n"]}
        for name, entry in entries(metrics).items()
    ]


def _shown_better(evaluated: Mapping[str, Evaluated], role: str, params: GateParams) -> bool:
    """Whether the candidate's primary metric is better than this side's by the paired test, at a level that holds for
    `gate.trials` candidates: then it is the line's best release, once it is promoted."""
    differences = paired_differences(evaluated["candidate"], evaluated[role], params.confidence, role)
    primary = next(iter(entries(evaluated["candidate"].metrics)), None)
    d = differences.get(str(primary))
    return d is not None and d["value"] > 0 and d["p"] / 2 < trial_alpha(1 - params.confidence, params.trials)


def _difference(evaluated: dict[str, Evaluated], against: str, params: GateConfig) -> dict[str, dict[str, Any]]:
    return paired_differences(evaluated["merged"], evaluated[against], params.confidence, against)


def _summary(doc: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"outcome": doc["outcome"], "rules": len(doc["rules"])}
    for outcome in ("fail", "inconclusive"):
        flat[f"rules_{outcome}"] = sum(r["outcome"] == outcome for r in doc["rules"])
    for name in ("finetuning_gain", "quantization_cost"):
        flat |= {f"{name}_{metric}": round(d["value"], 6) for metric, d in doc[name].items()}
    return flat
