"""The two example tasks through the whole flow, at pico size: their real rows, the metrics that fit them, and a gate
that decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from scripts import languages, spelling
from slipway.config.load import load_config
from slipway.config.store import StoreConfig
from slipway.deployment.state import stop
from tests.flow.test_flow import World, pytestmark, world  # noqa: F401 - a fixture and marks are used by their names
from tests.support.world import ROOT

TASKS = {
    "languages": (languages, 240, ["label_accuracy", "label_macro_f1"]),
    "spelling": (spelling, 120, ["chrf", "token_f1"]),
}


def write(module: Any, count: int, to: Path) -> Path:
    """The first rows of a task, out of the pinned wheel."""
    with module.WHEEL.open(Path(str(StoreConfig().cache))) as archive:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in islice(module.rows(archive, 17), count)]
    to.write_text("".join(lines), encoding="utf-8")
    return to


@pytest.fixture(params=TASKS)
def run(world: World, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:  # noqa: F811
    """One run of a task with these floors of the gate, on a target of its own."""
    module, count, metrics = TASKS[request.param]
    raw = write(module, count, world.folder / f"{request.param}.jsonl")
    settings = {
        "layers.data": f"data/{request.param}",
        "data.raw": raw,
        "evaluate.max_items": 24,
        "deploy.root": world.folder / request.param,
    }

    def go(floors: str) -> Any:
        return world.go(**settings, **{"gate.floors": floors}), metrics

    yield go
    stop(world.config(**settings).deploy)


def test_a_task_is_measured_as_what_it_is_and_its_gate_decides(run: Callable[[str], Any]) -> None:
    refused, metrics = run("{primary: 0.5}")
    assert refused.state.is_failed(), "four steps teach a pico model nothing"
    assert "promote" not in {s["stage"] for s in refused.summary["stages"] if s.get("digest")}
    assert metrics[0] in (refused.state.message or "")
    passed, _ = run("{primary: 0.0}")
    assert passed.state.is_completed(), passed.state.message
    assert {stage: reused for stage, reused in passed.reused().items() if not reused}.keys() == {"gate", "promote"}
    declared = passed.summary["quality"]["candidate"]["metrics"]["metrics"]
    assert [m["name"] for m in declared][: len(metrics)] == metrics, "after them come those of the streamed reference"


@pytest.mark.parametrize(("task", "gate"), [("languages", "labels"), ("spelling", "text")])
def test_a_task_chooses_the_gate_that_fits_it(task: str, gate: str) -> None:
    config = load_config(ROOT / "conf", [f"layers.data=data/{task}"])
    assert config.gate == load_config(ROOT / "conf", [f"layers.gate=gates/{gate}"]).gate
    assert config.gate.floors["primary"] > 0
    assert config.line == f"{task}-smollm2-135m"
