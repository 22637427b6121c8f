"""A model to be exported: weights, small files, calibration rows, and what names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.weights.shards import TensorSource, WeightSource


@dataclass(frozen=True)
class Model:
    """What is exported: weights, the directory with config.json and tokenizer, digests that name weights and
    calibration data, and calibration rows (JSONL with `messages` or `text`)."""

    source: WeightSource
    directory: Path
    identity: Mapping[str, str]
    calibration: Path | None = None

    def config(self) -> dict[str, Any]:
        """The model's config.json."""
        document: dict[str, Any] = json.loads((self.directory / "config.json").read_text(encoding="utf-8"))
        return document

    def nbytes(self) -> int:
        """Bytes of all tensors as they are read."""
        return sum(self.source.info(name).nbytes for name in self.source.names())


def is_tied(config: Mapping[str, Any], source: TensorSource) -> bool:
    """Whether the output projection is the embedding. Gemma's configs leave the key out, true being its default: then
    it is tied when no tensor of its own is stored."""
    tied = {**config, **config.get("text_config", {})}.get("tie_word_embeddings")
    return bool(tied) if tied is not None else not any(name.endswith("lm_head.weight") for name in source.names())


def hidden_size(config: Mapping[str, Any]) -> int:
    """The model's width, also of a config that nests its text model's."""
    return int({**config, **config.get("text_config", {})}.get("hidden_size", 0))
