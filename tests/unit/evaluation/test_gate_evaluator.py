"""One evaluator for every row: each kind has its judge, and a rule says which key of the config set it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.config.gate import GateConfig, RuleRow
from slipway.config.gate_kinds import KINDS
from slipway.config.gate_rows import rows_of
from slipway.config.target import TargetConfig
from slipway.evaluation.engine_traits import Traits
from slipway.evaluation.gate_evaluator import JUDGES, Facts, judged
from slipway.evaluation.gate_rules import Rule, Skipped
from slipway.evaluation.metric import Metric, aggregate
from slipway.evaluation.multiplicity import trial_alpha
from slipway.evaluation.paired_rules import Evaluated
from slipway.evaluation.speed_rules import Speed
from slipway.store.artifacts import Quantized

EXACT = Metric("exact", "exact match")
OFF = {"max_verbosity": None, "max_cut_off": None, "max_repetition": None, "min_speed_ratio": None}


def evaluated(right: int, n: int = 40) -> Evaluated:
    items = [{"id": i, "template": f"t{i}", "answer": "x", "metrics": {"exact": int(i < right)}} for i in range(n)]
    return Evaluated(items, {"n": n, "metrics": [aggregate(EXACT, items, 0.95)]})


def facts(first_look: float = 1.0, **sides: int) -> Facts:
    traits = Traits("a" * 64, 10, Speed({}, None))
    quantized = Quantized(uri="nowhere", digest="0" * 64)
    evaluations = {side: evaluated(right) for side, right in sides.items()}
    champion = traits if "champion" in sides else None
    return Facts(evaluations, traits, champion, quantized, {}, TargetConfig(), 0.95, 50, first_look)


def rules(keys: dict[str, Any], about: Facts) -> list[Rule | Skipped]:
    return list(judged(rows_of(GateConfig.model_validate({**OFF, "min_of_roofline": None, **keys})), about))


def test_every_kind_has_a_judge_and_a_name_in_the_config() -> None:
    """What decides by itself, kernel agreement, takes no row of the config."""
    assert list(JUDGES) == list(KINDS)
    names = RuleRow.model_fields["rule"].annotation.__args__  # type: ignore[union-attr]
    assert [*names, "agreement"] == list(KINDS)


@pytest.mark.parametrize(
    "keys",
    [
        {"floors": {"exact": 0.9}, "non_inferiority": [{"against": "merged", "metric": "exact", "margin": 0.2}]},
        {
            "rules": [
                {"rule": "floor", "metric": "exact", "limit": 0.9},
                {"rule": "non_inferiority", "metric": "exact", "against": "merged", "margin": 0.2},
            ]
        },
    ],
    ids=["shorthand", "rows"],
)
def test_shorthand_and_rows_are_judged_alike(keys: dict[str, Any]) -> None:
    floor, paired = rules(keys, facts(candidate=35, merged=40))
    assert isinstance(floor, Rule) and isinstance(paired, Rule)
    assert (floor.outcome, floor.expected, paired.outcome, paired.expected) == ("fail", 0.9, "inconclusive", -0.2)
    assert floor.key == ("gate.floors.exact" if "floors" in keys else "gate.rules.0")
    assert paired.key == ("gate.non_inferiority.0" if "floors" in keys else "gate.rules.1")


def test_a_row_has_a_level_of_its_own_that_looks_and_trials_share() -> None:
    row = {"rule": "non_inferiority", "metric": "exact", "margin": 0.2, "alpha": 0.01}
    keys = {"rules": [{**row, "against": "merged"}, {**row, "against": "best"}], "tie": "promote"}
    once = rules(keys, facts(candidate=40, merged=40, best=40))
    assert [rule.alpha for rule in once if isinstance(rule, Rule)] == [0.01, trial_alpha(0.01, 50)]
    twice = rules(keys, facts(0.5, candidate=40, merged=40, best=40))
    assert [rule.alpha for rule in twice if isinstance(rule, Rule)] == [0.005, trial_alpha(0.01, 50) / 2]


def test_what_cannot_be_applied_is_said() -> None:
    row = {"rule": "non_inferiority", "metric": "exact", "margin": 0.2}
    keys = {"rules": [{**row, "against": "champion"}, {**row, "against": "best"}], "tie": "promote"}
    nobody = rules(keys, facts(candidate=40, merged=40))
    assert nobody == [
        Skipped("exact against champion: there is none yet"),
        Skipped("exact against best: there is none yet"),
    ]
    _, best = rules(keys, facts(candidate=40, merged=40, champion=40))
    assert best == Skipped("exact against best: the champion is it")
