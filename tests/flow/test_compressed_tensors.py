"""What we write in the layout of compressed-tensors loads in compressed-tensors, and means there what it means here."""

import json

import pytest
import torch
from compressed_tensors.entrypoints.convert import CompressedTensorsDequantizer, ModelOptNvfp4Converter
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
from transformers import AutoModelForCausalLM

from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.weights.shards import TensorInfo
from tests.oracles.input_amax import input_amaxes
from tests.oracles.modelopt_oracle import Job, export, identical, tensors
from tests.support.pico import pico_model
from tests.support.pico_families import family
from tests.support.write_whole import write_whole

LAYOUT = LAYOUTS["compressed-tensors"]
TOKENS = tuple(tuple((7 * row + 5 * i * i) % 96 for i in range(24)) for row in range(3))
PRESETS = {"nvfp4": "NVFP4", "nvfp4a16": "NVFP4A16", "mxfp4": "MXFP4A16", "fp8": "FP8", "fp8-dynamic": "FP8_DYNAMIC"}
MIXED = {
    "self_attn.o_proj": "fp8",
    "mlp.down_proj": "mxfp4",
    "layers.0.*.q_proj": "fp8-dynamic",
    "layers.0.*.k_proj": "fp8-dynamic",
}
MIXED |= {"layers.0.*.v_proj": "fp8-dynamic"}
CASES = [
    (name, fmt)
    for name in ("pico", "qwen2", "mixtral", "qwen3_moe")
    for fmt in PRESETS
    if fmt != "mxfp4" or name == "pico"
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    models = {name: family(name, root / name) for name in ("qwen2", "mixtral", "qwen3_moe")}
    return {**models, "pico": pico_model(root / "pico", seed=5)}


@pytest.fixture(scope="module")
def written(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("ours")

    def write(name, fmt, **rules):
        inputs, kv = input_amaxes(models[name], TOKENS)
        out = root / f"{name}-{fmt}-{len(rules)}"
        static = fmt in ("nvfp4", "fp8")
        return (
            out
            if out.exists()
            else write_whole(
                models[name], out, fmt, layout="compressed-tensors", amaxes=inputs, kv=kv if static else {}, **rules
            )
        )

    return write


def config_of(out):
    return json.loads((out / "config.json").read_text())["quantization_config"]


def args(numbers):
    """What a preset says, without how its own observers look at data."""
    return numbers and numbers.model_dump(exclude={"observer", "observer_kwargs"})


def decoded(out, model):
    """Our own reading of the file: bf16 weights by name."""
    stored, config = tensors(out), QuantizationConfig.model_validate(config_of(out))
    names = {preset: name for name, preset in PRESETS.items()}
    weights = {}
    for name, original in tensors(model).items():
        if name in stored and stored[name].dtype == torch.bfloat16:
            weights[name] = stored[name]
            continue
        module = name.removesuffix(".weight")
        groups = list(config.config_groups.values())
        scheme = next((group for group in groups if module in group.targets), groups[0])
        preset = next(
            p
            for p in names
            if args(preset_name_to_scheme(p, []).weights) == args(scheme.weights)
            and args(preset_name_to_scheme(p, []).input_activations) == args(scheme.input_activations)
        )
        fmt = FORMATS[names[preset]]
        places = LAYOUT.places(module, fmt, TensorInfo(original.dtype, tuple(original.shape)))
        weights[name] = LAYOUT.decode(fmt, {role: stored[place.name] for role, place in places.items()}).to(
            torch.bfloat16
        )
    return weights


@pytest.mark.parametrize("fmt", PRESETS)
def test_the_document_says_what_the_preset_of_that_name_says(models, written, fmt):
    config = QuantizationConfig.model_validate(config_of(written("pico", fmt)))
    preset = preset_name_to_scheme(PRESETS[fmt], ["Linear"])
    (group,) = config.config_groups.values()
    assert group.targets == ["Linear"] and config.ignore == ["lm_head", "model.embed_tokens"]
    assert args(group.weights) == args(preset.weights) and args(group.input_activations) == args(
        preset.input_activations
    )
    assert group.format == config.format and config.quantization_status.value == "compressed"


@pytest.mark.parametrize("name, fmt", CASES)
def test_its_decompressed_weights_are_ours(models, written, name, fmt):
    out = written(name, fmt)
    assert same_weights(CompressedTensorsDequantizer(out).process(tensors(out)), decoded(out, models[name]))


def test_its_decompressed_weights_are_ours_in_a_mixture(models, written):
    out = written("pico", "nvfp4", others=MIXED)
    groups = config_of(out)["config_groups"].values()
    assert config_of(out)["format"] == "mixed-precision" and len(groups) == 4
    assert same_weights(CompressedTensorsDequantizer(out).process(tensors(out)), decoded(out, models["pico"]))


def test_experts_of_another_format_are_a_pattern(models, written):
    out = written("qwen3_moe", "nvfp4", others={"mlp.experts*": "fp8"})
    groups = config_of(out)["config_groups"].values()
    (fp8,) = (group["targets"] for group in groups if group["format"] == "float-quantized")
    assert fp8 == [rf"re:model\.layers\.{layer}\.mlp\.experts[.]" for layer in range(3)]
    dequantized = CompressedTensorsDequantizer(out).process(tensors(out))
    plain = decoded(written("qwen3_moe", "fp8"), models["qwen3_moe"])
    expert = "model.layers.1.mlp.experts.3.up_proj.weight"
    assert identical(dequantized[expert], plain[expert])


def same_weights(theirs, ours):
    assert ours.keys() <= theirs.keys()
    return [name for name, weight in ours.items() if not identical(theirs[name], weight)] == []


@pytest.mark.parametrize("fmt", PRESETS)
def test_transformers_loads_it_and_runs(models, written, fmt):
    """Through the library's own quantizer: every tensor has a place, weights are ours, keys and values have scales."""
    out = written("pico", fmt)
    dtype = (
        torch.float32 if fmt.startswith("fp8") else torch.bfloat16
    )  # a model in bf16 rounds FP8's scales when it is loaded
    network, info = AutoModelForCausalLM.from_pretrained(out, dtype=dtype, output_loading_info=True)
    assert {kind: list(names) for kind, names in info.items() if names} == {}
    with torch.inference_mode():
        logits = network(torch.tensor([TOKENS[0]])).logits
    assert bool(logits.isfinite().all())
    state = network.state_dict()
    assert [
        n for n, weight in decoded(out, models["pico"]).items() if not torch.equal(state[n].to(torch.bfloat16), weight)
    ] == []
    assert ("model.layers.0.self_attn.k_scale" in state) == (fmt in ("nvfp4", "fp8"))


@pytest.mark.parametrize("name", ["qwen2", "mixtral"])
def test_equal_to_its_own_conversion_of_what_modelopt_writes(tmp_path, models, written, name):
    export(Job("nvfp4", models[name], tmp_path / "theirs", TOKENS))
    theirs = ModelOptNvfp4Converter(
        ignore=["re:.*lm_head", "re:.*embed_tokens", "re:.*gate$"], targets=["re:.*proj$", "re:.*w[123]$"]
    )
    converted, ours = theirs.process(tensors(tmp_path / "theirs")), tensors(written(name, "nvfp4"))
    kv = {n for n in ours if n.endswith(("k_scale", "v_scale"))}
    assert converted.keys() == ours.keys() - kv
    assert [n for n, value in converted.items() if not identical(value.reshape(ours[n].shape), ours[n])] == []
