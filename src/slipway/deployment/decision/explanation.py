"""A decision as people read it: pairs of what and value, the gate's rules a row each, the rules that chose the target;
as rows for a terminal and as Markdown for the page where a person is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slipway.deployment.decision.record import Approval, Decision

RULE_COLUMNS = ("rule", "against", "value", "interval", "expected", "outcome", "because")
ROUTE_COLUMNS = ("rule", "value", "threshold", "says", "source")
MOST_ROWS = 200
_CELL_CHARS = 300


def pairs(decision: Decision) -> list[tuple[str, str]]:
    """What was decided, about what, by which rule and on whose word."""
    asked, champion = decision.asked, decision.champion
    who = " ".join(part for part in (asked.by, asked.user) if part)
    rows = [
        ("decided", f"{decision.time}, target {decision.target}"),
        ("outcome", outcome(decision)),
        ("rule", f"{decision.ruling.rule} (deploy.policy={decision.ruling.policy})"),
        ("because", decision.ruling.reason),
        ("asked for by", f"{who}, flow run {asked.flow_run}" if asked.flow_run else who),
        ("line", decision.line),
        ("candidate", f"engine {decision.engine[:12]}"),
        ("served then", _champion(champion.release, champion.line, champion.chosen_by) if champion else "nothing"),
        ("gate", f"{decision.gate.outcome}, verdict {decision.gate.verdict[:12]}"),
    ]
    rows += [("held", hold) for hold in decision.ruling.holds]
    if decision.approval:
        rows.append(("a person's answer", _approval(decision.approval)))
    rows += [("skipped", sentence) for sentence in decision.gate.skipped]
    return rows + [(f"digest of {kind}", digest) for kind, digest in decision.inputs.items()]


def outcome(decision: Decision) -> str:
    """One word for what happens: promoted, kept, waits for a person, or refused by one."""
    if decision.promotes:
        return "promoted" if decision.approval is None else "promoted, approved by a person"
    if decision.ruling.action == "keep":
        return "kept what serves"
    return "waits for a person" if decision.approval is None else "refused by a person"


def rule_rows(decision: Decision) -> list[tuple[str, ...]]:
    """The gate's rules under RULE_COLUMNS, at most MOST_ROWS; a last row says how many more there are."""
    rows: list[tuple[str, ...]] = [
        (
            _cell(f"{rule.get('rule', '')} {rule.get('metric', '')}".strip()),
            _cell(rule.get("against", "")),
            number(rule.get("value")),
            interval(rule.get("low"), rule.get("high")),
            number(rule.get("expected")),
            _cell(rule.get("outcome", "")),
            _cell(rule.get("reason", "")),
        )
        for rule in decision.gate.rules[:MOST_ROWS]
    ]
    more = len(decision.gate.rules) - MOST_ROWS
    return [*rows, (f"{more} more", *[""] * (len(RULE_COLUMNS) - 1))] if more > 0 else rows


def route_rows(decision: Decision) -> list[tuple[str, ...]]:
    """The rules that chose the target under ROUTE_COLUMNS; the one that decided first. Empty where it was named."""
    rules: Sequence[dict[str, Any]] = (decision.routing or {}).get("rules", [])
    decided = (decision.routing or {}).get("decided_by")
    return [
        (
            _cell(rule.get("rule", "")) + (" (decided)" if rule.get("rule") == decided else ""),
            *(_cell(rule.get(column, "")) for column in ROUTE_COLUMNS[1:]),
        )
        for rule in sorted(rules[:MOST_ROWS], key=lambda rule: rule.get("rule") != decided)
    ]


def markdown(decision: Decision) -> str:
    """The whole explanation as Markdown, for the page where a person is asked."""
    parts = [_table(("what", "value"), pairs(decision)), "", "#### Rules of the gate", ""]
    parts.append(_table(RULE_COLUMNS, rule_rows(decision)))
    if routes := route_rows(decision):
        parts += ["", "#### Why this target", "", _table(ROUTE_COLUMNS, routes)]
    return "\n".join(parts) + "\n"


def question(decision: Decision) -> str:
    """What a person is asked, for a narrow page: the reason, the rules in the words that hold their figures, and what
    else was looked at."""
    rules = [
        _escaped(f"- **{row[5]}** {row[0]} against {row[1]}: {row[6]}" if row[5] else f"- {row[0]}")
        for row in rule_rows(decision)
    ]  # a list: its lines wrap, where a table of Prefect's page is cut off
    return "\n".join([f"### {_escaped(decision.ruling.reason)}", "", *rules, "", summary_table(decision), ""])


def summary_table(decision: Decision) -> str:
    """What was decided, by which rule and on whose word, as a Markdown table for the run's report."""
    return _table(("what", "value"), [row for row in pairs(decision) if not row[0].startswith("digest of")])


def number(value: object) -> str:
    """A figure with four significant digits; `-` where nothing was measured."""
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def interval(low: object, high: object) -> str:
    """`0.71 to 0.83`; empty where the value has no interval, `-` for an end that is unbounded."""
    return "" if low is None and high is None else f"{number(low)} to {number(high)}"


def _champion(release: str, line: str, chosen_by: str | None) -> str:
    return f"{release} of line {line}, chosen by {'nobody on record' if chosen_by is None else f'a {chosen_by}'}"


def _approval(approval: Approval) -> str:
    answer = "approved" if approval.approved else "refused"
    return f"{answer} by {approval.by} at {approval.time} ({approval.given}): {approval.reason}"


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _CELL_CHARS else f"{text[:_CELL_CHARS]}..."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what people typed may hold the marks of one."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("\n", " ")
