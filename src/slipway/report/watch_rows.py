"""A look at what serves as rows of text and as figures: for the terminal, the Prefect UI and MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = ("check", "", "then", "now", "value", "bound", "margin", "p / level", "n", "why")
MARKS = {"ok": "ok", "alarm": "drift", "cannot_tell": "cannot tell"}
Document = Mapping[str, Any]


def watch_rows(document: Document) -> list[dict[str, str]]:
    """One row a check, by COLUMNS. Shares are percent, changes points, verbosity a factor."""
    return [dict(zip(COLUMNS, _cells(check), strict=True)) for check in document["checks"]]


def watch_figures(document: Document) -> dict[str, float]:
    """`watch.<check>` and its p-value, and `watch.alarms`: what MLflow draws over looks."""
    figures = {"watch.alarms": float(sum(check["outcome"] == "alarm" for check in document["checks"]))}
    for check in document["checks"]:
        name = check["name"].replace(" ", "_")
        figures |= {f"watch.{name}": check["value"]} if check["value"] is not None and check["n"] else {}
        figures |= {f"watch.{name}.p": check["p"]} if check["p"] is not None else {}
    return figures


def sentence(document: Document) -> str:
    """The outcome for a person, with what to do."""
    target, release = document["target"], document["release"]
    alarms = [check for check in document["checks"] if check["outcome"] == "alarm"]
    if alarms:
        return f"{release} at {target} drifted: {'; '.join(_alarm(check) for check in alarms)}"
    silent = [check["name"] for check in document["checks"] if check["outcome"] == "cannot_tell"]
    beside = f"nothing can be said of {', '.join(silent)}" if silent else ""
    if document["outcome"] == "cannot_tell":
        return f"{release} at {target}: {beside}"
    return f"{release} at {target}: no bound under its margin{'; ' if beside else ''}{beside}"


def next_step(document: Document) -> str:
    """What a person does about the alarms of a look; empty without one."""
    names = {check["name"] for check in document["checks"] if check["outcome"] == "alarm"}
    if not names:
        return ""
    if "unanswered" in names:
        return f"`slipway status`, read its engine.log, `slipway start {document['target']}`"
    if all(name.startswith("input ") for name in names):
        return (
            "look at `slipway capture show`, add such rows to the data, and retrain: the evaluation has none like them"
        )
    return f"`slipway rollback {document['target']}`, or retrain; `slipway history` says what changed"


def _alarm(check: Document) -> str:
    cells = dict(zip(COLUMNS, _cells(check), strict=True))
    if check["unit"] == "distance":
        return f"{check['name']} (p = {check['p']:.2g})"
    return f"{check['name']} {cells['value']}, bound {cells['bound']}, margin {cells['margin']}"


def _cells(check: Document) -> tuple[str, ...]:
    unit, measured = check["unit"], check["n"] > 0
    is_change = unit == "share" and check["margin"] is not None and check["margin"] <= 0
    sides = [_side(check[name], unit, is_change) if measured else "" for name in ("then", "now")]
    figures = [
        _figure(check[name], unit, is_change) if measured and (name != "value" or check["p"] is not None) else ""
        for name in ("value", "bound", "margin")
    ]
    if check["outcome"] == "cannot_tell" and measured and unit != "distance":
        figures[0] = _figure(check["value"], unit, is_change)
    test = "" if check["p"] is None else f"{check['p']:.2g} / {check['level']:.2g}"
    n = str(check["n"]) if measured else ""
    return (check["name"], MARKS[check["outcome"]], *sides, *figures, test, n, check["reason"])


def _side(value: float | None, unit: str, is_change: bool) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}%" if unit == "share" or is_change else f"{value:.1f} tokens"


def _figure(value: float | None, unit: str, is_change: bool) -> str:
    if value is None:
        return ""
    if unit == "share":
        return f"{100 * value:+.1f} points" if is_change else f"{100 * value:.1f}%"
    return f"{value:.2f}x" if unit == "times" else f"{value:.3g}"
