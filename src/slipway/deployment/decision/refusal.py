"""Why nothing was promoted: the errors for whoever waits for a promotion, and the sentence for whoever does not."""

from __future__ import annotations

from slipway.deployment.decision.explanation import outcome
from slipway.deployment.decision.record import Decision
from slipway.errors import GateError, ResourceError
from slipway.evaluation.gate_rules import require_pass, tie_reason
from slipway.store.artifacts import Verdict

WAYS = {  # what a person was refused by -> what would be taken, and what to do
    "hold": ("a target that nobody holds", "`slipway unhold`, or wait for whoever holds it"),
    "rolled back": (
        "a verdict by its name",
        "`slipway promote VERDICT`; `slipway start` starts what the pointer names",
    ),
}


def require_decided(decided: Decision, verdict: Verdict) -> None:
    """Raise where nothing was promoted and somebody waits for it: the gate's errors, and a hold against a person. An
    inconclusive gate needs a person's word on the engine that serves already, too. A
    run whose candidate ties with the champion has done its work: it ends well, and the champion stays."""
    if decided.gate.outcome == "inconclusive" and decided.ruling.action != "keep" and decided.approval is None:
        next_step = f"`slipway promote {verdict.path} --approve REASON` if a person accepts it; or add test items"
        serves = f"; {decided.ruling.reason}" if decided.ruling.rule == "same engine" else ""
        raise GateError("gate", f"inconclusive: {_open_rules(decided)}{serves}", "every rule to pass", next_step)
    if decided.gate.outcome == "fail" and (decided.asked.by_hand or not tie_reason(decided.gate.rules)):
        require_pass(verdict)
    if decided.asked.by_hand and decided.ruling.action == "keep":
        expected, next_step = WAYS.get(decided.ruling.rule, WAYS["hold"])
        raise ResourceError(f"target {decided.target}", decided.ruling.reason, expected, next_step)


def _open_rules(decided: Decision) -> str:
    return "; ".join(str(rule["reason"]) for rule in decided.gate.rules if rule.get("outcome") != "pass")


def kept_because(decided: Decision, champion: str | None, runs: bool) -> str:
    """What came of it, why, and what serves now: `champion`, which runs or does not, None for nothing."""
    serves = f"{champion or 'nothing'} {'serves' if runs or not champion else 'is the champion and does not run'}"
    reason = decided.approval.reason if decided.approval else tie_reason(decided.gate.rules) or decided.ruling.reason
    asks = decided.ruling.action == "ask" and decided.approval is None
    word = "; `slipway promote` is a person's word for it" if asks else ""
    return f"{outcome(decided)}: {reason}; {serves}{word}"
