"""Hidden states of streams in one file, so that a walk goes on at the layer where it was killed.

The file holds what the states depend on (`identity`) and the next layer; one of another identity, and one that a power
cut damaged, is as good as none: the walk begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from slipway.calibration.layer_walk import HiddenStates

_LAYER = "next_layer"


class StateFile:
    """`<path>`: micro-batch i of stream s as the tensor `s.i`; written beside and moved over the one before."""

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self._path, self._identity = path, dict(identity)

    def save(self, streams: Sequence[HiddenStates], layer: int) -> None:
        """Write the states before layer `layer`."""
        tensors = {
            f"{s}.{i}": value.cpu().clone() for s, stream in enumerate(streams) for i, value in enumerate(stream.values)
        }
        beside = self._path.with_suffix(".new")
        save_file(tensors, beside, {**self._identity, _LAYER: str(layer)})
        beside.replace(self._path)

    def restore(self, streams: Sequence[HiddenStates], device: torch.device) -> int:
        """Put saved states in place of those before the first layer, and return the layer that comes next; 0 where
        nothing of this identity was saved."""
        if not self._path.is_file():
            return 0
        try:
            with safe_open(self._path, "pt") as file:
                metadata = dict(file.metadata())
                layer = int(metadata.pop(_LAYER))
                if metadata != self._identity:
                    return 0
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, KeyError, ValueError, TypeError):
            return 0
        expected = {f"{s}.{i}" for s, stream in enumerate(streams) for i in range(len(stream.values))}
        if expected != tensors.keys():
            return 0
        for name, tensor in tensors.items():
            s, i = map(int, name.split("."))
            streams[s].values[i] = tensor.to(device)
        return layer
