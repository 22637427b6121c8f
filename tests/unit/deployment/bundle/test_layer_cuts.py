"""Checkpoints cut by decoder layers: the same tensors in files that loaders read, each changed layer one file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.deployment.bundle import layer_cuts as module
from slipway.deployment.bundle.layer_cuts import Content, Span, cut, size_of
from slipway.errors import CheckpointError
from tests.support.pico import LAYERS, pico_model


def write(files: dict[str, Content], out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = b"".join(
            part if isinstance(part, bytes) else part.file.read_bytes()[part.start : part.start + part.size]
            for part in content
        )
        assert len(data) == size_of(content)
        (out / name).write_bytes(data)
    return out


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("shards", [1, 3])
def test_the_same_tensors_one_file_a_layer(shards: int, tmp_path: Path) -> None:
    model = pico_model(tmp_path / "model", shards=shards, tied=False)
    files = cut(model)
    assert [name for name in files if "layer" in name] == [f"model-layer-{i:05d}.safetensors" for i in range(LAYERS)]
    out = write(files, tmp_path / "out")
    before, after = tensors_of(model), tensors_of(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {p.name for p in out.glob("*.safetensors")}
    assert all(name in load_file(out / file) for name, file in index["weight_map"].items())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in before.values())


@pytest.mark.parametrize(("shards", "tied"), [(1, False), (3, True)])
def test_transformers_loads_the_cut_files_to_equal_logits(shards: int, tied: bool, tmp_path: Path) -> None:
    """No tensor is missing, none is made up, and what the network computes is the same to the last bit."""
    from transformers import AutoModelForCausalLM

    model = pico_model(tmp_path / "model", shards=shards, tied=tied)
    out = write(cut(model), tmp_path / "out")
    for file in model.glob("*.json"):
        if not (out / file.name).exists():
            shutil.copy(file, out)
    assert not {p.name for p in out.glob("*.safetensors")} & {p.name for p in model.glob("*.safetensors")}
    rows = torch.arange(24).reshape(2, 12)
    logits = []
    for folder in (model, out):
        network, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        with torch.inference_mode():
            logits.append(network.eval()(rows).logits)
    assert logits[0].std() > 0
    assert torch.equal(*logits)


def test_shards_cut_otherwise_give_the_same_files(tmp_path: Path) -> None:
    """Files depend on tensors, not on how they were sharded before."""
    one, three = (write(cut(pico_model(tmp_path / f"m{n}", shards=n)), tmp_path / f"o{n}") for n in (1, 3))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in three.iterdir()}


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_many_layers_share_files_and_large_tensors_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGE", 4096)
    layers = {f"model.layers.{i}.mlp.weight": torch.full((8,), float(i)) for i in range(200)}
    others = {"model.embed.weight": torch.zeros(2048), "norm.weight": torch.ones(3), "vision.layers.1.a": torch.ones(2)}
    files = cut(save(tmp_path / "m", {**layers, **others}))
    assert len(files) <= module.MOST_FILES + 1
    assert {"model-outside.safetensors", "model-outside-model-embed-weight.safetensors"} <= files.keys()
    out = write(files, tmp_path / "out")
    assert tensors_of(out).keys() == {*layers, *others}
    assert set(load_file(out / "model-layer-00003.safetensors")) == {f"model.layers.{i}.mlp.weight" for i in (3, 4, 5)}


def test_a_layer_that_no_registry_takes_is_cut_between_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    experts = {f"layers.0.experts.{i}.w": torch.full((20,), i, dtype=torch.uint8) for i in range(12)}
    files = cut(save(tmp_path / "m", experts))
    assert sorted(files)[:2] == ["model-layer-00000-01.safetensors", "model-layer-00000-02.safetensors"]
    assert tensors_of(write(files, tmp_path / "out")).keys() == experts.keys()


def test_odd_tensors(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(0), "h.0.b": torch.tensor(1.5), "h.0.c": torch.zeros((3, 0, 2)), "7": torch.ones(1)}
    out = write(cut(save(tmp_path / "m", tensors)), tmp_path / "out")
    assert {name: tensor.shape for name, tensor in tensors_of(out).items()} == {n: t.shape for n, t in tensors.items()}


def test_a_model_that_names_its_weights_keeps_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text('{"transformers_weights": "mine.safetensors"}')
    save_file({"a": torch.ones(3)}, folder / "mine.safetensors", {"format": "pt"})
    assert cut(folder) == {
        "mine.safetensors": (Span(folder / "mine.safetensors", 0, size_of(cut(folder)["mine.safetensors"])),)
    }


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("x", "y"):
        save_file({"a": torch.ones(3), name: torch.ones(1)}, folder / f"{name}.safetensors")
    index = {"weight_map": {"a": "x.safetensors", "x": "x.safetensors", "y": "y.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"tensor a: in x\.safetensors and in y\.safetensors"):
        cut(folder)
