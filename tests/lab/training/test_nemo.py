"""NVIDIA's own recipe class and CLI train a tiny Llama on the CPU from our rendered recipe, through the stage
`finetune`."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from slipway.config.merge import MergeConfig
from slipway.data.labels import learnable_rows
from slipway.data.rows import read_rows
from slipway.data.tokens import chat_template
from slipway.pipeline.workspace import Workspace
from slipway.stages.merge import merge
from slipway.stages.train_nemo import train_nemo
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.store import Store
from slipway.system.progress import Progress
from slipway.system.tail import Tail
from slipway.training.loop import mean_loss
from slipway.weights.checkpoint import materialize
from tests.support.nemo import dataset_of, pico_params, wait_for
from tests.support.pico import pico_model

ROOT = Path(__file__).resolve().parents[3]
STEPS = 24


@dataclass
class Trained:
    """One run of the stage: its adapter, its events, where its job ran, and what it trained on."""

    adapter: Adapter
    events: list[dict]
    inputs: dict
    store: Store
    recipe: dict
    log: str

    def lines(self):
        return [json.loads(x) for x in (self.adapter.path / "training.jsonl").read_text().splitlines()]


def interrupt(work, sig):
    """Signal the running job, launcher and all, once it said its seventh step."""
    log = work / "nemo" / "log.txt"
    wait_for(lambda: log.exists() and "step 6 |" in log.read_text(), 300)
    os.killpg(json.loads((work / "nemo" / "process.json").read_text())["pid"], sig)


def train(folder, params, sig=None):
    store = Store(folder / "store")
    with store.create(Checkpoint, "base", {}) as out:
        pico_model(out, layers=2)
    inputs = {"base": store.find(Checkpoint, "base"), "data": dataset_of(store)}
    work = folder / "work"
    work.mkdir()
    if sig:
        threading.Thread(target=interrupt, args=(work, sig), daemon=True).start()
    with store.create(Adapter, "adapter", {}) as out, Progress(folder / "progress.jsonl") as progress:
        train_nemo(**inputs, params=params, space=Workspace(out, work, folder, progress))
    adapter = store.find(Adapter, "adapter")
    recipe = yaml.safe_load((adapter.path / "recipe.yaml").read_text())
    events = list(Tail(folder / "progress.jsonl").events())
    return Trained(adapter, events, inputs, store, recipe, (work / "nemo" / "log.txt").read_text())


@pytest.fixture(scope="module")
def in_lab(nemo_lab):
    with pytest.MonkeyPatch.context() as patch:
        for key, value in nemo_lab.items():
            patch.setenv(key, value)
        yield


LORA = {"method": "lora", "lr": 1e-2, "epochs": STEPS / 3, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def whole(in_lab, tmp_path_factory):
    """LoRA, left alone."""
    return train(tmp_path_factory.mktemp("whole"), pico_params(**LORA))


@pytest.fixture(scope="module")
def lora(in_lab, tmp_path_factory):
    """The same, told to stop in the middle of an epoch."""
    return train(tmp_path_factory.mktemp("lora"), pico_params(**LORA), signal.SIGTERM)


@pytest.fixture(scope="module")
def qlora(in_lab, tmp_path_factory):
    """Killed after the checkpoint at the end of an epoch."""
    params = pico_params(method="qlora", lr=1e-2, epochs=4, checkpoint_every=1000)
    return train(tmp_path_factory.mktemp("qlora"), params, signal.SIGKILL)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_nemo_trains_from_our_recipe(method, request):
    trained = request.getfixturevalue(method)
    losses = [x["loss"] for x in trained.lines()]
    assert all(math.isfinite(x) for x in losses)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert ("quantization" in trained.recipe) == (method == "qlora")
    assert trained.adapter.summary["val_loss"] < losses[0]
    names = {e["what"] for e in trained.events if e["event"] == "progress"}
    assert names == {"train"} and trained.events


def test_our_count_of_steps_is_nemos(lora, qlora):
    assert (lora.adapter.summary["steps"], qlora.adapter.summary["steps"]) == (STEPS, 12)
    assert "40 samples -> 6 packs" in lora.log
    assert [x["step"] for x in qlora.lines()] == list(range(12))
    assert qlora.lines()[-1]["epoch"] == 3, "four epochs of three steps: NeMo's epochs end where ours do"


def test_its_loss_is_on_the_tokens_that_our_own_trainer_learns(lora):
    template = chat_template(lora.inputs["base"].path)
    rows = learnable_rows(read_rows(lora.inputs["data"].path / "train.jsonl"), template, "last", 512)
    assert sum(x["num_label_tokens"] for x in lora.lines()[:3]) == sum(r.label_tokens for r in rows)


def test_a_sigterm_is_resumed_and_the_learning_rate_is_the_full_runs(lora):
    assert lora.adapter.summary["attempts"] == 2
    (note,) = [e["text"] for e in lora.events if e["event"] == "note" and "resuming" in e["text"]]
    assert "done (exit code 0)" in note, "SIGTERM exits with 0 and is no end"
    assert "Loading checkpoint from" in lora.log
    rates, schedule, peak = [x["lr"] for x in lora.lines()], lora.recipe["lr_scheduler"], lora.recipe["optimizer"]["lr"]
    assert rates == pytest.approx([planned(n + 1, schedule, peak) for n in range(STEPS)], rel=1e-3)
    assert [x["step"] for x in lora.lines()] == list(range(STEPS))


def test_a_resumed_run_computes_what_one_left_alone_does(lora, whole):
    assert whole.adapter.summary["attempts"] == 1
    assert [x["loss"] for x in lora.lines()] == pytest.approx([x["loss"] for x in whole.lines()], abs=1e-4)
    assert [x["num_label_tokens"] for x in lora.lines()] == [x["num_label_tokens"] for x in whole.lines()], (
        "the same packs in the same order"
    )
    assert lora.adapter.summary["val_loss"] == pytest.approx(whole.adapter.summary["val_loss"], rel=1e-5)


def test_a_killed_run_loses_no_step_and_no_line(qlora):
    """Upstream had its lines of seven steps in memory when it was killed; they are known from its output."""
    assert qlora.adapter.summary["attempts"] == 2
    (note,) = [e["text"] for e in qlora.events if e["event"] == "note" and "resuming" in e["text"]]
    assert note.startswith("failed (signal 9) with 6 of 12 steps saved")
    assert "epoch_1_step_5" in qlora.log and "num_tokens_per_step" not in qlora.lines()[0]
    assert "num_tokens_per_step" in qlora.lines()[-1]


def planned(n, schedule, peak):
    """NeMo's rate after `n` steps: linear from a tenth of the peak, then cosine to `min_lr`."""
    warm, decay, low = schedule["lr_warmup_steps"], schedule["lr_decay_steps"], schedule["min_lr"]
    if n <= warm:
        return 0.1 * peak + 0.9 * peak * n / warm
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * (n - warm) / (decay - warm)))


def test_its_adapter_goes_through_our_merge_and_says_what_nemo_computed(lora, tmp_path):
    params = MergeConfig(proof_layers=2, proof_tokens=32)
    with lora.store.create(Checkpoint, "merged", {}) as out, Progress() as progress:
        merge(lora.inputs["base"], lora.adapter, params, Workspace(out, tmp_path, tmp_path, progress))
    merged = lora.store.find(Checkpoint, "merged")
    assert merged.summary["updated_tensors"] == 14, "every adapter tensor lands"
    assert merged.summary["logits_mean_abs"] < 0.05, "the merge answers as PEFT's adapter on the base"
    (tmp_path / "plain").mkdir()
    with Progress() as progress:
        materialize(merged, tmp_path / "plain", progress)
    ours = loss_of(tmp_path / "plain", lora)
    assert ours == pytest.approx(lora.adapter.summary["val_loss"], rel=0.01), (
        "NeMo's own validation loss, by the merged model in transformers"
    )


def test_full_fine_tuning_passes_through_the_merge_and_says_what_nemo_computed(in_lab, tmp_path_factory, tmp_path):
    whole = train(tmp_path_factory.mktemp("sft"), pico_params(method="sft", lr=1e-3, epochs=2, checkpoint_every=100))
    losses = [x["loss"] for x in whole.lines()]
    assert losses[-1] < 0.9 * losses[0] and "peft" not in whole.recipe
    with whole.store.create(Checkpoint, "merged", {}) as out, Progress() as progress:
        merge(whole.inputs["base"], whole.adapter, MergeConfig(), Workspace(out, tmp_path, tmp_path, progress))
    merged = whole.store.find(Checkpoint, "merged")
    assert merged.summary["updated_tensors"] > 10 and merged.summary["materialized"]
    assert loss_of(merged.path, whole) == pytest.approx(whole.adapter.summary["val_loss"], rel=0.01)


def loss_of(directory, trained):
    """Mean loss of the validation rows, fp32, by the embedded trainer's own loss."""

    class Plain:
        def __init__(self, model):
            self.model = model

        def eval(self):
            self.model.eval()

        def get_base_model(self):
            return self.model

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
    template = chat_template(directory)
    rows = learnable_rows(read_rows(trained.inputs["data"].path / "val.jsonl"), template, "last", 512)
    return mean_loss(Plain(model), rows, 512, 0)


def probe(folder, recipe, nemo_lab):
    recipe["checkpoint"]["checkpoint_dir"] = str(folder / "ckpt")
    (folder / "probe.yaml").write_text(yaml.safe_dump(recipe))
    argv = [sys.executable, ROOT / "tests/lab/nemo/leak_probe.py", folder / "probe.yaml"]
    done = subprocess.run(argv, env={**os.environ, **nemo_lab}, cwd=folder, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr


def test_no_document_of_a_pack_sees_another_with_neat_packing(qlora, nemo_lab, tmp_path):
    """Without recomputation too: what we render by default is on the safe side twice."""
    recipe = {**qlora.recipe, "distributed": {**qlora.recipe["distributed"], "activation_checkpointing": False}}
    report = probe(tmp_path, recipe, nemo_lab)
    assert report["first"] > 0 and report["moved"] == 0.0


def test_the_packing_that_we_refuse_does_leak(qlora, nemo_lab, tmp_path):
    recipe = {
        **qlora.recipe,
        "packed_sequence": {"packed_sequence_size": 512, "packing_strategy": "thd"},
        "distributed": {**qlora.recipe["distributed"], "activation_checkpointing": False},
    }
    assert probe(tmp_path, recipe, nemo_lab)["moved"] > 0.1
