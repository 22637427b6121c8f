"""Weights for a walk of layers, on the device and in the dtype that computes: of the merge, and of what quantize wrote.

    merge       stored bytes, LoRA products added, rounded once to bf16          what the quantizer rounded
    quantized   codes and scales -> the fp32 values that a runtime computes with, under the names of the merge

Which format a tensor is in is read from the tensors themselves: the one whose places (names, dtypes, shapes) are all
there. A tensor in no known form is refused by name. Activations stay as they are: what static or dynamic input scales
of W4A4 and FP8 cost beside is not in these figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch

from slipway.errors import CheckpointError, ConfigError
from slipway.quantization import stacked_experts
from slipway.quantization.compiled import Kernels
from slipway.quantization.formats import FORMATS, Format, Role
from slipway.quantization.fusion import module
from slipway.quantization.layouts import GPT_OSS, LAYOUTS, Layout, Place
from slipway.streaming.loader import Loader
from slipway.weights.shards import Shards, TensorInfo, TensorSource, WeightSource


class WalkWeights(Protocol):
    """Named weights, as one thread loads them."""

    def load(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The tensors of these names on the device. What is stored under no name of its own (a tied head) is left
        out."""


class MergedWeights:
    """The unquantized model: plain, or base and adapter merged on the device."""

    def __init__(self, source: WeightSource, fp32: frozenset[str], device: torch.device, dtype: torch.dtype) -> None:
        """`source` is read on one thread; floats come in bf16, then in `dtype`, but for those that the model's class
        keeps in `fp32`."""
        self._source, self._fp32, self._device, self._dtype = source, fp32, device, dtype
        self._loader = Loader(source, device, Kernels(device, "off", 0))

    def load(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The merged tensors. Raises CheckpointError naming one that is not finite."""
        return {name: self._load(name) for name in names}

    def _load(self, name: str) -> torch.Tensor:
        info = self._source.info(name)
        if name in self._fp32 or not info.dtype.is_floating_point:
            rows = TensorInfo(torch.uint8, info.shape[:-1]).numel
            return self._loader.band(name, 0, rows, as_stored=True).reshape(info.shape).to(self._device)
        return self._loader.load(name).weight.to(self._dtype)


class DequantizedWeights:
    """A quantized model directory, read under the names of the model that was quantized."""

    def __init__(self, directory: Path, source: TensorSource, device: torch.device, dtype: torch.dtype) -> None:
        """`source`: the model that was quantized, for names and shapes. Raises CheckpointError for a tensor in no known
        form."""
        self._stored, self._source, self._device, self._dtype = Shards.open(directory), source, device, dtype
        stored = {name: self._stored.info(name) for name in self._stored.names()}
        self._forms = {name: form_of(name, source.info(name), stored) for name in source.names()}

    @property
    def quantized(self) -> int:
        """Tensors that are stored in a quantized format."""
        return sum(form is not None for form in self._forms.values())

    def load(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The values that a runtime computes with, rounded to the walk's dtype; what is stored in fp32 stays so."""
        return {name: self._load(name) for name in names if self._forms[name] or name in self._stored}

    @torch.no_grad()
    def _load(self, name: str) -> torch.Tensor:
        form = self._forms[name]
        if form is None:
            value = self._stored.read(name).to(self._device)
            return value.to(self._dtype) if value.dtype == torch.bfloat16 else value
        layout, fmt, places = form
        stored: dict[Role, torch.Tensor] = {
            role: self._stored.read(place.name).to(self._device) for role, place in places.items()
        }
        value = layout.decode(fmt, stored).to(self._dtype)
        info = self._source.info(name)
        return stacked_experts.restacked(value, info) if len(info.shape) == 3 else value.reshape(info.shape)


Form = tuple[Layout, Format, Mapping[Role, Place]]


def form_of(name: str, info: TensorInfo, stored: Mapping[str, TensorInfo]) -> Form | None:
    """How the tensor `name`, `info` in the unquantized model, is stored; None: as it is, or (a tied head) not at all.

    Raises CheckpointError when it is stored in another form than the layouts know.
    """
    own = stored.get(name)
    if own is not None and own.shape == info.shape and (own.dtype.itemsize > 1 or own.dtype == info.dtype):
        return None
    pairs = [(layout, fmt) for layout in LAYOUTS.values() for fmt in FORMATS.values()]
    for layout, fmt in (*pairs, (GPT_OSS, FORMATS["mxfp4"])):
        places = _places(name, info, layout, fmt)
        if places and all(stored.get(place.name) == place.info for place in places.values()):
            return layout, fmt, places
    if own is None and not any(other.startswith(f"{module(name)}.") for other in stored):
        return None
    raise CheckpointError(
        f"tensor {name}",
        f"stored as {own.dtype} {list(own.shape)}" if own else "stored under other names",
        f"one of {', '.join(FORMATS)}, as quantize writes them",
        "set evaluate.reference=served",
    )


def _places(name: str, info: TensorInfo, layout: Layout, fmt: Format) -> dict[Role, Place]:
    """Where a tensor of this format would lie, input scales left out; empty where the format cannot hold it."""
    rows = stacked_experts.as_rows(info)
    if len(rows.shape) not in (2, 3) or rows.shape[-1] % fmt.block:
        return {}
    try:
        places = layout.places(module(name), fmt, rows)
    except ConfigError:  # this layout has no place for stacked experts, or for nothing else
        return {}
    return {role: place for role, place in places.items() if role != "input"}
