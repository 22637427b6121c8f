"""The first rows of a report: only what was measured, the shipped model's own figures."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.report.record import RunRecord
from slipway.report.summary import summary_table
from tests.support.record import record


def rows(run: RunRecord) -> dict[str, str]:
    lines = [line.strip("| ").split(" | ") for line in summary_table(run).splitlines()[2:]]
    return {line[0]: line[1] for line in lines}


def test_quality_its_price_and_speed_at_the_most_callers(tmp_path: Path) -> None:
    assert rows(record(tmp_path)) == {
        "gate": "inconclusive",
        "exact JSON": "84.0 % (79.0 to 89.0)",
        "won by fine-tuning, points": "+85.0 (+80.0 to +89.0)",
        "lost to quantization, points": "+1.0 (-1.0 to +3.0)",
        "bits a weight": "4.50",
        "tokens/s, 4 callers": "102",
        "first token p95": "220 ms",
    }


def test_starts_are_medians_and_what_was_not_measured_has_no_row(tmp_path: Path) -> None:
    run = record(tmp_path, timed=False)
    boots = [
        {"start": kind, "ready_s": s} for kind, s in (("cold", 110.0), ("warm", 71.0), ("warm", 50.0), ("warm", 52.0))
    ]
    (run.engine.path / "boots.json").write_text(json.dumps(boots))
    shown = rows(run)
    assert (shown["cold start"], shown["warm start"]) == ("110.0 s", "52.0 s")
    assert not any("tokens" in name or "token" in name for name in shown)
