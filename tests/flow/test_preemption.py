"""A run whose training makes room for something more urgent, and goes on afterwards to the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from slipway.config.load import Config
from slipway.system.ports import any_port
from tasks.fetch import fetch
from tasks.pipeline import pipeline
from tasks.prepare import prepare
from tasks.train import train
from tests.support.prefect_server import prefect_server
from tests.support.world import small_config

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's and Prefect's own, about their dependencies
]
STEPS = 120
# What is more urgent, as `slipway serve` is: it comes when the training has made two steps. Until its wish is seen the
# trainer is held (SIGSTOP), so that no machine is fast or slow enough for training to end first. It writes down what it
# finds when it has the machine: the trainer's process, the checkpoints, whether an adapter is there.
SERVES = """
import json, os, signal, sys, threading, time
from pathlib import Path
from slipway.runners.lease import Priority, Wish, leased
from slipway.system.processes import ProcessIdentity, is_alive

store, lease, report = map(Path, sys.argv[1:])

def until(ready):
    while not (value := ready()):
        time.sleep(0.01)
    return value

def lines(kind):
    files = list(store.glob("work/train_cpu-*/progress.jsonl"))
    text = files[0].read_text().splitlines() if files else []
    return [one for one in map(json.loads, text) if one["event"] == kind]

until(lambda: len(lines("metric")) >= 2)
process = ProcessIdentity.model_validate_json(next(store.glob("work/train_cpu-*/process.json")).read_text())
os.kill(process.pid, signal.SIGSTOP)

def signalled():
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd")).split()[1]
    return int(pending, 16) >> (signal.SIGTERM - 1) & 1

threading.Thread(target=lambda: (until(signalled), os.kill(process.pid, signal.SIGCONT)), daemon=True).start()
with leased(lease, Wish("serve pico", Priority.SERVING)):
    state = {
        "trainer": is_alive(process),
        "saved": sorted(path.name for path in store.glob("work/train_cpu-*/checkpoints/step_*")),
        "steps": [line["step"] for line in lines("metric")],
        "adapters": len(list(store.glob("adapter/*/manifest.json"))),
    }
    report.write_text(json.dumps(state))
"""


@flow(name="fine-tune")
def fine_tune(config: Config) -> Any:
    """The stages up to training."""
    with pipeline(config, "fine-tune") as run:
        base = fetch(run)
        return train(run, base, prepare(run, base)), run.summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Path]:
    """Where both runs happen, with a lease of their own."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, prefect_server(pytestconfig):
        patch.chdir(folder)  # MLflow on a database keeps its files under the working directory
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("SLIPWAY_LEASE", str(folder / "lease"))
        yield folder


def config_of(folder: Path, store: str) -> Config:
    """A training of many short steps that saves nothing by itself."""
    settings: dict[str, Any] = {
        "train.epochs": STEPS,
        "train.max_steps": STEPS,
        "train.checkpoint_every": 10 * STEPS,
        "train.accumulate": 1,
        "store.root": folder / store,
    }
    return small_config(folder, f"sqlite:///{folder}/mlflow.db", any_port(), **settings)


def test_training_makes_room_at_a_step_and_ends_with_the_bytes_of_one_that_was_left_alone(folder: Path) -> None:
    whole, _ = fine_tune(config_of(folder, "whole"))
    config = config_of(folder, "cut")
    assert config.target.preempt_training, "as conf/targets/local says"
    words = [sys.executable, "-c", SERVES, str(folder / "cut"), str(folder / "lease"), str(folder / "report.json")]
    with subprocess.Popen(words) as serves:
        try:
            cut, summary = fine_tune(config)
            assert serves.wait(timeout=300) == 0
        finally:
            serves.kill()
    report = json.loads((folder / "report.json").read_text())
    step = len(report["steps"])
    assert 2 <= step < STEPS and report["steps"] == list(range(1, step + 1))
    assert report["saved"] == [f"step_{step:06d}"], "of the step that it was at"
    assert (report["trainer"], report["adapters"]) == (False, 0)
    assert [stage.stage for stage in summary.stages] == ["fetch", "prepare", "train"]
    files = {path.name for path in whole.path.iterdir()} - {"manifest.json", "summary.json", "training.jsonl"}  # times
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    assert {name: (cut.path / name).read_bytes() for name in files} == {
        name: (whole.path / name).read_bytes() for name in files
    }
    texts = [(one.path / "training.jsonl").read_text() for one in (whole, cut)]
    histories = [[json.loads(line) for line in text.splitlines()] for text in texts]
    losses = [[(line["step"], line["loss"], line["grad_norm"]) for line in history] for history in histories]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
