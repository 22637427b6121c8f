"""A model quantized as a whole: every tensor in memory, no shards, bands or plans. What streaming writes must equal
this."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import save_file

from slipway.quantization import fusion, stacked_experts
from slipway.quantization.formats import FORMATS, Format
from slipway.quantization.layouts import LAYOUTS, Scheme
from slipway.weights.shards import TensorInfo
from tests.oracles.modelopt_oracle import tensors

KEPT = ("lm_head", "*embed*", "*router*", "*.mlp.gate", "*block_sparse_moe.gate", "*shared_expert_gate")


def write_whole(
    model: Path,
    out: Path,
    fmt: str,
    *,
    layout: str = "modelopt",
    amaxes: Mapping[str, torch.Tensor] | None = None,
    kv: Mapping[tuple[str, str], torch.Tensor] | None = None,
    exclude: tuple[str, ...] = (),
    others: Mapping[str, str] | None = None,
) -> Path:
    """Quantize the model directory. `amaxes`: weight name -> the largest magnitude of its input; `kv`: (attention, k or
    v) -> of it."""
    source, place = tensors(model), LAYOUTS[layout]
    tied = json.loads((model / "config.json").read_text()).get("tie_word_embeddings", False)
    if tied:
        source.pop("lm_head.weight", None)
    chosen = {
        name: _format(fusion.module(name), fmt, exclude, others or {})
        for name in source
        if _is_weight(name, source[name])
    }
    formats = {name: fmt for name, fmt in chosen.items() if fmt}
    kept = [fusion.module(name) for name, fmt in chosen.items() if fmt is None] + (["lm_head"] if tied else [])
    scheme = Scheme({fusion.module(name): fmt for name, fmt in formats.items()}, kept, bool(kv), "0")
    place.require(scheme)
    written = {name: tensor for name, tensor in source.items() if name not in formats}
    for number_format in set(formats.values()):
        written |= _weights(
            {name: source[name] for name, its in formats.items() if its == number_format}, number_format, layout
        )
    for group in fusion.input_groups(formats):
        written |= _inputs(group, source, formats[group[0]], layout, amaxes or {})
    written |= dict(place.kv_scale(*key, amax) for key, amax in (kv or {}).items())
    return _save(model, out, written, place.documents(scheme))


def shape(weight: torch.Tensor) -> TensorInfo:
    """[O, I], or [E, O, I] of experts that lie as [E, I, O]."""
    info = TensorInfo(weight.dtype, tuple(weight.shape))
    return stacked_experts.logical(info) if weight.dim() == 3 else info


def _is_weight(name: str, tensor: torch.Tensor) -> bool:
    return (tensor.dim() == 2 and name.endswith(".weight")) or (tensor.dim() == 3 and "experts" in name)


def _format(module: str, default: str, exclude: tuple[str, ...], others: Mapping[str, str]) -> Format | None:
    if any(fnmatchcase(module, pattern) for pattern in KEPT) or any(
        fnmatchcase(module, f"*{pattern}") for pattern in exclude
    ):
        return None
    return FORMATS[next((name for pattern, name in others.items() if fnmatchcase(module, f"*{pattern}")), default)]


def _weights(weights: Mapping[str, torch.Tensor], fmt: Format, layout: str) -> dict[str, torch.Tensor]:
    written = {}
    for group in fusion.groups(weights, fmt.sharing):
        scale = fmt.scale(torch.stack([weights[name].abs().amax() for name in group]).amax())
        for name in group:
            weight, info = weights[name], shape(weights[name])
            its, rows = (fmt.stacked(), stacked_experts.rows(weight)) if weight.dim() == 3 else (fmt, weight)
            values = its.encode(rows, scale)
            shaped = {role: values[role].reshape(planned.shape) for role, planned in its.outputs(info).items()}
            places = LAYOUTS[layout].places(fusion.module(name), its, info)
            for role, value in {**shaped, **({"scalar": scale} if its.scalar else {})}.items():
                stored = LAYOUTS[layout].store(its, role, value)
                assert TensorInfo(stored.dtype, tuple(stored.shape)) == places[role].info
                written[places[role].name] = stored
    return written


def _inputs(
    group: list[str], source: Mapping[str, torch.Tensor], fmt: Format, layout: str, amaxes: Mapping[str, torch.Tensor]
):
    known = [amaxes[name] for name in group if name in amaxes]
    if fmt.activations != "static" or not known:
        return {}
    value = fmt.input_scale(torch.stack(known).amax())
    places = (LAYOUTS[layout].places(fusion.module(name), fmt, shape(source[name])) for name in group)
    return {place["input"].name: LAYOUTS[layout].store(fmt, "input", value) for place in places}


def _save(model: Path, out: Path, written: Mapping[str, torch.Tensor], documents: tuple[dict, dict | None]) -> Path:
    out.mkdir(parents=True)
    save_file({name: tensor.clone() for name, tensor in written.items()}, out / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "quantization_config": documents[0]}))
    if documents[1]:
        (out / "hf_quant_config.json").write_text(json.dumps(documents[1]))
    return out
