"""The pass with calibration: scales are those of the ordinary model, GPTQ loses less than max, and what was done stays
done."""

from contextlib import contextmanager

import pytest
import torch
from torch.nn import functional

from slipway.calibration.input_statistics import InputOf
from slipway.calibration.layer_walk import LayerWalk
from slipway.calibration.sequences import calibration_tokens
from slipway.config.quantize import CalibrationConfig
from slipway.errors import CheckpointError, ResourceError
from slipway.streaming import calibrated_stream as layered
from slipway.streaming import loader
from slipway.streaming.calibrated_stream import walk_dtype
from slipway.streaming.directories import quantize_directory
from slipway.system.progress import Progress
from tests.oracles.input_amax import input_amaxes
from tests.oracles.modelopt_oracle import tensors
from tests.support.pico import pico_adapter, pico_model
from tests.support.pico_families import VOCABULARY, family
from tests.support.streaming import (
    FEW,
    LAYOUT_OF,
    calibration_rows,
    config,
    decoded,
    files,
    numbers_rows,
    numbers_tokenizer,
    ordinary,
    quantized,
    same,
)
from tests.support.write_whole import write_whole

TOKENS = torch.randint(3, VOCABULARY, (6, 24), generator=torch.Generator().manual_seed(1))
FAMILIES = ("qwen3", "gemma2", "mixtral", "qwen3_moe", "gpt_oss")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return calibration_rows(tmp_path_factory.mktemp("rows") / "train.jsonl", rows=200)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("base"), layers=3)


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Family -> (model, calibration rows, the tokens that they are)."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            model = numbers_tokenizer(family(name, folder / "model"), VOCABULARY)
            lines = numbers_rows(folder / "rows.jsonl", TOKENS)
            made[name] = model, lines, calibration_tokens(lines, model, FEW)
        return made[name]

    return of


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("fmt", ["nvfp4", "fp8"])
def test_scales_are_those_of_hooks_on_the_ordinary_model(tmp_path, families, name, fmt):
    """Input scales, KV scales and weights, experts listed and stacked among them."""
    model, lines, tokens = families(name)
    inputs, kv = input_amaxes(model, tokens.tolist())
    out = quantized(model, tmp_path / "out", format=fmt, kv_cache="fp8", calibration=lines)
    assert same(out, write_whole(model, tmp_path / "whole", fmt, amaxes=inputs, kv=kv))
    assert any(key.endswith("input_scale") for key in tensors(out)) and any(
        key.endswith("v_scale") for key in tensors(out)
    )


def test_the_adapter_is_seen_by_calibration(tmp_path, base, rows):
    adapter = pico_adapter(tmp_path / "adapter", layers=range(3), alpha=64)
    plain, merged = (
        tensors(quantized(base, tmp_path / f"{i}", format="nvfp4", adapter=a, calibration=rows))
        for i, a in enumerate((None, adapter))
    )
    later = "model.layers.2.self_attn.q_proj.input_scale"
    assert not torch.equal(plain[later], merged[later])


MANY = CalibrationConfig(samples=40, length=32, micro_batch=8)  # so that Hessians have full rank


def outputs(model, weights, tokens):
    """(every matmul's outputs, log-probabilities) of the ordinary model in fp32 with these weights."""
    captured, network = {}, ordinary(model, weights)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, args, output, name=name: captured.setdefault(name, output))
    with torch.no_grad():
        logits = network(tokens).logits
    return captured, functional.log_softmax(logits, -1)


@pytest.fixture(scope="module")
def exact(base, rows):
    tokens = calibration_tokens(rows, base, MANY)
    return tokens, *outputs(base, None, tokens)


def losses(base, out, exact, fmt):
    """(squared error of every matmul's output, KL divergence at the logits) of what was written, run by the ordinary
    model."""
    tokens, matmuls, wanted = exact
    made, captured = outputs(base, decoded(base, out, fmt, LAYOUT_OF.get(fmt, "modelopt")), tokens)
    errors = {name: float((made[name] - matmuls[name]).square().sum()) for name in matmuls if name != "lm_head"}
    return errors, float(functional.kl_div(captured, wanted, log_target=True, reduction="batchmean"))


@pytest.mark.parametrize("fmt", ["nvfp4a16", "mxfp4", "fp8-dynamic"])
def test_gptq_loses_less_than_max_in_nearly_every_matmul_and_at_the_logits(tmp_path, base, rows, exact, fmt):
    asked = {"format": fmt, "calibration": rows, "sequences": MANY}
    most, most_kl = losses(base, quantized(base, tmp_path / "max", **asked), exact, fmt)
    least, least_kl = losses(base, quantized(base, tmp_path / "gptq", method="gptq", **asked), exact, fmt)
    assert len(most) == 21 and sum(least[name] < most[name] for name in most) >= 20
    assert least_kl < 0.8 * most_kl


def test_a_search_that_knows_the_inputs_loses_less_than_one_that_does_not(tmp_path, base, rows, exact):
    kl = {}
    for name, given in (("max", {}), ("mse", {}), ("weighted", {"calibration": rows, "sequences": MANY})):
        out = quantized(base, tmp_path / name, method="max" if name == "max" else "mse", **given)
        kl[name] = losses(base, out, exact, "nvfp4a16")[1]
    assert kl["mse"] < kl["max"] and kl["weighted"] < kl["max"]


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
@pytest.mark.parametrize("method", ["mse", "gptq"])
def test_experts_are_rounded_too_and_twice_the_same(tmp_path, families, name, method):
    """With six tokens some experts are never chosen, in one of the streams or both."""
    model, lines, _ = families(name)
    few = CalibrationConfig(samples=1, length=16, micro_batch=1)
    asked = {"method": method, "calibration": lines, "sequences": few}
    one, two = (quantized(model, tmp_path / i, workers=workers, **asked) for i, workers in (("one", 1), ("two", 4)))
    assert files(one) == files(two)
    largest = tensors(quantized(model, tmp_path / "max"))
    scales = [key for key in largest if key.endswith("weight_scale") and "experts" in key]
    assert scales and any(not torch.equal(tensors(one)[key].float(), largest[key].float()) for key in scales)


@pytest.mark.parametrize("fmt, method", [("nvfp4", "max"), ("nvfp4", "mse"), ("nvfp4a16", "gptq"), ("fp8", "gptq")])
def test_a_second_run_writes_the_same_bytes(tmp_path, base, rows, fmt, method):
    one, two = (
        quantized(base, tmp_path / i, format=fmt, method=method, calibration=rows, kv_cache="fp8")
        for i in ("one", "two")
    )
    assert files(one) == files(two)


def test_what_calibration_is_drawn_from_matters(tmp_path, base, rows):
    sequences = [CalibrationConfig(samples=6, length=24, micro_batch=1, seed=seed) for seed in (1, 2)]
    one, two = (
        quantized(base, tmp_path / str(s.seed), format="nvfp4", calibration=rows, sequences=s) for s in sequences
    )
    assert not same(one, two)


def test_a_layer_that_is_finished_is_not_rounded_again(tmp_path, base, rows, monkeypatch):
    asked = {"format": "nvfp4", "method": "gptq", "calibration": rows, "kv_cache": "fp8", "workers": 1}
    whole = quantized(base, tmp_path / "whole", **asked)
    rounded, adapt, layer = [], layered.CalibratedPass._adapt, layered.CalibratedPass.layer

    def stop_at_the_last(self, spec, *args):
        if spec.index == 2:
            raise KeyboardInterrupt
        layer(self, spec, *args)

    def noted(self, spec, unit, *args, **named):
        rounded.append(unit.name)
        return adapt(self, spec, unit, *args, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(layered.CalibratedPass, "layer", stop_at_the_last)
        quantized(base, tmp_path / "out", **asked)
    monkeypatch.setattr(layered.CalibratedPass, "_adapt", noted)
    quantized(base, tmp_path / "out", **asked)
    assert files(tmp_path / "out") == files(whole)
    assert rounded and all(name.startswith("model.layers.2.") for name in rounded)


def test_gptq_runs_a_layer_only_as_far_as_the_matmul_that_it_rounds(tmp_path, base, rows, monkeypatch):
    """The same bytes as with whole layers, in fewer matmuls."""
    asked = {"format": "nvfp4a16", "method": "gptq", "calibration": rows, "workers": 1}
    runs, observe = [], layered.InputOf.linear

    def counted(self, names, x, expert):
        runs.append(names)
        observe(self, names, x, expert)

    monkeypatch.setattr(layered.InputOf, "linear", counted)
    one = quantized(base, tmp_path / "one", **asked)
    ended = len(runs)
    monkeypatch.setattr(layered, "InputOf", lambda name, *, last: InputOf(name, last=False))
    assert files(quantized(base, tmp_path / "two", **asked)) == files(one)
    assert 0 < ended < 0.7 * (len(runs) - ended)


def test_only_one_layers_weights_are_loaded_at_a_time(tmp_path, base, rows, monkeypatch):
    live, load = [0], LayerWalk.load

    @contextmanager
    def counted(self, layer, weights=None):
        live[0] += 1
        assert live[0] == 1
        with load(self, layer, weights) as module:
            yield module
        live[0] -= 1

    monkeypatch.setattr(LayerWalk, "load", counted)
    quantized(base, tmp_path / "out", format="nvfp4", method="gptq", calibration=rows)


def test_a_group_that_exceeds_the_budget_is_named(tmp_path, base, rows, monkeypatch):
    monkeypatch.setattr(loader, "CPU_BAND", 640)
    with pytest.raises(
        ResourceError,
        match=r"memory_budget_gb: 0\.000 GB; expected at least .*, for the fused group of model\.layers\.0\.mlp\.gate",
    ):
        quantized(base, tmp_path / "out", format="nvfp4", calibration=rows, memory_budget_gb=2e-5)


def test_attention_that_does_not_show_its_keys_has_no_kv_scales(tmp_path, base, rows, monkeypatch):
    monkeypatch.setattr(layered.InputStatistics, "attention", lambda *_: None)
    with pytest.raises(
        CheckpointError, match=r"calibration of model\.layers\.0\.self_attn: largest of k: 0\.0.*kv_cache=none"
    ):
        quantized(base, tmp_path / "out", kv_cache="fp8", calibration=rows)


def test_gptq_on_a_cpu_computes_in_fp32():
    assert walk_dtype(torch.device("cpu"), "gptq") == torch.float32
    assert walk_dtype(torch.device("cpu"), "max") == walk_dtype(torch.device("cuda"), "gptq") == torch.bfloat16


def test_figures_of_gptq_are_of_the_rounded_weights(tmp_path, base, rows):
    figures = quantize_directory(base, None, rows, tmp_path / "out", config(method="gptq"), Progress())
    weights, source = decoded(base, tmp_path / "out", "nvfp4a16"), tensors(base)
    names = [name for name in source if "proj" in name]
    squared = sum(float((weights[name] - source[name].float()).square().sum()) for name in names)
    assert figures["relative_weight_mse"] == pytest.approx(
        squared / sum(float(source[name].float().square().sum()) for name in names), rel=0.01
    )
