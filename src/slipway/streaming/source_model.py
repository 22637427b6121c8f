"""A model to be exported: weights, small files, calibration rows, and what names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.weights.model_config import read_config
from slipway.weights.shards import WeightSource
from slipway.weights.weight_roles import WeightRoles, weight_roles


@dataclass(frozen=True)
class Model:
    """What is exported: weights, the directory with config.json and tokenizer, digests that name weights and
    calibration data, and calibration rows (JSONL with `messages` or `text`)."""

    source: WeightSource
    directory: Path
    identity: Mapping[str, str]
    calibration: Path | None = None

    def config(self) -> dict[str, Any]:
        """The model's config.json. Raises CheckpointError when it is damaged."""
        return read_config(self.directory)

    def weights(self) -> WeightRoles:
        """What every tensor is, by the model's class. Raises CheckpointError for a class that nobody knows."""
        return weight_roles(self.config(), self.source)

    def nbytes(self) -> int:
        """Bytes of all tensors as they are read."""
        return sum(self.source.info(name).nbytes for name in self.source.names())
