"""A target that serves a released engine, with the evaluation that it was released by in a store.

The engine is tests/support/scripted_server.py: a row whose request is "say X" is answered X, "refuse ..." is not. What
the evaluation recorded is up to the test, so that what serves can answer as then, worse, longer, or not at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config, parse
from slipway.deployment.promotion import promote
from slipway.deployment.releases import Release
from slipway.store.artifacts import Dataset, Evaluation, Verdict
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from tests.support import scripted_server
from tests.support.target import make_engine, target_params

ENGINE = f"#!{sys.executable}\n{Path(scripted_server.__file__).read_text()}"
CLASSES = ("on", "off", "dim")
EXACT = {"name": "exact", "title": "exact", "kind": "binary", "direction": "higher", "unit": "share"}


@dataclass(frozen=True)
class Asked:
    """One test row: the request, what the evaluated engine answered in how many tokens, and its template."""

    request: str
    then: str
    tokens: int = 1
    template: str = ""


def rows_as_served(count: int) -> list[Asked]:
    """Rows that the engine answers now as it did then: classes in turn."""
    return [Asked(f"say {text}", text) for text in (answer(CLASSES[i % 3], i) for i in range(count))]


def answer(intent: str, number: int = 0) -> str:
    """The text of an answer, without a space."""
    return json.dumps({"intent": intent, "n": number}, separators=(",", ":"))


def released(
    folder: Path,
    asked: Sequence[Asked],
    *,
    expected: str | None = None,
    without: str = "",
    metrics: Sequence[str] = ("exact",),
    **watch: Any,
) -> tuple[Config, Release]:
    """A served release and a config of its target; `expected`: the reference answer of all rows, default what was
    answered then. `without`: a key that the evaluation's items lack; `metrics`: what it measured; `watch`: keys of that
    section."""
    store = Store(folder / "store")
    params = target_params(str(folder / "target"))
    engine = make_engine(store, {"rows": len(asked)}, ENGINE)
    with store.create(Dataset, "d", {"stage": "prepare", "inputs": {}}) as out:
        lines = [json.dumps(_row(i, one, expected)) + "\n" for i, one in enumerate(asked)]
        (out / "test.jsonl").write_text("".join(lines))
        (out / "summary.json").write_text(json.dumps({"label_key": "intent"}))
    data = load(Dataset, store.dir("dataset", "d"))
    inputs = {"engine": reference_to(engine, store.root), "data": reference_to(data, store.root)}
    with store.create(Evaluation, "e", {"stage": "evaluate", "params": {}, "inputs": inputs}) as out:
        items = [_item(i, one, expected) for i, one in enumerate(asked)]
        items = [{key: value for key, value in item.items() if key != without} for item in items]
        (out / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        value = sum(one.then == (expected or one.then) for one in asked) / max(1, len(items))
        measured = [
            {**EXACT, "name": name, "value": value, "low": 0.0, "high": 1.0, "n": len(items)} for name in metrics
        ]
        task = {"kind": "json", "reason": "all", "metrics": [name for name in metrics if name != "nll"]}
        document = {"n": len(items), "metrics": measured, "task": task, "max_new_tokens": 8}
        (out / "metrics.json").write_text(json.dumps(document))
    evaluation = load(Evaluation, store.dir("evaluation", "e"))
    with store.create(Verdict, "v", {"inputs": {"candidate": reference_to(evaluation, store.root)}}) as out:
        (out / "verdict.json").write_text(json.dumps({"outcome": "pass", "rules": []}))
    verdict = load(Verdict, store.dir("verdict", "v"))
    release = promote(engine, verdict, data, {}, params, model="m")
    document = {
        "deploy": params.model_dump(mode="json"),
        "store": {"root": str(store.root)},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "experiment": "test"},
        "watch": watch,
    }
    return parse(document, "a test"), release


def _row(i: int, one: Asked, expected: str | None) -> dict[str, Any]:
    turns = [{"role": "user", "content": one.request}, {"role": "assistant", "content": expected or one.then}]
    return {"id": f"r{i}", "label": one.then, "template": one.template or f"t{i}", "messages": turns}


def _item(i: int, one: Asked, expected: str | None) -> dict[str, Any]:
    wanted = expected or one.then
    return {
        "id": f"r{i}", "label": one.then, "template": one.template or f"t{i}", "expected": wanted, "answer": one.then,
        "metrics": {"exact": float(one.then == wanted)}, "finish": "stop", "tokens": one.tokens, "retries": 0,
    }  # fmt: skip
