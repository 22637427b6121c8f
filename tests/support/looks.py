"""Documents of looks at what serves, as `slipway.watch.look` makes them."""

from __future__ import annotations

from typing import Any

from slipway.config.watch import WatchConfig
from slipway.watch.checks import Inputs, judge
from slipway.watch.look import outcome_of
from slipway.watch.replay import Answered, Replayed

LEVEL = 0.05 / 52 * 0.8


def look_document(wrong: int = 0, *, rows: int = 60, release: str = "0001-3fa9c1d2", at: str = "2026-11-30T05:00:00Z",
                  inputs: Inputs | None = None) -> dict[str, Any]:  # fmt: skip
    """A look at `rows` rows that were all right then, of which `wrong` are wrong now."""
    answered = [
        Answered(f"r{i}", f"t{i}", {"json_exact": 1.0}, {"json_exact": float(i >= wrong)}, 9, 9) for i in range(rows)
    ]
    checks = judge(
        Replayed(rows, answered), {"json_exact": "higher"}, inputs, "capture is off", WatchConfig(), LEVEL
    )  # fmt: skip
    return {
        "target": "local", "release": release, "created": "c", "line": "m", "engine": "e" * 64, "at": at, "at_s": 1.0,
        "week": 1, "look": 1, "level": LEVEL, "alpha": 0.05, "weeks": 52, "outcome": outcome_of(checks),
        "checks": [check.document() for check in checks], "rows": {"asked": rows, "answered": rows, "of": 238},
        "traffic": {"captured": 4, "compared": 0, "left_out": {"no chat": 4}},
        "not_judged": {"nll": "no answers say it"}, "notes": ["a note"], "seconds": 1.0,
    }  # fmt: skip
