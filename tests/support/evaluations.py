"""Directories of evaluations, as the stage leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.store.artifacts import Evaluation
from slipway.store.store import seal
from tests.support.record import EXACT, entry, speed

ITEMS = [{"id": f"r{i}", "template": f"t{i}", "answer": "x", "metrics": {"json_exact": 1}} for i in range(40)]


def evaluation(path: Path, wrong: int = 0, params: dict[str, Any] | None = None, **metrics: Any) -> Path:
    """The directory of an evaluation with the first `wrong` items wrong."""
    path.mkdir()
    items = [{**item, "metrics": {"json_exact": int(at >= wrong)}} for at, item in enumerate(ITEMS)]
    (path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    document = {"n": 40, "max_new_tokens": 64, "metrics": [entry(EXACT, 1 - wrong / 40)], **metrics}
    (path / "metrics.json").write_text(json.dumps(document))
    (path / "speed.json").write_text(json.dumps(speed(70.0 + wrong)))
    if params is not None:
        seal(path, Evaluation.kind, "k", {"stage": "evaluate", "params": params, "inputs": {}})
    return path
