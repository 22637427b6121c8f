"""What the gate shows of an engine that was checked, and of one that was not."""

from __future__ import annotations

from slipway.evaluation.agreement_rules import agreement_rules
from slipway.evaluation.gate_rules import Skipped
from slipway.evaluation.kernel_agreement import GROWTH, RATIO

CHECKED = {
    "agreement": "pass",
    "agreement_ratio": 1.2,
    "agreement_ratio_limit": 3.0,
    "agreement_growth": 1.1,
    "agreement_growth_limit": 4.5,
    "agreement_tokens": 512,
}


def test_both_statistics_are_rules() -> None:
    ratio, growth = agreement_rules(CHECKED)
    assert (ratio.value, ratio.expected, ratio.outcome) == (1.2, RATIO.limit, "pass")
    assert (growth.rule, growth.expected) == ("agreement_growth", GROWTH.limit)
    assert "512 of the engine's tokens is within" in ratio.reason


def test_limits_that_became_narrower_decide() -> None:
    (ratio, _) = agreement_rules({**CHECKED, "agreement_ratio": 1.01 * RATIO.limit})
    assert ratio.outcome == "fail" and "exceeds" in ratio.reason


def test_what_was_not_judged_is_no_rule() -> None:
    unjudged = {name: value for name, value in CHECKED.items() if name != "agreement_growth_limit"}
    assert [rule.rule for rule in agreement_rules(unjudged)] == ["agreement_ratio"]
    assert list(agreement_rules({})) == []
    (skipped,) = agreement_rules({"agreement": "not checked"})
    assert isinstance(skipped, Skipped) and "agreement.json" in skipped.reason
