"""Why nothing was promoted, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.decision.record import Approval
from slipway.deployment.decision.refusal import kept_because, require_decided
from slipway.errors import GateError
from slipway.store.store import Store
from tests.support.target import make_engine, make_verdict
from tests.unit.deployment.decision.test_explanation import DECISION

ASKS = DECISION.model_copy(
    update={"ruling": DECISION.ruling.model_copy(update={"action": "ask", "reason": "a person decides"})}
)
NO = Approval(approved=False, by="ann", reason="trade fair", time="2026-11-29T06:00:00Z", given="prefect")


@pytest.mark.parametrize(
    ("champion", "runs", "sentence"),
    [
        ("0001-ab", True, "0001-ab serves"),
        ("0001-ab", False, "0001-ab is the champion and does not run"),
        (None, False, "nothing serves"),
    ],
)
def test_what_serves_is_named_with_the_reason(champion: str | None, runs: bool, sentence: str) -> None:
    waits = ASKS.model_copy(update={"approval": None})
    expected = f"waits for a person: a person decides; {sentence}; `slipway promote` is a person's word for it"
    assert kept_because(waits, champion, runs) == expected


@pytest.mark.parametrize(("action", "rule"), [("ask", "inconclusive"), ("replace", "same engine")])
def test_an_inconclusive_gate_names_the_command_that_accepts_it(tmp_path: Path, action: str, rule: str) -> None:
    """Also where the engine serves already: its new verdict decided nothing."""
    store = Store(tmp_path)
    verdict = make_verdict(store, make_engine(store, {"answer": "a"}), "inconclusive")
    ruled = DECISION.ruling.model_copy(update={"action": action, "rule": rule, "reason": "0001-ab is this engine"})
    undecided = DECISION.model_copy(update={"ruling": ruled})
    with pytest.raises(GateError, match=rf"inconclusive.*slipway promote {verdict.path} --approve REASON") as caught:
        require_decided(undecided, verdict)
    assert ("0001-ab is this engine" in caught.value.value) == (rule == "same engine")
    yes = NO.model_copy(update={"approved": True})
    accepted = undecided.model_copy(update={"approval": yes})
    require_decided(accepted, verdict)
    assert accepted.promotes


def test_a_persons_no_is_the_reason() -> None:
    refused = ASKS.model_copy(update={"approval": NO})
    assert kept_because(refused, "0001-ab", True) == "refused by a person: trade fair; 0001-ab serves"
