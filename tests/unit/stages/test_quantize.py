"""The quantize stage: any checkpoint artifact in, a quantized model directory out, calibrated on the training split
where needed."""

import json
from pathlib import Path

import pytest
import torch

from slipway.config.load import load_config
from slipway.errors import CheckpointError, ConfigError
from slipway.pipeline.stage import stage_spec
from slipway.pipeline.workspace import Workspace
from slipway.stages import quantize as stage
from slipway.store.artifacts import Adapter, Checkpoint, Dataset, Quantized
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from slipway.weights.checkpoint import materialize, write_virtual
from slipway.weights.model_files import copy_small_files
from slipway.weights.shard_writer import ShardWriter
from tests.oracles.modelopt_oracle import tensors
from tests.support.pico import pico_adapter, pico_model
from tests.support.streaming import calibration_rows, config, files, quantized, same

IMAGE = {"vllm": ["engine.image=vllm"]}


def sealed(cls, path):
    seal(path, cls.kind, "k", {})
    return load(cls, path)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return sealed(Checkpoint, pico_model(tmp_path_factory.mktemp("base"), shards=3, layers=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    calibration_rows(folder / "train.jsonl")
    return sealed(Dataset, folder)


@pytest.fixture
def virtual(tmp_path, base):
    folder = tmp_path / "virtual"
    folder.mkdir()
    write_virtual(folder, base, sealed(Adapter, pico_adapter(tmp_path / "adapter", layers=range(2))))
    copy_small_files(base.path, folder)
    return sealed(Checkpoint, folder)


def run(tmp_path, checkpoint, data=None, name="out", **params):
    out, work = tmp_path / name, tmp_path / f"work-{name}"
    out.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    stage.quantize(checkpoint, data, config(**params), Workspace(out, work, tmp_path, Progress()))
    return out


@pytest.mark.parametrize("fmt", ["nvfp4", "nvfp4a16", "fp8-dynamic"])
def test_virtual_equals_materialized_equals_the_command_line(tmp_path, base, virtual, data, fmt):
    plain = tmp_path / "plain"
    plain.mkdir()
    materialize(virtual, plain, Progress(), max_bytes=30_000)
    one = run(tmp_path, virtual, data, "one", format=fmt)
    two = run(tmp_path, sealed(Checkpoint, plain), data, "two", format=fmt, max_shard_gb=2e-5)
    rows = data.path / "train.jsonl" if fmt == "nvfp4" else None
    three = quantized(base.path, tmp_path / "three", adapter=tmp_path / "adapter", calibration=rows, format=fmt)
    assert same(one, two) and same(one, three)
    assert not same(one, run(tmp_path, base, data, "unadapted", format=fmt))


def test_the_summary_and_the_files_of_the_artifact(tmp_path, base, data):
    out = run(tmp_path, base, data, format="nvfp4", kv_cache="fp8")
    summary = sealed(Quantized, out).summary
    assert (summary["format"], summary["method"], summary["layout"], summary["quantized_tensors"]) == (
        "nvfp4",
        "max",
        "modelopt",
        14,
    )
    assert summary["bits_per_parameter"] == 4.5 and summary["relative_weight_mse"] == pytest.approx(0.009, rel=0.1)
    assert summary["bytes"] == (out / "model.safetensors").stat().st_size and summary["calibration_tokens"] == 144
    assert {file.name for file in out.iterdir()} == {
        "manifest.json",
        "model.safetensors",
        "summary.json",
        "config.json",
        "hf_quant_config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }


def test_rows_calibrate_only_what_asks_for_them(tmp_path, base, data):
    assert "calibration_tokens" not in json.loads((run(tmp_path, base, data, "plain") / "summary.json").read_text())
    with pytest.raises(ConfigError, match=r"calibration data: none; expected rows .*input scales of fp8"):
        run(tmp_path, base, None, "static", format="fp8")
    assert list((tmp_path / "static").iterdir()) == []


def test_a_killed_stage_goes_on_from_its_work_folder_and_leaves_nothing_there(tmp_path, monkeypatch, base):
    append, written = ShardWriter.append, []

    def stops(self, key, data):
        if len(written) == 25:
            raise KeyboardInterrupt
        written.append(key)
        append(self, key, data)

    monkeypatch.setattr(ShardWriter, "append", stops)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, base, workers=1)
    assert list((tmp_path / "out").iterdir()) == [] and (tmp_path / "work-out" / "model").is_dir()
    first, written[:] = set(written), []
    monkeypatch.setattr(ShardWriter, "append", lambda self, key, data: written.append(key) or append(self, key, data))
    out = run(tmp_path, base, workers=1)
    assert len(first & set(written)) < 9  # of the group that was under way
    assert same(out, run(tmp_path, base, name="whole"))
    assert files(tmp_path / "work-out") == {}


def test_damage_is_named_and_nothing_is_left(tmp_path):
    model = pico_model(tmp_path / "base", layers=1)
    checkpoint = sealed(Checkpoint, model)
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-2, 2)
        file.write(torch.tensor([float("nan")], dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes())
    with pytest.raises(CheckpointError, match=r"tensor .* in .*NaN or Inf"):
        run(tmp_path, checkpoint)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_engine_that_will_serve_decides_whether_fp8_scales_are_shared():
    wanted = {"llama.cpp": "own", "vllm": "shared"}
    for kind, scales in wanted.items():
        made = load_config(Path("conf"), ["quantize.format=fp8", f"engine.kind={kind}", *IMAGE.get(kind, [])])
        assert stage.params_of(made).fused_scales == scales


def test_the_stage_asks_for_a_checkpoint_and_perhaps_data():
    spec = stage_spec("quantize")
    assert spec.inputs == {"checkpoint": Checkpoint, "data": Dataset} and spec.output is Quantized


def test_an_untied_head_stays_in_bf16_by_default(tmp_path):
    checkpoint = sealed(Checkpoint, pico_model(tmp_path / "base", tied=False, layers=1))
    assert tensors(run(tmp_path, checkpoint))["lm_head.weight"].dtype == torch.bfloat16
