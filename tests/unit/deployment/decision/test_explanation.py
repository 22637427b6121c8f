"""What a person reads of a decision."""

from __future__ import annotations

from slipway.deployment.decision.explanation import (
    MOST_ROWS,
    interval,
    markdown,
    number,
    outcome,
    pairs,
    question,
    route_rows,
    rule_rows,
)
from slipway.deployment.decision.policy import Asked
from slipway.deployment.decision.record import Approval, Champion, Decision, Gate, Ruled

RULE = {"rule": "non_inferiority", "metric": "exact", "against": "champion", "value": -0.034, "expected": -0.02,
        "low": -0.05, "high": 0.01, "outcome": "inconclusive", "reason": "412 more items would settle it"}  # fmt: skip
DECISION = Decision(
    schema=1,
    time="2026-11-28T22:00:00Z",
    target="spark",
    line="home-intents-smollm2",
    engine="b" * 64,
    asked=Asked(by="schedule", user="ann", flow_run="f1"),
    champion=Champion(release="0001-aaaaaaaa", line="home-intents-smollm2", engine="a" * 64, chosen_by=None),
    inputs={"engine": "b" * 64, "dataset": "d" * 64},
    gate=Gate(verdict="c" * 64, outcome="inconclusive", rules=[RULE], skipped=["speed against champion: none yet"]),
    ruling=Ruled(policy="own-line", action="ask", rule="inconclusive", reason="a person decides"),
)
YES = Approval(approved=True, by="bob", reason="a | b <img>", time="2026-11-28T23:00:00Z", given="prefect")


def test_pairs_say_who_asked_what_served_and_why() -> None:
    rows = dict(pairs(DECISION.model_copy(update={"approval": YES})))
    assert rows["outcome"] == "promoted, approved by a person"
    assert rows["asked for by"] == "schedule ann, flow run f1"
    assert "nobody on record" in rows["served then"]
    assert rows["a person's answer"].startswith("approved by bob")
    assert rows["digest of dataset"] == "d" * 64


def test_the_outcome_follows_the_person() -> None:
    assert outcome(DECISION) == "waits for a person"
    no = YES.model_copy(update={"approved": False})
    assert outcome(DECISION.model_copy(update={"approval": no})) == "refused by a person"
    kept = DECISION.ruling.model_copy(update={"action": "keep"})
    assert outcome(DECISION.model_copy(update={"ruling": kept})) == "kept what serves"


def test_each_rule_is_a_row_with_value_interval_threshold_and_reason() -> None:
    assert rule_rows(DECISION) == [
        ("non_inferiority exact", "champion", "-0.034", "-0.05 to 0.01", "-0.02", "inconclusive",
         "412 more items would settle it"),
    ]  # fmt: skip


def test_rows_are_bounded_and_the_rest_is_counted() -> None:
    many = DECISION.gate.model_copy(update={"rules": [RULE] * (MOST_ROWS + 7)})
    rows = rule_rows(DECISION.model_copy(update={"gate": many}))
    assert len(rows) == MOST_ROWS + 1
    assert rows[-1][0] == "7 more"


def test_the_rule_that_chose_the_target_comes_first() -> None:
    assert route_rows(DECISION) == []
    rules = [{"rule": "size", "says": "cannot tell"}, {"rule": "users", "value": "12", "says": "dgx"}]
    routed = DECISION.model_copy(update={"routing": {"decided_by": "users", "rules": rules}})
    assert [row[0] for row in route_rows(routed)] == ["users (decided)", "size"]
    assert "Why this target" in markdown(routed)


def test_markdown_holds_no_mark_that_somebody_typed() -> None:
    text = markdown(DECISION.model_copy(update={"approval": YES}))
    assert "a \\| b &lt;img>" in text
    assert "| non_inferiority exact | champion |" in text


def test_a_question_opens_with_its_reason_and_the_rules() -> None:
    lines = question(DECISION).splitlines()
    assert lines[0] == "### a person decides"
    assert lines[2] == "- **inconclusive** non_inferiority exact against champion: 412 more items would settle it"
    assert not [line for line in lines if "digest of" in line]


def test_figures_that_are_absent_are_dashes() -> None:
    assert (number(None), number("x"), number(2)) == ("-", "-", "2")
    assert (interval(None, None), interval(None, 0.5)) == ("", "- to 0.5")
