"""Every family, quantized from what transformers saved, means to transformers what it means here.

The quantized directory is decoded by the reader of its layout and loaded into the family's class: no tensor without a
place, no parameter without a value, and logits as near to the original's as the format's rounding lets them be.
"""

import json
import shutil

import pytest
import torch
from compressed_tensors.entrypoints.convert import CompressedTensorsDequantizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from slipway.quantization import stacked_experts
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.weights.dequantized import open_weights
from tests.oracles.modelopt_oracle import tensors
from tests.support.families import FAMILIES, load_family, logits, write_family
from tests.support.families import model_class as class_of
from tests.support.peft_adapters import adapted, write_adapter
from tests.support.stored import fp8_blocks, mxfp4_gpt_oss
from tests.support.streaming import quantized

FAMILIES_OF_LINEARS = tuple(name for name in FAMILIES if name not in ("gpt2", "gpt_oss"))
UNTRAINED = 2  # an expert
CHANGE, OF_FP4 = 0.25, 0.6  # of the logits' spread; FP8 changes it by a few percent, FP4 by a third, garbage by 1.4


def spread(one, other):
    """Root mean square of the difference, in units of the original's."""
    return float((one - other).square().mean().sqrt() / other.square().mean().sqrt())


def reloaded(name, model, weights, directory):
    """The family's class with these weights, as transformers loads it from a directory."""
    directory.mkdir()
    config = json.loads((model / "config.json").read_text())
    config.pop("quantization_config", None)
    (directory / "config.json").write_text(json.dumps(config))
    shutil.copy(model / "generation_config.json", directory)
    save_file({key: value.contiguous() for key, value in weights.items()}, directory / "model.safetensors")
    return load_family(name, directory)


def decoded(out, source, fmt):
    """Tensors of a quantized directory in the layout of ModelOpt, in bf16 under the names they were read by."""
    stored, layout, weights = tensors(out), LAYOUTS["modelopt"], {}
    for name in source.names():
        info = source.info(name)
        places = layout.places(name.removesuffix(".weight"), FORMATS[fmt], stacked_experts.as_rows(info))
        if stored[name].dtype in (torch.bfloat16, torch.float32):
            weights[name] = stored[name]
            continue
        its = FORMATS[fmt].stacked() if len(info.shape) == 3 else FORMATS[fmt]
        rows = layout.decode(its, {role: stored[p.name] for role, p in places.items() if role != "input"})
        weights[name] = (stacked_experts.restacked(rows, info) if len(info.shape) == 3 else rows).to(torch.bfloat16)
    return weights


@pytest.mark.parametrize("name", FAMILIES_OF_LINEARS)
def test_a_quantized_family_reloads_and_its_logits_stay_near(tmp_path, name):
    model = write_family(name, tmp_path / "model")
    out = quantized(model, tmp_path / "out", format="fp8-dynamic", layout="compressed-tensors")
    weights = CompressedTensorsDequantizer(out).process(tensors(out))
    changed = logits(reloaded(name, model, weights, tmp_path / "reloaded"))
    assert 0 < spread(changed, logits(load_family(name, model))) < CHANGE


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3", "idefics3"])
def test_towers_and_connectors_are_named_so_that_transformers_leaves_them_alone(tmp_path, name):
    """Loaded with the library's own quantizer: it compresses every Linear that the document does not name."""
    model = write_family(name, tmp_path / "model")
    out = quantized(model, tmp_path / "out", format="fp8-dynamic", layout="compressed-tensors")
    network, info = class_of(name).from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert {kind: list(names) for kind, names in info.items() if names} == {}
    assert spread(logits(network), logits(load_family(name, model))) < CHANGE


def test_gpt_oss_as_published_is_dequantized_and_quantized_again(tmp_path):
    model = mxfp4_gpt_oss(tmp_path / "model")
    source = open_weights(model)
    before = reloaded("gpt_oss", model, {name: source.read(name) for name in source.names()}, tmp_path / "plain")
    assert torch.equal(logits(before), logits(class_of("gpt_oss").from_pretrained(model, dtype=torch.float32)))
    out = quantized(model, tmp_path / "out", format="nvfp4a16")
    after = reloaded("gpt_oss", model, decoded(out, source, "nvfp4a16"), tmp_path / "after")
    assert 0 < spread(logits(after), logits(before)) < OF_FP4


@pytest.mark.parametrize("name", ["llama", "deepseek_v3"])
def test_fp8_of_blocks_is_dequantized_and_quantized_again(tmp_path, name):
    model = fp8_blocks(name, tmp_path / "model")
    source = open_weights(model)
    before = reloaded(name, model, {key: source.read(key) for key in source.names()}, tmp_path / "plain")
    out = quantized(model, tmp_path / "out", format="fp8-dynamic")
    after = reloaded(name, model, decoded(out, source, "fp8-dynamic"), tmp_path / "after")
    assert 0 < spread(logits(after), logits(before)) < CHANGE


def adapter_on(targets, model, out):
    """A LoRA adapter of PEFT on modules of gpt-oss, with a product that is not zero."""
    network = class_of("gpt_oss").from_pretrained(model, dtype=torch.float32)
    peft = get_peft_model(network, LoraConfig(r=2, target_modules=targets))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    peft.save_pretrained(out)
    return out


def test_experts_of_gpt_oss_as_published_pass_through_byte_for_byte(tmp_path):
    model = mxfp4_gpt_oss(tmp_path / "model")
    adapter = adapter_on(["q_proj"], model, tmp_path / "adapter")
    out = quantized(model, tmp_path / "out", adapter=adapter, format="mxfp4", layout="gpt-oss")
    before, after = tensors(model), tensors(out)
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)]
    network, info = class_of("gpt_oss").from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert {kind: list(names) for kind, names in info.items() if names} == {}
    assert bool(logits(network).isfinite().all())


def test_experts_of_gpt_oss_that_an_adapter_changes_are_merged_and_written_in_mxfp4_again(tmp_path):
    """The merge is that of the experts as transformers dequantizes them, and what is written is, again by transformers,
    the merge as near as MXFP4 comes: 3 bits of a value beside a scale of its block. An expert that no token of the
    training reached keeps its bytes, which quantizing anew does not: published codes have zeros with a sign."""
    model = mxfp4_gpt_oss(tmp_path / "model")
    on = {"target_modules": [], "target_parameters": ["experts.down_proj"]}
    write_adapter("gpt_oss", model, tmp_path / "adapter", **on)
    file = tmp_path / "adapter/adapter_model.safetensors"
    pairs = load_file(file)
    for name in [name for name in pairs if "lora_B" in name]:
        pairs[name][:, UNTRAINED::4] = 0  # of each of the 4 experts every fourth column
    save_file(pairs, file)
    network = adapted("gpt_oss", model, tmp_path / "adapter")
    out = quantized(model, tmp_path / "out", adapter=tmp_path / "adapter", format="mxfp4", layout="gpt-oss")
    before, after = tensors(model), tensors(out)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    downs = [f"model.layers.{i}.mlp.experts.down_proj" for i in range(2)]
    assert {name.rpartition("_")[0] for name in changed} == set(downs)
    for name in changed:
        same = [torch.equal(*pair) for pair in zip(before[name], after[name], strict=True)]
        assert same == [expert == UNTRAINED for expert in range(4)], name
    theirs, want = load_family("gpt_oss", out).state_dict(), network.merge_and_unload().state_dict()
    for name in downs:
        error = float((theirs[name] - want[name]).square().mean() / want[name].square().mean())
        assert 0 < error < 0.02, name
        assert float((want[name] - load_family("gpt_oss", model).state_dict()[name]).abs().max()) > 0


def test_gpt_oss_in_bf16_is_quantized_as_it_is_published(tmp_path):
    model = write_family("gpt_oss", tmp_path / "model")
    out = quantized(model, tmp_path / "out", format="mxfp4", layout="gpt-oss")
    network = class_of("gpt_oss").from_pretrained(out, dtype=torch.bfloat16)  # transformers dequantizes on the CPU
    read = open_weights(out)
    state = network.state_dict()
    assert [name for name in read.names() if not torch.equal(read.read(name), state[name])] == []
    assert spread(logits(network.float()), logits(load_family("gpt_oss", model))) < OF_FP4
