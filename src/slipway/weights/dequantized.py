"""A checkpoint stored in MXFP4 or FP8, read as bf16: a run of bytes at a time, so that no weight is held whole.

    MXFP4   W[e, i, o] = 2^(s[e, o, i // 32] - 127) * q[e, o, i],   exact in bf16; two codes a byte, low nibble even
    FP8     W[o, i]    = bf16(float(q[o, i]) * s[o // rows, i // columns])

That is what transformers computes when it loads such a checkpoint in bf16 (`convert_moe_packed_tensors`, dequantizing
of `finegrained_fp8`), and so what an adapter was trained on. Stacked experts are stored transposed: any run of rows of
an expert needs all of its codes, so each thread keeps the expert it read last.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from slipway.weights.e2m1 import E2M1
from slipway.weights.model_config import read_config
from slipway.weights.shards import MergeRecipe, Shards, TensorInfo, TensorSource, WeightSource, natural, require_finite
from slipway.weights.stored_formats import Packed, left_out, packed_weights

_BIAS = 127  # of an E8M0 exponent


def open_weights(directory: Path) -> Shards | DequantizedSource:
    """The weights of a model directory in floating point, whatever they are stored in. Raises CheckpointError for what
    is damaged, or quantized in a way that cannot be read."""
    shards = Shards.open(directory)
    config = read_config(directory) if (directory / "config.json").exists() else {}
    infos = {name: shards.info(name) for name in shards.names()}
    packed = packed_weights(infos, config)
    return DequantizedSource(shards, packed) if packed else shards


class DequantizedSource:
    """A WeightSource over a quantized checkpoint, in bf16 under the names of the unquantized one."""

    def __init__(self, shards: Shards, packed: Mapping[str, Packed]) -> None:
        infos = {name: shards.info(name) for name in shards.names()}
        self._shards, self.packed = shards, dict(packed)
        self._plain = infos.keys() - left_out(infos, packed) - packed.keys()
        self._last = threading.local()

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""
        return self._shards.metadata

    def fingerprint(self) -> str:
        """As `Shards.fingerprint`: tells a changed checkpoint without reading it."""
        return self._shards.fingerprint()

    def names(self) -> list[str]:
        """Names of the weights, those of codes and scales left out, numbers in their natural order."""
        return sorted({*self._plain, *self.packed}, key=natural)

    def __contains__(self, name: str) -> bool:
        return name in self.packed or name in self._plain

    @property
    def shards(self) -> Shards:
        """The tensors as they are stored."""
        return self._shards

    def info(self, name: str) -> TensorInfo:
        """dtype and shape as read. Raises CheckpointError when the tensor is absent."""
        return self.packed[name].info if name in self.packed else self._shards.info(name)

    def read(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU. Raises CheckpointError when it is absent or not finite."""
        if name not in self.packed:
            return self._shards.read(name)
        info = self.info(name)
        tensor = torch.empty(info.shape, dtype=info.dtype)
        self.fetch(name, tensor, 0)
        require_finite(f"tensor {name}", tensor)
        return tensor

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be: its bytes as read."""
        return MergeRecipe(self if name in self.packed else self._shards, name, ())

    def as_stored(self, name: str) -> TensorInfo | None:
        """dtype and shape on disk of a tensor that is read as it lies there, else None."""
        return None if name in self.packed else self._shards.info(name)

    def fetch(self, name: str, out: torch.Tensor, start: int) -> None:
        """Fill `out` (contiguous, on the CPU) with the bytes from byte `start` of the dequantized tensor; whole rows of
        it. Thread-safe."""
        entry = self.packed[name]
        columns = entry.info.shape[-1]
        rows = out.reshape(-1).view(torch.bfloat16).view(-1, columns)
        first = start // (columns * entry.info.dtype.itemsize)
        if entry.kind == "fp8":
            rows.copy_(self._fp8_rows(entry, first, len(rows)))
            return
        inputs, done = entry.info.shape[1], 0
        while done < len(rows):
            expert, at = divmod(first + done, inputs)
            count = min(inputs - at, len(rows) - done)
            rows[done : done + count] = self._expert(entry, expert)[at : at + count]
            done += count

    def _fp8_rows(self, entry: Packed, first: int, count: int) -> torch.Tensor:
        """fp32 [count, I]."""
        info, (high, wide) = self._shards.info(entry.codes), entry.block
        codes = torch.empty((count, info.shape[1]), dtype=info.dtype)
        self._shards.fetch(entry.codes, codes, first * info.shape[1])
        scales = self._shards.read(entry.scales).float().reshape(-(-info.shape[0] // high), -1)
        rows = torch.arange(first, first + count) // high
        return codes.float() * scales[rows].repeat_interleave(wide, 1)[:, : info.shape[1]]

    def _expert(self, entry: Packed, expert: int) -> torch.Tensor:
        """bf16 [I, O] of one expert."""
        if getattr(self._last, "key", None) != (entry.codes, expert):
            self._last.value, self._last.key = mxfp4_expert(*self._codes(entry, expert)), (entry.codes, expert)
        value: torch.Tensor = self._last.value
        return value

    def _codes(self, entry: Packed, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 codes [O, I/32, 16] and exponents [O, I/32] of one expert."""
        parts = [
            torch.empty(self._shards.info(name).shape[1:], dtype=torch.uint8) for name in (entry.codes, entry.scales)
        ]
        for name, part in zip((entry.codes, entry.scales), parts, strict=True):
            self._shards.fetch(name, part, expert * part.numel())
        return parts[0], parts[1]


@runtime_checkable
class MergedExperts(Protocol):
    """A source that knows of stacked experts which of them are as the base has them."""

    def unchanged_experts(self, name: str) -> tuple[MergeRecipe, list[int]] | None:
        """The base's recipe and those experts; None for a tensor that is not merged into by experts."""


class PackedExperts:
    """A WeightSource in which experts that nothing is merged into stay as they are stored, codes and scales apart.

    `unchanged`: of weights that some of their experts are merged into, the others by their numbers.
    """

    def __init__(
        self,
        source: WeightSource,
        packed: Mapping[str, Packed],
        shards: Shards,
        unchanged: Mapping[str, tuple[Packed, Sequence[int]]] | None = None,
    ) -> None:
        self._source, self._shards, self._packed = source, shards, dict(packed)
        self._parts = {part for entry in packed.values() for part in (entry.codes, entry.scales)}
        self._unchanged = {
            part: experts for entry, experts in (unchanged or {}).values() for part in (entry.codes, entry.scales)
        }

    @property
    def packed(self) -> Mapping[str, Packed]:
        """The experts that stay as they are stored, by the name of their weight."""
        return self._packed

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""
        return self._source.metadata

    def names(self) -> list[str]:
        """Names of weights, or of codes and scales where those stay, numbers in their natural order."""
        return sorted({*self._source.names(), *self._parts} - self._packed.keys(), key=natural)

    def info(self, name: str) -> TensorInfo:
        """dtype and shape as read. Raises CheckpointError when the tensor is absent."""
        return self._at(name).info(name)

    def read(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU. Raises CheckpointError when it is absent or not finite."""
        return self._at(name).read(name)

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be."""
        return self._at(name).recipe(name)

    def as_stored(self, name: str) -> TensorInfo | None:
        """dtype and shape on disk of a tensor that is read as it lies there, else None."""
        return self._at(name).as_stored(name)

    def with_stored(self, part: str, value: torch.Tensor) -> torch.Tensor:
        """Codes or scales [experts, ...] made for the tensor `part`, those of unchanged experts as they are stored."""
        for expert in self._unchanged.get(part, ()):
            stored = torch.empty(value.shape[1:], dtype=value.dtype)
            self._shards.fetch(part, stored, expert * stored.nbytes)
            value[expert] = stored
        return value

    def _at(self, name: str) -> WeightSource:
        return self._shards if name in self._parts else self._source


def with_packed_experts(source: WeightSource) -> WeightSource:
    """The source with experts that lie in MXFP4, and that no adapter changes, as they are stored."""
    kept: dict[str, Packed] = {}
    unchanged: dict[str, tuple[Packed, Sequence[int]]] = {}
    shards: Shards | None = None
    for name in [name for name in source.names() if len(source.info(name).shape) == 3]:
        merged = source.unchanged_experts(name) if isinstance(source, MergedExperts) else None
        recipe, experts = merged or (source.recipe(name), [])
        stored = recipe.stored
        if not isinstance(stored, DequantizedSource) or recipe.updates or stored.packed[recipe.name].kind != "mxfp4":
            continue
        entry, shards = stored.packed[recipe.name], stored.shards
        if merged:
            unchanged[name] = entry, experts
        else:
            kept[name] = entry
    return PackedExperts(source, kept, shards, unchanged) if shards else source


def mxfp4_expert(codes: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """bf16 [I, O] of codes uint8 [O, I/32, 16] and exponents uint8 [O, I/32]."""
    table = torch.tensor([*E2M1, *(-value for value in E2M1)])
    values = table[torch.stack((codes & 0xF, codes >> 4), -1).flatten(-2).int()]
    weight = torch.ldexp(values, exponents.int().unsqueeze(-1) - _BIAS)
    return weight.reshape(len(codes), -1).to(torch.bfloat16).T.contiguous()


def quantized_base(source: TensorSource) -> str:
    """What the weights of a source are stored in, 'mxfp4' or 'fp8', or '' for floating point."""
    kinds = sorted({entry.kind for entry in getattr(source, "packed", {}).values()})
    return " and ".join(kinds)
