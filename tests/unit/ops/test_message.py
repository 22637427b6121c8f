"""Messages: each names what happened, about what, and the next step; one for each event."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.decision.policy import Asked
from slipway.deployment.decision.record import Decision, Gate, Ruled
from slipway.ops import message
from slipway.ops.message import SENT_FILE, once

RULE = {"rule": "floor", "metric": "exact", "outcome": "fail", "reason": "61 % is below the floor of 80 %"}


def decision(outcome: str, action: str) -> Decision:
    """A decision of this gate's outcome and action."""
    return Decision(
        schema=1,
        time="2026-11-28T22:00:00Z",
        target="spark",
        line="home-pico",
        engine="b" * 64,
        asked=Asked(by="event"),
        champion=None,
        inputs={},
        gate=Gate(verdict="c" * 64, outcome=outcome, rules=[RULE, {"outcome": "pass", "reason": "fine"}], skipped=[]),
        ruling=Ruled(policy="own-line", action=action, rule="gate", reason="the gate decides"),
    )


@pytest.mark.parametrize(
    ("outcome", "action", "kind", "next_step"),
    [
        ("pass", "replace", "pass", "`slipway rollback spark`"),
        ("pass", "ask", "pass", "answer on http://page"),
        ("fail", "keep", "fail", "`slipway explain`"),
        ("inconclusive", "ask", "inconclusive", "`slipway promote cccccccccccc --approve REASON`"),
    ],
)
def test_a_decision_is_told_with_its_reasons_and_the_next_step(
    outcome: str, action: str, kind: str, next_step: str
) -> None:
    made = message.decided(decision(outcome, action), "http://page")
    assert made.kind == kind and made.subject.startswith(f"home-pico: gate {outcome}; spark: ")
    assert next_step in made.body.partition("Next: ")[2]
    assert "61 % is below the floor" in made.body and "fine" not in made.body


def test_every_other_event_has_a_next_step_and_a_bounded_body() -> None:
    others = [
        message.rolled_back("spark", "0003-aa", "2026"),
        message.drifted("spark", "0003-aa", "exact: 71 % under 80 %", "`slipway rollback spark`", "2026"),
        message.stuck("home-pico", "id", "Crashed", "x" * 10_000, ""),
    ]
    assert [one.kind for one in others] == ["rollback", "drift", "stuck"]
    assert all("Next: " in one.body and len(one.body) < 2000 for one in others)


@pytest.mark.parametrize("damaged", [None, "", "{", "7", "[7]"])
def test_one_event_is_told_once_and_only_what_was_sent_counts(tmp_path: Path, damaged: str | None) -> None:
    if damaged is not None:
        (tmp_path / SENT_FILE).write_text(damaged)
    one, other = (message.rolled_back("spark", release, "2026") for release in ("0001-aa", "0002-bb"))
    with once(tmp_path, one) as record:
        assert record is not None  # and nothing is sent
    for each in (one, other):
        with once(tmp_path, each) as record:
            assert record is not None
            record()
        with once(tmp_path, each) as record:
            assert record is None
