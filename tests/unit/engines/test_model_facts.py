"""What config.json and the files beside it say of a model, in every layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.engines.model_facts import MODELOPT, read_model
from slipway.errors import CheckpointError
from slipway.planning.kv_cache import LayerCache, UnknownCacheError
from slipway.planning.serving_memory import parameters
from slipway.quantization.modelopt_layout import ALGORITHMS
from tests.support.engine_models import NVFP4_GROUP, compressed, labelled_model, modelopt
from tests.support.pico import HEADS, HIDDEN, INTERMEDIATE, KV_HEADS, LAYERS


def test_the_labels_are_those_that_the_layout_writes() -> None:
    assert {name: label for label, name in MODELOPT.items()} == ALGORITHMS


def test_a_plain_model_by_its_config_and_shards(tmp_path: Path) -> None:
    model = labelled_model(tmp_path / "m")
    facts = read_model(model)
    assert (facts.format, facts.layout, facts.kv_scales, facts.experts) == ("bf16", "plain", False, 0)
    assert (facts.heads, facts.kv_heads, facts.layers) == (HEADS, KV_HEADS, LAYERS)
    assert (facts.hidden, facts.inner) == (HIDDEN, INTERMEDIATE)
    assert facts.caches == (LayerCache(LAYERS, KV_HEADS, 2 * HIDDEN // HEADS),)
    shards = [file.read_bytes() for file in model.glob("*.safetensors")]
    assert facts.weight_bytes == sum(len(data) - 8 - int.from_bytes(data[:8], "little") for data in shards)
    assert facts.chat_template


def test_a_model_type_whose_cache_nobody_knows_carries_the_reason(tmp_path: Path) -> None:
    assert isinstance(read_model(labelled_model(tmp_path / "m", None, model_type="new")).caches, UnknownCacheError)


_INPUTS = {"num_bits": 8, "type": "float", "dynamic": False}
_FP8 = {"type": "float", "num_bits": 8, "strategy": "tensor"}


@pytest.mark.parametrize(
    ("section", "formats", "layout"),
    [
        (modelopt("NVFP4"), ("nvfp4",), "modelopt"),
        (modelopt("W4A16_NVFP4"), ("nvfp4a16",), "modelopt"),
        ({**modelopt("NVFP4"), "quant_method": "modelopt_fp4"}, ("nvfp4",), "modelopt"),
        (
            modelopt("MIXED_PRECISION", quantized_layers={"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}}),
            ("fp8", "nvfp4"),
            "modelopt",
        ),
        (modelopt("W4A8_AWQ"), ("W4A8_AWQ",), "modelopt"),
        (compressed(NVFP4_GROUP), ("nvfp4a16",), "compressed-tensors"),
        (compressed(NVFP4_GROUP, NVFP4_GROUP), ("nvfp4",), "compressed-tensors"),
        (compressed({**NVFP4_GROUP, "group_size": 32}), ("mxfp4",), "compressed-tensors"),
        (compressed(_FP8, _INPUTS), ("fp8",), "compressed-tensors"),
        (compressed(_FP8, {**_INPUTS, "dynamic": True}), ("fp8-dynamic",), "compressed-tensors"),
        (compressed({"type": "int", "num_bits": 4, "strategy": "group"}), ("int4 per group",), "compressed-tensors"),
        ({"quant_method": "mxfp4"}, ("mxfp4",), "gpt-oss"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8-block",), "fp8"),
        ({"quant_method": "gptq", "bits": 4}, ("gptq",), "gptq"),
        ("gptq", ("gptq",), "gptq"),
        ({"quant_method": "compressed-tensors", "config_groups": []}, ("unnamed",), "compressed-tensors"),
        ({"quant_method": "modelopt", "quantized_layers": [1]}, ("None",), "modelopt"),
    ],
)
def test_a_format_by_its_quantization_section(
    tmp_path: Path, section: Any, formats: tuple[str, ...], layout: str
) -> None:
    facts = read_model(labelled_model(tmp_path / "m", section))
    assert (facts.formats, facts.layout) == (formats, layout)


def test_modelopt_s_own_file_stands_in_for_the_section(tmp_path: Path) -> None:
    model = labelled_model(tmp_path / "m")
    document = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (model / "hf_quant_config.json").write_text(json.dumps(document))
    facts = read_model(model)
    assert (facts.format, facts.layout, facts.kv_scales) == ("fp8", "modelopt", True)


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 16384),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 40960,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_positions_count_rope_s_scaling(tmp_path: Path, config: dict[str, Any], longest: int | None) -> None:
    assert read_model(labelled_model(tmp_path / "m", None, **config)).longest == longest


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": 0},
        {"num_attention_heads": True},
        {"hidden_size": "64"},
        {"num_hidden_layers": None},
        {"vocab_size": -1},
    ],
)
def test_sizes_that_are_none_are_one_error(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        read_model(labelled_model(tmp_path / "m", None, **config))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": 5},
        {"architectures": []},
        {"text_config": [1]},
        {"rope_scaling": {"factor": float("inf")}},
        {"rope_scaling": "yarn"},
    ],
)
def test_what_a_plan_does_not_need_may_be_anything(tmp_path: Path, config: dict[str, Any]) -> None:
    facts = read_model(labelled_model(tmp_path / "m", None, **config))
    assert facts.longest is None or facts.longest > 0


@pytest.mark.parametrize("text", ["", "[]", "{", '{"num_attention_heads": 4}'])
def test_a_config_that_is_none_is_one_error(tmp_path: Path, text: str) -> None:
    model = labelled_model(tmp_path / "m")
    (model / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_model(model)


def test_a_merge_that_is_written_when_it_is_built_has_its_base_s_weights_in_bf16(tmp_path: Path) -> None:
    base = labelled_model(tmp_path / "checkpoint" / "base")
    merge = tmp_path / "checkpoint" / "merge"
    merge.mkdir()
    (merge / "config.json").write_bytes((base / "config.json").read_bytes())
    reference = {"uri": str(base), "kind": "checkpoint", "digest": "0"}
    (merge / "virtual.json").write_text(json.dumps({"base": reference, "adapter": reference}))
    assert read_model(merge).weight_bytes == 2 * parameters(base)


def test_a_model_without_shards_is_refused(tmp_path: Path) -> None:
    model = labelled_model(tmp_path / "m")
    for shard in model.glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        read_model(model)
