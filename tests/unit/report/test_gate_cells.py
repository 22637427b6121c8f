"""A rule as cells: shares in percent, differences in points, older verdicts as they are."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.report.gate_cells import COLUMNS, rule_cells, rule_figures
from tests.support.record import RULES


def rule(**fields: Any) -> dict[str, Any]:
    """A rule with these fields, the rest those of a floor."""
    return {**RULES[0], **fields}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ("floor json_exact", "84.0 %", "79.0 to 89.0", ">= 80.0 %")),
        (
            RULES[1],
            ("non_inferiority json_exact against merged", "-1.0 points", "-9.0 to +2.0", ">= -8.0 points"),
        ),
        ({"value": None, "low": None, "high": None}, ("floor json_exact", "", "", ">= 80.0 %")),
        ({"low": None}, ("floor json_exact", "84.0 %", "-inf to 89.0", ">= 80.0 %")),
        (
            {"rule": "speed", "metric": "tokens_per_s_4", "against": "champion", "unit": "x", "expected": 0.9},
            ("speed tokens_per_s_4 against champion", "0.84 x", "0.79 to 0.89", ">= 0.9 x"),
        ),
        (
            {"rule": "cut_off", "metric": "cut_off", "against": "limit", "unit": "", "direction": "at most"},
            ("cut_off", "0.84", "0.79 to 0.89", "<= 0.8"),
        ),
    ],
)
def test_the_cells_of_a_rule(fields: dict[str, Any], shown: tuple[str, ...]) -> None:
    cells = rule_cells(rule(**fields))
    assert tuple(cells) == COLUMNS
    assert tuple(cells.values())[:4] == shown


def test_a_verdict_without_units_is_shown_as_it_is() -> None:
    old = {k: v for k, v in RULES[1].items() if k not in ("unit", "direction", "alpha", "p")}
    cells = rule_cells(old)
    assert (cells["value"], cells["interval"], cells["threshold"]) == ("-0.01", "-0.09 to +0.02", ">= -0.08")


def test_values_for_a_table_of_runs_are_named_by_rule_metric_and_reference() -> None:
    verdict = {"rules": [*RULES, rule(metric="chrf", value=None)]}
    assert rule_figures(verdict) == {
        "gate.floor.json_exact.floor": 0.84,
        "gate.non_inferiority.json_exact.merged": -0.01,
    }
