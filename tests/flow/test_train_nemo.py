"""Stage `train_nemo` in its own process, with the lab's trainer as `automodel`: stopped, killed, adopted, and its
adapter merged."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.config.merge import MergeConfig
from slipway.pipeline.ensure import ensure, work_folder
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import Checkpoint
from slipway.store.key import key_of
from slipway.store.store import Store
from slipway.training.nemo.checkpoints import steps_done
from tests.support.nemo import TRAINER, dataset_of, pico_params, wait_for
from tests.support.pico import pico_model


@pytest.fixture(autouse=True)
def automodel(monkeypatch):
    """The lab's trainer is what this machine calls `automodel`."""
    monkeypatch.setenv(
        "PATH", f"{TRAINER.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def inputs(tmp_path, store):
    with store.create(Checkpoint, "base", {}) as out:
        pico_model(out, layers=2)
    return {"base": store.find(Checkpoint, "base"), "data": dataset_of(store)}


def make(store, inputs, params, events=None):
    on_event = (events if events is not None else []).append
    return ensure(call_of(inputs, params), store, store.root / "cache", LocalRunner(), on_event)


def call_of(inputs, params):
    return StageCall("train_nemo", inputs, params, stop_s=30)


def work_of(store, inputs, params):
    return work_folder(store, "train_nemo", key_of(call_of(inputs, params).key_document()))


def test_the_adapter_goes_through_our_merge(store, inputs):
    adapter = make(store, inputs, pico_params()).artifact
    params = MergeConfig(max_logit_error=10, proof_layers=1, proof_tokens=8)
    call = StageCall("merge", {"base": inputs["base"], "adapter": adapter}, params)
    merged = ensure(call, store, store.root, LocalRunner(), lambda e: None)
    assert merged.artifact.summary["updated_tensors"] == 14
    provenance = adapter.manifest["provenance"]
    assert provenance["inputs"]["data"]["digest"] == inputs["data"].digest and provenance["params"]["image"] is None
    assert make(store, inputs, pico_params()).reused


def test_a_stage_told_to_stop_leaves_a_checkpoint_and_no_process(store, inputs, monkeypatch):
    monkeypatch.setenv("TRAINER_STEP_S", "0.2")
    params = pico_params(max_steps=60, epochs=60)
    work = work_of(store, inputs, params)

    class Impatient(LocalRunner):
        def poll(self, job):
            if steps_done(work / "nemo" / "ckpt") >= 2:
                raise KeyboardInterrupt
            return super().poll(job)

    with pytest.raises(KeyboardInterrupt):
        ensure(call_of(inputs, params), store, store.root, _cancels(Impatient), lambda e: None)
    saved = steps_done(work / "nemo" / "ckpt")
    assert 2 <= saved < 60 and "stopped by SIGTERM" in (work / "nemo" / "log.txt").read_text()
    assert not (work / "nemo" / "process.json").exists()
    monkeypatch.setenv("TRAINER_STEP_S", "0")
    assert make(store, inputs, params).artifact.summary["steps"] == 60


def _cancels(kind):
    """`poll` interrupts once; the cancel that follows polls in peace."""

    class Once(kind):
        interrupted = False

        def poll(self, job):
            if self.interrupted:
                return LocalRunner.poll(self, job)
            try:
                return super().poll(job)
            except KeyboardInterrupt:
                self.interrupted = True
                raise

    return Once()


ORCHESTRATOR = """
import sys
from pathlib import Path
from slipway.store.artifacts import Checkpoint, Dataset
from slipway.store.store import Store
from slipway.pipeline.ensure import ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from tests.support.nemo import pico_params
store = Store(Path(sys.argv[1]))
inputs = {"base": store.find(Checkpoint, "base"), "data": store.find(Dataset, "data")}
call = StageCall("train_nemo", inputs, pico_params(max_steps=60, epochs=60))
ensure(call, store, store.root, LocalRunner(), lambda e: None)
"""


@pytest.mark.parametrize("who", ["orchestrator", "stage"])
def test_what_runs_is_adopted_after_a_kill(store, inputs, monkeypatch, who):
    monkeypatch.setenv("TRAINER_STEP_S", "0.1")
    root = Path(__file__).resolve().parents[2]
    first = subprocess.Popen([sys.executable, "-c", ORCHESTRATOR, str(store.root)], cwd=root)
    params = pico_params(max_steps=60, epochs=60)
    work = work_of(store, inputs, params)
    wait_for(lambda: steps_done(work / "nemo" / "ckpt") >= 2)
    trainer = json.loads((work / "nemo" / "process.json").read_text())["pid"]
    if who == "stage":
        os.kill(json.loads((work / "process.json").read_text())["pid"], signal.SIGKILL)
    else:
        first.kill()
    first.wait()
    events = []
    made = make(store, inputs, params, events)
    lines = [json.loads(x) for x in (made.artifact.path / "training.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == list(range(60)) and made.artifact.summary["attempts"] == 1
    assert trainer and not (work / "nemo").exists()
