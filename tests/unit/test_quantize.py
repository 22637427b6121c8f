"""The quantize stage: streamed equals whole, shards do not matter, and what does not fit is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway import fp4
from slipway import quantize as stage
from slipway.artifacts import Adapter, Checkpoint, load, seal
from slipway.checkpoints import materialize, open_checkpoint, write_virtual
from slipway.config import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError
from slipway.formats import FORMATS
from slipway.jobs import Workspace
from slipway.model_files import copy_small_files
from slipway.progress import Progress
from slipway.shards import Shards
from tests.pico import pico_adapter, pico_model

Q0 = "model.layers.0.self_attn.q_proj"


def sealed(cls, path):
    seal(path, cls.kind, "k", {})
    return load(cls, path)


def run(tmp_path, checkpoint, name="out", progress=None, **params):
    out = tmp_path / name
    out.mkdir()
    stage.quantize(checkpoint, QuantizeConfig(**params), Workspace(out, tmp_path, tmp_path, progress or Progress()))
    return out


def tensors_in(folder):
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def same(a, b):
    def raw(tensor):
        return tensor.reshape(-1).view(torch.uint8)

    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(raw(a[n]), raw(b[n])) for n in a)


@pytest.fixture
def base(tmp_path):
    return sealed(Checkpoint, pico_model(tmp_path / "base"))


def test_layout_and_values_of_a_fused_group(tmp_path, base):
    got, source = tensors_in(run(tmp_path, base)), open_checkpoint(base)
    weights = {m: source.read(f"model.layers.0.self_attn.{m}_proj.weight") for m in "qkv"}
    g = fp4.global_scale(torch.stack([w.abs().amax() for w in weights.values()]).amax())
    for m, weight in weights.items():
        prefix = f"model.layers.0.self_attn.{m}_proj.weight"
        packed, scales = fp4.quantize(weight, g)
        assert torch.equal(got[prefix], packed) and torch.equal(got[f"{prefix}_scale_2"], g)
        assert torch.equal(got[f"{prefix}_scale"].view(torch.uint8), scales.view(torch.uint8))
    assert got["model.embed_tokens.weight"].dtype == got["model.norm.weight"].dtype == torch.bfloat16
    assert "lm_head.weight" not in got


@pytest.mark.parametrize("fmt", ["nvfp4", "fp8"])
def test_virtual_equals_materialized_and_sharded_equals_whole(tmp_path, fmt):
    base = sealed(Checkpoint, pico_model(tmp_path / "base", shards=3))
    adapter = sealed(Adapter, pico_adapter(tmp_path / "adapter"))
    virtual, plain = tmp_path / "virtual", tmp_path / "plain"
    virtual.mkdir()
    plain.mkdir()
    write_virtual(virtual, base, adapter)
    copy_small_files(base.path, virtual)
    artifact = sealed(Checkpoint, virtual)
    materialize(artifact, plain, Progress(), max_bytes=30_000)
    one = tensors_in(run(tmp_path, artifact, "a", format=fmt))
    two = tensors_in(run(tmp_path, sealed(Checkpoint, plain), "b", format=fmt, max_shard_gb=2e-5))
    assert len(list((tmp_path / "b").glob("*.safetensors"))) > 3 and same(one, two)
    assert not same(one, tensors_in(run(tmp_path, base, "c", format=fmt)))


@pytest.mark.parametrize("fmt", FORMATS)
def test_bands_equal_the_whole(fmt, monkeypatch):
    weight = torch.randn(37, 64).to(torch.bfloat16)
    scale = FORMATS[fmt].scale(weight.abs().amax())
    whole, error = stage.encode(weight, scale, FORMATS[fmt], whole_error := stage.Error()), whole_error
    monkeypatch.setattr(stage, "_BAND", 5 * 64)
    banded = stage.encode(weight, scale, FORMATS[fmt], band_error := stage.Error())
    assert same(whole, banded) and band_error.relative == pytest.approx(error.relative, rel=1e-9)


@pytest.mark.parametrize("fmt, bits, mse", [("nvfp4", 4.5, 0.009), ("fp8", 8.0, 0.0007)])
def test_summary_figures(tmp_path, base, fmt, bits, mse):
    out = run(tmp_path, base, format=fmt)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["bits_per_parameter"] == pytest.approx(bits, abs=0.01)
    assert summary["relative_weight_mse"] == pytest.approx(mse, rel=0.2)
    assert summary["bytes"] == (out / "model.safetensors").stat().st_size and summary["quantized_tensors"] == 28


def test_tokenizer_and_configs_are_beside_the_weights(tmp_path, base):
    out = run(tmp_path, base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (base.path / name).read_bytes()
    config = json.loads((out / "config.json").read_text())
    assert config["hidden_size"] == 64 and config["quantization_config"]["ignore"] == ["lm_head", "model.embed_tokens"]
    assert json.loads((out / "hf_quant_config.json").read_text())["quantization"]["exclude_modules"] == ["lm_head", "model.embed_tokens"]


def test_excluded_modules_stay_bf16_and_are_named(tmp_path, base):
    out = run(tmp_path, base, exclude=["lm_head", "*.down_proj", Q0])
    got, source = tensors_in(out), open_checkpoint(base)
    for name in (f"{Q0}.weight", "model.layers.3.mlp.down_proj.weight"):
        assert torch.equal(got[name], source.read(name)) and f"{name}_scale" not in got
    ignored = json.loads((out / "config.json").read_text())["quantization_config"]["ignore"]
    assert Q0 in ignored and "model.layers.3.mlp.down_proj" in ignored


def test_an_untied_head_is_quantized_only_when_asked(tmp_path):
    base = sealed(Checkpoint, pico_model(tmp_path / "base", tied=False))
    assert tensors_in(run(tmp_path, base, "kept"))["lm_head.weight"].dtype == torch.bfloat16
    out = run(tmp_path, base, "all", exclude=[])
    assert tensors_in(out)["lm_head.weight"].dtype == torch.uint8
    assert json.loads((out / "config.json").read_text())["quantization_config"]["ignore"] == ["model.embed_tokens"]


def test_a_tied_head_that_is_stored_all_the_same_is_dropped(tmp_path):
    model = pico_model(tmp_path / "base")
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, model / "model.safetensors")
    assert "lm_head.weight" not in tensors_in(run(tmp_path, sealed(Checkpoint, model)))


def test_an_fp32_base_is_rounded_to_bf16_first(tmp_path):
    exact = pico_model(tmp_path / "exact", dtype=torch.float32)
    rounded = pico_model(tmp_path / "rounded")
    got = [tensors_in(run(tmp_path, sealed(Checkpoint, m), f"out-{m.name}")) for m in (exact, rounded)]
    assert same(*got)


def test_a_pattern_that_matches_nothing_is_refused(tmp_path, base):
    with pytest.raises(ConfigError, match=r"quantize\.exclude: \*\.dwn_proj"):
        run(tmp_path, base, exclude=["lm_head", "*.dwn_proj"])


def replaced(tmp_path, name, tensor):
    model = pico_model(tmp_path / "base")
    save_file({**load_file(model / "model.safetensors"), name: tensor}, model / "model.safetensors")
    return sealed(Checkpoint, model)


def test_input_features_that_do_not_divide_into_blocks_are_refused(tmp_path):
    odd = replaced(tmp_path, f"{Q0}.weight", torch.ones(64, 72, dtype=torch.bfloat16))
    with pytest.raises(CheckpointError, match=rf"{Q0}.weight: 72 input features; expected a multiple of 16.*add {Q0} to quantize.exclude"):
        run(tmp_path, odd)
    assert list((tmp_path / "out").iterdir()) == []
    run(tmp_path, odd, "excluded", exclude=["lm_head", Q0])
    run(tmp_path, odd, "fp8", format="fp8")


def test_stacked_experts_are_refused(tmp_path):
    stacked = replaced(tmp_path, "model.layers.0.mlp.experts.gate_up_proj", torch.ones(2, 8, 16, dtype=torch.bfloat16))
    with pytest.raises(CheckpointError, match=r"gate_up_proj: shape \[2, 8, 16\]"):
        run(tmp_path, stacked)


def test_nan_in_the_base_is_named_and_nothing_is_left(tmp_path):
    bad = replaced(tmp_path, "model.layers.2.mlp.up_proj.weight", torch.full((128, 64), float("nan"), dtype=torch.bfloat16))
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\.mlp\.up_proj\.weight in .*NaN or Inf"):
        run(tmp_path, bad)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_label_that_lies_about_its_bytes_is_caught(tmp_path, base):
    """What went wrong elsewhere: labelled NVFP4, written as FP8."""
    source = open_checkpoint(base)
    plan = stage.make_plan(source, ["lm_head"], tied=True)
    written = Shards.open(run(tmp_path, base, format="fp8"))
    assert stage.bits_per_parameter(written, source, plan, FORMATS["fp8"]) == pytest.approx(8.0, abs=0.01)
    with pytest.raises(CheckpointError, match=r"labelled W4A16_NVFP4: 8\.0\d+ bits per quantized parameter; expected 4\.5"):
        stage.bits_per_parameter(written, source, plan, FORMATS["nvfp4a16"])


def test_progress_counts_bytes_to_the_end(tmp_path, base):
    progress = Progress(tmp_path / "progress.jsonl", every_s=0)
    run(tmp_path, base, progress=progress)
    progress._file.close()
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert events[-1]["done"] == events[-1]["total"] and events[-1]["unit"] == "bytes"
    assert all(e["gb_per_s"] >= 0 and e["eta_s"] >= 0 for e in events)
