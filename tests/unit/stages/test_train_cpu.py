"""The embedded trainer: what it writes, that it learns, and that an interruption changes nothing."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from slipway.config.train import TrainConfig
from slipway.errors import ConfigError, DataError, ResourceError
from slipway.pipeline.workspace import Workspace
from slipway.stages.train_cpu import train_cpu
from slipway.store.artifacts import Checkpoint, Dataset
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from tests.support.pico import pico_model

PARAMS = TrainConfig(
    rank=4, alpha=8, upper_layers=2, epochs=2, pack_length=256, accumulate=1, lr=5e-3, checkpoint_every=2, threads=1
)


def write_rows(path, count):
    messages = [
        [
            {"role": "user", "content": f"turn on lamp {i}"},
            {"role": "assistant", "content": json.dumps({"intent": "On", "lamp": i})},
        ]
        for i in range(count)
    ]
    path.write_text(
        "".join(
            json.dumps({"id": str(i), "messages": m, "label": "On", "template": str(i)}) + "\n"
            for i, m in enumerate(messages)
        )
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    model = pico_model(tmp_path_factory.mktemp("base"))
    data = tmp_path_factory.mktemp("data")
    for name, count in (("train", 16), ("val", 3), ("test", 3)):
        write_rows(data / f"{name}.jsonl", count)
    seal(model, "checkpoint", "k", {})
    seal(data, "dataset", "k", {})
    return load(Checkpoint, model), load(Dataset, data)


def space(root, progress=None):
    for name in ("out", "work", "cache"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Workspace(root / "out", root / "work", root / "cache", progress or Progress())


def steps(root):
    return [json.loads(line) for line in (root / "out/training.jsonl").read_text().splitlines()]


class StopsAt(Progress):
    """A progress sink that interrupts the trainer, as Ctrl-C would, after one step's metric."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def metric(self, step, **figures):
        if step == self.step:
            raise KeyboardInterrupt


class SignalsAt(Progress):
    """A progress sink that sends SIGTERM to this process in one step, as whoever preempts training does."""

    def __init__(self, step):
        super().__init__()
        self.step, self.notes = step, []

    def metric(self, step, **figures):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_an_interrupted_run_resumes_to_the_same_weights(inputs, tmp_path, method):
    params = PARAMS.model_copy(update={"method": method, "dropout": 0.1})
    train_cpu(*inputs, params, space(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_cpu(*inputs, params, space(tmp_path / "cut", StopsAt(5)))
    assert not (tmp_path / "cut/out/adapter_model.safetensors").exists()
    train_cpu(*inputs, params, space(tmp_path / "cut"))
    whole, cut = (load_file(tmp_path / f"{name}/out/adapter_model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert [s["loss"] for s in steps(tmp_path / "whole")] == [s["loss"] for s in steps(tmp_path / "cut")]


def test_on_sigterm_it_saves_the_step_it_is_at_and_goes_on_from_there_to_the_same_weights(inputs, tmp_path):
    """Checkpoints of its own are never due; told at the last step too, when what is left is no step."""
    params = PARAMS.model_copy(update={"checkpoint_every": 10_000, "dropout": 0.1})
    train_cpu(*inputs, params, space(tmp_path / "whole"))
    last, saved = len(steps(tmp_path / "whole")), tmp_path / "cut/work/checkpoints/LATEST"
    handler = signal.getsignal(signal.SIGTERM)
    for step in (3, 4, last):
        progress = SignalsAt(step)
        with pytest.raises(SystemExit) as ended:
            train_cpu(*inputs, params, space(tmp_path / "cut", progress))
        assert ended.value.code == 143
        assert progress.notes[-1] == f"told to end: saved after step {step} of {last}"
        assert saved.read_text() == f"step_{step:06d}\n" and not list((tmp_path / "cut/out").iterdir())
    assert signal.getsignal(signal.SIGTERM) is handler
    train_cpu(*inputs, params, space(tmp_path / "cut"))
    name = "out/adapter_model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [s["loss"] for s in steps(tmp_path / "cut")] == [s["loss"] for s in steps(tmp_path / "whole")]


def test_it_learns_and_adapts_only_the_upper_layers(inputs, tmp_path):
    train_cpu(*inputs, PARAMS.model_copy(update={"epochs": 12}), space(tmp_path))
    history = steps(tmp_path)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    layers = {key.split(".layers.")[1].split(".")[0] for key in load_file(tmp_path / "out/adapter_model.safetensors")}
    assert layers == {"2", "3"}
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["steps"] == history[-1]["step"] == len(history)


def test_the_adapter_names_its_base_by_digest_and_holds_no_path(inputs, tmp_path):
    train_cpu(*inputs, PARAMS.model_copy(update={"max_steps": 1}), space(tmp_path))
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"sha256:{inputs[0].digest}"
    texts = [p.read_bytes() for p in (tmp_path / "out").iterdir()]
    assert [text for text in texts if str(inputs[0].path.parent).encode() in text] == []


def test_the_loss_of_a_step_does_not_depend_on_how_it_is_cut(inputs, tmp_path):
    cuts = [{"micro_batch": 4, "accumulate": 1}, {"micro_batch": 1, "accumulate": 4}]
    first = []
    for i, cut in enumerate(cuts):
        train_cpu(
            *inputs, PARAMS.model_copy(update={"method": "lora", "max_steps": 1, **cut}), space(tmp_path / str(i))
        )
        first += steps(tmp_path / str(i))
    assert first[0]["loss"] == pytest.approx(first[1]["loss"], rel=1e-5)
    assert first[0]["grad_norm"] == pytest.approx(first[1]["grad_norm"], rel=1e-4)


def test_activation_checkpointing_gives_the_same_step(inputs, tmp_path):
    for name in ("none", "full"):
        train_cpu(
            *inputs,
            PARAMS.model_copy(update={"max_steps": 2, "activation_checkpointing": name}),
            space(tmp_path / name),
        )
    without, recomputed = (steps(tmp_path / n)[-1] for n in ("none", "full"))
    assert without["loss"] == pytest.approx(recomputed["loss"], rel=1e-5)


def test_bad_input_is_refused_before_any_training(inputs, tmp_path):
    with pytest.raises(ConfigError, match=r"train.upper_layers: 9; expected at most the model's 4 layers"):
        train_cpu(*inputs, PARAMS.model_copy(update={"upper_layers": 9}), space(tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"train.max_steps: 9999; expected at most"):
        train_cpu(*inputs, PARAMS.model_copy(update={"max_steps": 9999}), space(tmp_path / "b"))
    with pytest.raises(DataError, match=r"more tokens than the trainer.s sequence: 61 tokens, train.pack_length=32"):
        train_cpu(*inputs, PARAMS.model_copy(update={"pack_length": 32}), space(tmp_path / "c"))


SFT = PARAMS.model_copy(update={"method": "sft", "lr": 1e-3})


def test_full_fine_tuning_leaves_every_weight_and_resumes_bit_for_bit(inputs, tmp_path):
    base, _ = inputs
    train_cpu(*inputs, SFT, space(tmp_path / "whole"))
    history, trained = steps(tmp_path / "whole"), load_file(tmp_path / "whole/out/model.safetensors")
    stored = load_file(base.path / "model.safetensors")
    assert {name: tensor.shape for name, tensor in trained.items()} == {n: t.shape for n, t in stored.items()}
    assert all(tensor.dtype == torch.bfloat16 for tensor in trained.values())
    assert not any(torch.equal(trained[name], stored[name]) for name in stored), "embedding, norms and all"
    assert history[-1]["loss"] < history[0]["loss"]
    summary = json.loads((tmp_path / "whole/out/summary.json").read_text())
    assert summary["trainable_parameters"] == sum(tensor.numel() for tensor in stored.values())
    assert not (tmp_path / "whole/out/config.json").exists()
    with pytest.raises(KeyboardInterrupt):
        train_cpu(*inputs, SFT, space(tmp_path / "cut", StopsAt(4)))
    train_cpu(*inputs, SFT, space(tmp_path / "cut"))
    again = load_file(tmp_path / "cut/out/model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in trained.items())


def test_a_model_too_large_to_be_trained_whole_is_refused_by_name(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("slipway.training.full_model.ROOM", 1e-9)
    with pytest.raises(ResourceError, match=r"train\.method=sft on the CPU: .* GB for .* at 20 bytes.*qlora or lora"):
        train_cpu(*inputs, SFT, space(tmp_path))
