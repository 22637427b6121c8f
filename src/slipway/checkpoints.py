"""One way to open any checkpoint artifact: plain, by reference, or virtual (base + adapter)."""

from __future__ import annotations

from pathlib import Path

from slipway.artifacts import Artifact
from slipway.references import check_reference
from slipway.shards import Shards, TensorSource

VIRTUAL = "virtual.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def open_checkpoint(artifact: Artifact) -> TensorSource:
    """The tensors of a checkpoint. Raises CheckpointError when it is damaged or what it refers to has changed."""
    check_reference(artifact.path)
    return Shards.open(artifact.path)


def model_dir(artifact: Artifact) -> Path:
    """The directory with `config.json` and the tokenizer; it also has the weights, unless the checkpoint is virtual."""
    return artifact.path
