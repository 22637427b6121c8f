"""Rows for the UIs' tables."""

from __future__ import annotations

from slipway.report.ui_rows import gate_rows, headline_figures, quality_rows
from tests.support.record import RULES, quality, speed


def test_a_row_a_served_model_with_speed_at_the_highest_concurrency() -> None:
    served = {
        "merged": {"metrics": quality(0.85, 0.92), "speed": []},
        "candidate": {"metrics": quality(0.84, 0.91), "speed": speed(70.0)},
    }
    merged, candidate = quality_rows(served)
    assert merged == {
        "model": "merged",
        "items": 200,
        "exact JSON": "85.0 % (80.0 to 90.0)",
        "label accuracy": "92.0 % (87.0 to 97.0)",
    }
    assert (candidate["at"], candidate["tokens/s"], candidate["TTFT p50, ms"]) == (4, 102.0, 160.0)
    assert headline_figures(served, {"rules": RULES[:1]}) == {
        "gate.floor.json_exact.floor": 0.84,
        "merged.json_exact": 0.85,
        "merged.label_accuracy": 0.92,
        "candidate.json_exact": 0.84,
        "candidate.label_accuracy": 0.91,
    }
    beside = [{"name": "rag_recall", "value": 0.8}, {"name": "rag_hit_1", "value": None}]
    figures = headline_figures({}, {"rules": [], "beside": beside})
    assert figures == {"beside.rag_recall": 0.8}


def test_a_row_a_rule() -> None:
    floor, non_inferiority = gate_rows({"rules": RULES})
    assert floor == {
        "rule": "floor json_exact",
        "value": "84.0 %",
        "interval": "79.0 to 89.0",
        "threshold": ">= 80.0 %",
        "outcome": "pass",
        "because": "json_exact 0.840 (point estimate) is at least the floor 0.800",
    }
    assert non_inferiority["outcome"] == "inconclusive"
