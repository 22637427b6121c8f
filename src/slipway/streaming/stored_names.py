"""Names and shapes of the model that a quantized directory came from, read in the directory alone.

An engine is built of a quantized checkpoint; the unquantized one may be on another machine or gone. A weight's name and
shape follow from where its layout puts codes and scales: what layout and format would lie exactly so is asked of the
layouts themselves, so that this module knows no name of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import torch

from slipway.errors import CheckpointError, ConfigError
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import GPT_OSS, LAYOUTS
from slipway.quantization.stacked_experts import logical
from slipway.weights.shards import Shards, TensorInfo, natural

_ENDS = (".weight_packed", ".weight", "_blocks", "")  # of a weight's codes; the last two of stacked experts


class StoredNames:
    """A TensorSource over a quantized directory under the names and shapes of the unquantized model. Values of
    tensors that are quantized are `DequantizedWeights`' business: they cannot be read here."""

    def __init__(self, directory: Path) -> None:
        """Raises CheckpointError for a damaged directory."""
        self._shards = Shards.open(directory)
        stored = {name: self._shards.info(name) for name in self._shards.names()}
        self._infos, parts = dict[str, TensorInfo](), set[str]()
        for name, info in stored.items():
            weight = next(_weights(name, info, stored), None) if info.dtype.itemsize == 1 else None
            if weight:
                self._infos[weight[0]] = weight[1]
                parts |= weight[2]
        self.quantized = frozenset(self._infos)
        self._infos |= {name: info for name, info in stored.items() if name not in parts}

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""
        return self._shards.metadata

    def names(self) -> list[str]:
        """Names of the unquantized model's tensors, numbers in their natural order."""
        return sorted(self._infos, key=natural)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def info(self, name: str) -> TensorInfo:
        """dtype and shape as the unquantized model has them. Raises CheckpointError when the tensor is absent."""
        if name not in self._infos:
            return self._shards.info(name)
        return self._infos[name]

    def read(self, name: str) -> torch.Tensor:
        """A tensor that is stored as it is. Raises CheckpointError for a quantized or absent one."""
        if name in self.quantized:
            raise CheckpointError(f"tensor {name}", "quantized", "a tensor stored as it is", "dequantize it")
        return self._shards.read(name)


def _weights(
    name: str, info: TensorInfo, stored: Mapping[str, TensorInfo]
) -> Iterator[tuple[str, TensorInfo, set[str]]]:
    """(name, info, names of codes and scales) of the weights whose codes may be the stored tensor `name`."""
    pairs = [(layout, fmt) for layout in LAYOUTS.values() for fmt in FORMATS.values()]
    for end, shape in product((end for end in _ENDS if name.endswith(end)), _shapes(info)):
        module = name.removesuffix(end)
        for layout, fmt in (*pairs, (GPT_OSS, FORMATS["mxfp4"])):
            try:
                places = layout.places(module, fmt, TensorInfo(torch.bfloat16, shape))
            except ConfigError:  # this layout has no place for such a weight
                continue
            needed = [place for role, place in places.items() if role != "input"]
            if places["weight"].name == name and all(stored.get(place.name) == place.info for place in needed):
                original = TensorInfo(torch.bfloat16, shape)
                weight = (module, logical(original)) if len(shape) == 3 else (f"{module}.weight", original)
                yield *weight, {place.name for place in places.values()}


def _shapes(info: TensorInfo) -> Iterator[tuple[int, ...]]:
    """[..., O, I] of weights whose codes have this dtype and shape: two codes a byte, or one; stacked experts lie as
    [E, I, O], those of gpt_oss in blocks [E, O, I/32, 16]."""
    codes = 2 if info.dtype == torch.uint8 else 1
    match info.shape:
        case (rows, columns):
            yield rows, codes * columns
        case (experts, columns, rows):
            yield experts, rows, codes * columns
        case (experts, rows, blocks, width):
            yield experts, rows, codes * blocks * width
