"""The gate's evaluator: rows of rules (`config/gate_rows.py`) applied to what was measured, whatever set them.

What a kind of rule means is its row of `KINDS`; how it is judged is its entry in `JUDGES`, a function of the row and
the facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slipway.config.gate_rows import GateRow, against_of
from slipway.config.target import TargetConfig
from slipway.evaluation.agreement_rules import agreement_rules
from slipway.evaluation.answer_rules import cut_off_rule, repetition_rules, verbosity_rule
from slipway.evaluation.capacity_rules import capacity_rule
from slipway.evaluation.engine_traits import Traits
from slipway.evaluation.gain_rules import gain_rule
from slipway.evaluation.gate_rules import Rule, Skipped, bits_rule, floor_rule
from slipway.evaluation.metric import entries
from slipway.evaluation.multiplicity import look_alpha, trial_alpha
from slipway.evaluation.paired_rules import BEST, Evaluated, non_inferiority_rule, paired_differences
from slipway.evaluation.speed_rules import roofline_rules, speed_rules
from slipway.evaluation.start_rules import start_rule
from slipway.store.artifacts import Quantized


@dataclass(frozen=True)
class Facts:
    """What rules are judged by.

    `evaluated`: evaluations by role (candidate, merged, base, champion, best), the first two always. `candidate`,
    `champion`: traits of their engines. `served`: summary of the candidate's engine. `serving`: the machine.
    `confidence`: of intervals that are no row's own. `trials`: candidates held to one best release. `first_look`: share
    of the test rows that a first of two looks is at; 1 where there is one look. `beside`: what else was evaluated, of
    the candidate and where there is one the champion: agents, retrieval, each apart since its items are no test rows.
    `since`: what each test row, by its id, was in the champion's data: `fixed`, `learnt` or `new`
    (`data.earlier_rows`); None where nobody knows.
    """

    evaluated: Mapping[str, Evaluated]
    candidate: Traits
    champion: Traits | None
    quantized: Quantized
    served: Mapping[str, Any]
    serving: TargetConfig
    confidence: float
    trials: int
    first_look: float = 1.0
    beside: Sequence[Mapping[str, Evaluated]] = ()
    since: Mapping[str, str] | None = None

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The candidate's `metrics.json`."""
        return self.evaluated["candidate"].metrics

    @property
    def all_metrics(self) -> Mapping[str, Any]:
        """The same with the entries of what was evaluated beside it behind its own."""
        more = [entry for sides in self.beside for entry in sides["candidate"].metrics["metrics"]]
        return {**self.metrics, "metrics": [*self.metrics["metrics"], *more]}

    def sides_beside(self, metric: str) -> Mapping[str, Evaluated] | None:
        """The evaluations that measured this metric, where they are not of test rows; None where they are."""
        return next((sides for sides in self.beside if metric in entries(sides["candidate"].metrics)), None)


Judged = Rule | Skipped


def judged(rows: Sequence[GateRow], facts: Facts) -> Iterator[Judged]:
    """Every row applied, in order: the rules it led to, each with the row's key, or why it could not be applied."""
    for row in rows:
        for one in JUDGES[row.rule](row, facts):
            yield replace(one, key=row.key) if isinstance(one, Rule) else one


def _floor(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield floor_rule(facts.all_metrics, row)


def _paired(row: GateRow, facts: Facts) -> Iterator[Judged]:
    beside = facts.sides_beside(str(row.metric))
    sides = facts.evaluated if beside is None else beside
    if row.rows and row.against in sides:
        yield _on_some_rows(row, facts)
    elif row.against in sides:
        yield non_inferiority_rule(row, sides, _level(row, facts) if beside is None else row.alpha)  # one look
    else:
        none = "the champion is it" if row.against == BEST and facts.champion else "there is none yet"
        if beside is not None and row.against == "champion" and facts.champion:
            none = "it has the same one, or none"  # an index; agents are evaluated on every champion
        yield Skipped(f"{row.metric} against {row.against}: {none}")


def _on_some_rows(row: GateRow, facts: Facts) -> Judged:
    """A paired rule on the test rows that are new since the champion, or on those that it was tested on too."""
    against = against_of(row)
    if facts.since is None:
        reason = f"{row.metric} {against}: the champion's data are not in the store, and nobody knows its rows"
        return Rule(row.rule, row.metric, against, None, -row.margin, None, None, "inconclusive", reason, 0)
    since = facts.since
    sides = {
        name: replace(side, items=[item for item in side.items if since.get(str(item["id"])) == row.rows])
        for name, side in facts.evaluated.items()
        if name in ("candidate", row.against)
    }
    if not sides["candidate"].items:
        return Skipped(f"{row.metric} against {against}: there is none")
    rule = non_inferiority_rule(row, sides, _level(row, facts))
    return replace(rule, against=against, reason=f"on {rule.items or 0} {row.rows} test rows {rule.reason}")


def _level(row: GateRow, facts: Facts) -> float:
    """The one-sided level of a paired rule: less against a best release that is not the champion, and at each of two
    looks at the test rows."""
    alpha = trial_alpha(row.alpha, facts.trials) if row.against == BEST else row.alpha
    return look_alpha(alpha, facts.first_look)


def _gain(row: GateRow, facts: Facts) -> Iterator[Judged]:
    if facts.champion:
        sides = facts.evaluated["candidate"], facts.evaluated["champion"]
        differences = paired_differences(*sides, facts.confidence, "champion")
        yield gain_rule(facts.candidate, facts.champion, differences, row)


def _verbosity(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield verbosity_rule(facts.metrics, facts.evaluated["merged"].metrics, row)


def _cut_off(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield cut_off_rule(facts.metrics, row)


def _repetition(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield from repetition_rules(facts.metrics, row)


def _bits(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield bits_rule(facts.quantized, row)


def _speed(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield from speed_rules(facts.candidate.speed, facts.champion.speed if facts.champion else None, row)


def _of_roofline(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield from roofline_rules(facts.candidate.speed, facts.quantized, facts.serving, row)


def _memory(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield capacity_rule(facts.quantized, facts.serving, row)


def _start(row: GateRow, facts: Facts) -> Iterator[Judged]:
    yield start_rule(facts.served, row)


def _agreement(_: GateRow, facts: Facts) -> Iterator[Judged]:
    yield from agreement_rules(facts.served)


JUDGES: dict[str, Callable[[GateRow, Facts], Iterator[Judged]]] = {
    "floor": _floor,
    "non_inferiority": _paired,
    "gain": _gain,
    "verbosity": _verbosity,
    "cut_off": _cut_off,
    "repetition": _repetition,
    "bits_per_parameter": _bits,
    "speed": _speed,
    "of_roofline": _of_roofline,
    "memory": _memory,
    "warm_start": _start,
    "boot_spread": _start,
    "agreement": _agreement,
}
