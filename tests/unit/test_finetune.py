"""Stage `finetune` for real with the lab's trainer as `automodel`: rendered, run, verified, and the adapter merged."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slipway.adapter_check import check_adapter
from slipway.artifacts import Adapter, Checkpoint, Store
from slipway.config import MergeConfig
from slipway.errors import AdapterError, ConfigError, ResourceError
from slipway.jobs import ensure, stage_key
from slipway.local_runner import LocalRunner
from slipway.nemo_checkpoints import steps_done
from slipway.targets import ImageConfig, SlurmConfig, TargetConfig
from slipway.train_config import ModelConfig
from tests.nemo import TRAINER, dataset_of, pico_params, wait_for
from tests.pico import pico_model


@pytest.fixture(autouse=True)
def automodel(monkeypatch):
    """The lab's trainer is what this machine calls `automodel`."""
    monkeypatch.setenv("PATH", f"{TRAINER.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def inputs(tmp_path, store):
    with store.create(Checkpoint, "base", {}) as out:
        pico_model(out, layers=2)
    return {"base": store.find(Checkpoint, "base"), "data": dataset_of(store)}


def make(store, inputs, params, events=None):
    return ensure(
        "finetune", inputs, params, output=Adapter, store=store, cache=store.root / "cache", runner=LocalRunner(),
        on_event=(events if events is not None else []).append, stop_s=30,
    )  # fmt: skip


def test_an_adapter_comes_with_its_log_recipe_and_provenance(store, inputs):
    events: list[dict] = []
    made = make(store, inputs, pico_params(), events)
    adapter = made.artifact
    assert {p.name for p in adapter.path.iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json", "training.jsonl", "recipe.yaml", "summary.json", "manifest.json",
    }  # fmt: skip
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "pico" and config["r"] == 4
    recipe = yaml.safe_load((adapter.path / "recipe.yaml").read_text())
    assert recipe["step_scheduler"]["max_steps"] == recipe["lr_scheduler"]["lr_decay_steps"] == adapter.summary["steps"]
    lines = [json.loads(x) for x in (adapter.path / "training.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == list(range(adapter.summary["steps"]))
    assert adapter.summary["train_loss"] == lines[-1]["loss"] < lines[0]["loss"]
    assert adapter.summary["val_loss"] > 0 and adapter.summary["attempts"] == 1 and adapter.summary["image_digest"] is None
    assert adapter.summary["trainable_parameters"] == 4 * 2 * sum(
        o + i for o, i in [(64, 64), (64, 64), (32, 64), (32, 64), (128, 64), (128, 64), (64, 128)]
    )
    provenance = adapter.manifest["provenance"]
    assert provenance["inputs"]["data"]["digest"] == inputs["data"].digest
    metrics = [e for e in events if e["event"] == "metric"]
    assert [m["step"] for m in metrics] == [s + 1 for s in range(adapter.summary["steps"])] and metrics[0]["tokens_per_s"] > 0
    last = [e for e in events if e["event"] == "progress"][-1]
    assert last["done"] == last["total"] == adapter.summary["steps"] and {"loss", "tokens_per_s", "memory_gib"} <= set(last)
    assert make(store, inputs, pico_params()).reused


def test_the_adapter_goes_through_our_merge(store, inputs):
    adapter = make(store, inputs, pico_params()).artifact
    params = MergeConfig(max_logit_error=10, proof_layers=1, proof_tokens=8)
    merged = ensure(
        "merge", {"base": inputs["base"], "adapter": adapter}, params, output=Checkpoint, store=store, cache=store.root, runner=LocalRunner(),
        on_event=lambda e: None,
    )  # fmt: skip
    assert merged.artifact.summary["updated_tensors"] == 14


def test_a_stage_told_to_stop_leaves_a_checkpoint_and_no_process(store, inputs, monkeypatch):
    monkeypatch.setenv("TRAINER_STEP_S", "0.2")
    params = pico_params(max_steps=60, epochs=60)
    work = store.root / "work" / f"finetune-{stage_key('finetune', inputs, params, {})[:16]}"

    class Impatient(LocalRunner):
        def poll(self, job):
            if steps_done(work / "nemo" / "ckpt") >= 2:
                raise KeyboardInterrupt
            return super().poll(job)

    with pytest.raises(KeyboardInterrupt):
        ensure(
            "finetune",
            inputs,
            params,
            output=Adapter,
            store=store,
            cache=store.root,
            runner=_cancels(Impatient),
            on_event=lambda e: None,
            stop_s=30,
        )
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
from slipway.artifacts import Adapter, Checkpoint, Dataset, Store
from slipway.jobs import ensure
from slipway.local_runner import LocalRunner
from tests.nemo import pico_params
store = Store(Path(sys.argv[1]))
inputs = {"base": store.find(Checkpoint, "base"), "data": store.find(Dataset, "data")}
ensure("finetune", inputs, pico_params(max_steps=60, epochs=60), output=Adapter, store=store, cache=store.root, runner=LocalRunner(),
       on_event=lambda e: None)
"""


@pytest.mark.parametrize("who", ["orchestrator", "stage"])
def test_what_runs_is_adopted_after_a_kill(store, inputs, monkeypatch, who):
    monkeypatch.setenv("TRAINER_STEP_S", "0.1")
    root = Path(__file__).resolve().parents[2]
    first = subprocess.Popen([sys.executable, "-c", ORCHESTRATOR, str(store.root)], cwd=root)
    params = pico_params(max_steps=60, epochs=60)
    work = store.root / "work" / f"finetune-{stage_key('finetune', inputs, params, {})[:16]}"
    wait_for(lambda: steps_done(work / "nemo" / "ckpt") >= 2)
    trainer = json.loads((work / "nemo" / "process.json").read_text())["pid"]
    if who == "stage":
        os.kill(json.loads((work / "process.json").read_text())["pid"], signal.SIGKILL)
    else:
        first.kill()
    first.wait()
    kept = []
    made = make(store, inputs, params, kept)
    lines = [json.loads(x) for x in (made.artifact.path / "training.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == list(range(60)) and made.artifact.summary["attempts"] == 1
    assert trainer and not (work / "nemo").exists()


def test_a_job_that_cannot_start_is_one_error(store, inputs, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ResourceError, match="training command: automodel is not installed"):
        make(store, inputs, pico_params())
    no_gpu = pico_params()
    target = TargetConfig(name="here", gpus=1, gpu_memory_gb=80)
    with pytest.raises(ResourceError, match="automodel is not installed"):
        make(store, inputs, no_gpu.model_copy(update={"target": target}))


def test_a_damaged_adapter_is_not_taken(store, inputs, tmp_path):
    adapter = make(store, inputs, pico_params()).artifact
    copy = shutil.copytree(adapter.path, tmp_path / "copy")
    file = copy / "adapter_model.safetensors"
    whole = file.read_bytes()
    assert check_adapter(copy, inputs["base"], pico_params().train) == adapter.summary["trainable_parameters"]
    file.write_bytes(whole[:-100])
    with pytest.raises(AdapterError, match="adapter_model"):
        check_adapter(copy, inputs["base"], pico_params().train)
    nan = bytearray(whole)
    nan[-4:] = b"\x00\x00\xc0\x7f"
    file.write_bytes(nan)
    with pytest.raises(AdapterError, match="NaN or Inf"):
        check_adapter(copy, inputs["base"], pico_params().train)
    file.write_bytes(whole)
    with pytest.raises(AdapterError, match=r"r of .*4; expected train\.rank=8"):
        check_adapter(copy, inputs["base"], pico_params(rank=8).train)


def test_sft_is_refused_by_name(store, inputs):
    with pytest.raises(ConfigError, match=r"train\.method: sft; expected qlora or lora"):
        make(store, inputs, pico_params(method="sft"))


def test_the_key_covers_what_decides_the_bytes_and_not_how_the_machine_is_reached(inputs):
    one = pico_params()

    def key(**change):
        return stage_key("finetune", inputs, one.model_copy(update=change), {})

    def target(**change):
        return one.target.model_copy(update=change)

    image = ImageConfig(repository="nvcr.io/nvidia/nemo-automodel", tag="26.10.00", digests={"amd64": "sha256:" + "1" * 64})
    same = {key(), key(target=target(runner=SlurmConfig(kind="slurm", container=False))), key(target=target(reserve_gb=9.0, name="other"))}
    assert len(same) == 1
    other = image.model_copy(update={"digests": {"amd64": "sha256:" + "2" * 64}})
    different = [key(), key(image=image), key(image=other), key(target=target(gpus=2)), key(train=pico_params(lr=0.5).train),
                 key(target=target(arch="arm64")), key(model=ModelConfig(name="x"))]  # fmt: skip
    assert len(set(different)) == len(different)
    assert key(image=image) == key(image=image.model_copy(update={"tag": "latest"})), "a tag is only where the digest was read"
