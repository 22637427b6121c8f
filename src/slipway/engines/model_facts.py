"""What a driver must know of a model directory, from `config.json`, the files beside it and the shards' sizes.

Formats have the names of `conf/formats/`; in a mixture there are several. Formats of other makers have the name that
their `quant_method` or `quant_algo` gives, so that a driver can refuse them by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import CheckpointError
from slipway.planning.kv_cache import LayerCache, UnknownCacheError, cache_of, size_of
from slipway.planning.serving_memory import BF16_BYTES, inner_size, parameters, stored_bytes
from slipway.store.references import resolve

# `quant_algo` of ModelOpt's export -> format; `quantization/modelopt_layout.py` writes them
MODELOPT = {"NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4a16", "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8-dynamic"}
_PLAIN = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_LARGEST_FACTOR = 1e4  # of RoPE's scaling; more is no model's
_NEXT = "check the model directory"


@dataclass(frozen=True)
class ModelFacts:
    """A model as an engine sees it. `weight_bytes`: of all shards, of a virtual checkpoint as they will be written;
    `longest`: positions that it was made for."""

    architecture: str
    formats: tuple[str, ...]
    layout: str  # plain, modelopt, compressed-tensors, gpt-oss, or another maker's quant_method
    weight_bytes: int
    heads: int
    kv_heads: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    caches: tuple[LayerCache, ...] | UnknownCacheError  # what the layers keep of a request, or why nobody knows
    longest: int | None
    experts: int
    kv_scales: bool
    chat_template: bool

    @property
    def format(self) -> str:
        """One word for the formats: `nvfp4`, or `fp8+nvfp4` in a mixture."""
        return "+".join(self.formats)


def read_model(directory: Path) -> ModelFacts:
    """Raises CheckpointError for a directory without config.json or shards, a config that is none, and a damaged
    shard."""
    config = _document(directory / "config.json")
    text = {**config, **_mapping(config.get("text_config"))}
    quantization = _quantization(directory, config, text)
    layout = _layout(quantization)
    heads, hidden = size_of(text, "num_attention_heads", "n_head"), size_of(text, "hidden_size", "n_embd")
    return ModelFacts(
        architecture=_architecture(config),
        formats=_formats(quantization, layout, text),
        layout=layout,
        weight_bytes=_weight_bytes(directory),
        heads=heads,
        kv_heads=size_of(text, "num_key_value_heads", default=heads),
        layers=size_of(text, "num_hidden_layers", "n_layer"),
        hidden=hidden,
        inner=inner_size(text),
        vocabulary=size_of(text, "vocab_size"),
        caches=_caches(text),
        longest=_longest(text),
        experts=size_of(text, "num_experts", "num_local_experts", "n_routed_experts", default=0),
        kv_scales=bool(quantization.get("kv_cache_scheme") or quantization.get("kv_cache_quant_algo")),
        chat_template=_has_template(directory),
    )


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0])[:100] if isinstance(names, list) and names else "unnamed"


def _quantization(directory: Path, config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """The quantization section of config.json, with what `hf_quant_config.json` of ModelOpt adds."""
    stated = config.get("quantization_config") or text.get("quantization_config")
    section = _mapping(stated) if isinstance(stated, Mapping) or not stated else {"quant_method": str(stated)}
    file = directory / "hf_quant_config.json"
    if not file.is_file():
        return section
    return {"quant_method": "modelopt", **_mapping(_document(file).get("quantization")), **section}


def _layout(quantization: Mapping[str, Any]) -> str:
    method = str(quantization.get("quant_method", "plain"))[:80]
    return {"mxfp4": "gpt-oss", "modelopt_fp4": "modelopt"}.get(method, method)


def _formats(quantization: Mapping[str, Any], layout: str, text: Mapping[str, Any]) -> tuple[str, ...]:
    if layout == "plain":
        dtype = str(text.get("dtype") or text.get("torch_dtype") or "bfloat16")
        return (_PLAIN.get(dtype, dtype[:80]),)
    if layout == "gpt-oss":
        return ("mxfp4",)
    if layout == "modelopt":
        layers = _mapping(quantization.get("quantized_layers")).values()
        names = {str(_mapping(layer).get("quant_algo")) for layer in layers} or {str(quantization.get("quant_algo"))}
        return tuple(sorted(MODELOPT.get(name, name[:80]) for name in names))
    if layout == "compressed-tensors":
        groups = _mapping(quantization.get("config_groups")).values()
        return tuple(sorted({_of_group(_mapping(group)) for group in groups})) or ("unnamed",)
    return (f"{layout}-block" if quantization.get("weight_block_size") else layout,)


def _of_group(group: Mapping[str, Any]) -> str:
    """The format of a group of compressed-tensors."""
    weights, inputs = _mapping(group.get("weights")), _mapping(group.get("input_activations"))
    numbers = (weights.get("type"), weights.get("num_bits"), weights.get("group_size"), weights.get("strategy"))
    if numbers[:3] == ("float", 4, 16):
        return "nvfp4" if inputs else "nvfp4a16"
    if numbers[:3] == ("float", 4, 32):
        return "mxfp4" if not inputs else "mxfp4 with quantized activations"
    if numbers[:2] == ("float", 8) and inputs and numbers[3] in ("tensor", "channel"):
        return "fp8-dynamic" if inputs.get("dynamic") else "fp8"
    return f"{numbers[0]}{numbers[1]} per {numbers[3]}"[:80]


def _caches(text: Mapping[str, Any]) -> tuple[LayerCache, ...] | UnknownCacheError:
    try:
        return cache_of(text)
    except UnknownCacheError as err:
        return err


def _longest(text: Mapping[str, Any]) -> int | None:
    """Positions with RoPE's scaling counted: Llama and Mistral state the length before or after it."""
    stated = text.get("max_position_embeddings")
    if not isinstance(stated, int):
        return None
    scaling = _mapping(text.get("rope_scaling") or text.get("rope_parameters"))
    factor, kind = scaling.get("factor"), scaling.get("rope_type", scaling.get("type"))
    original = scaling.get("original_max_position_embeddings")
    if isinstance(factor, int | float) and 1 < factor < _LARGEST_FACTOR and kind not in ("llama3", "longrope"):
        return max(stated, int((original if isinstance(original, int) else stated) * factor))
    return stated


def _weight_bytes(directory: Path) -> int:
    virtual = directory / "virtual.json"
    if virtual.is_file():  # a merge that is written out in bf16 when it is built
        reference = _mapping(_document(virtual).get("base"))
        return int(BF16_BYTES * parameters(resolve({"kind": "checkpoint", **reference}, directory)))
    return int(stored_bytes(directory))


def _has_template(directory: Path) -> bool:
    if (directory / "chat_template.jinja").is_file() or (directory / "chat_template.json").is_file():
        return True
    file = directory / "tokenizer_config.json"
    return file.is_file() and bool(_document(file).get("chat_template"))


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise CheckpointError(f"{file}", type(err).__name__, "a JSON file of a model directory", _NEXT) from err
    if not isinstance(document, dict):
        raise CheckpointError(f"{file}", f"a {type(document).__name__}", "a JSON object", _NEXT)
    return document


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
