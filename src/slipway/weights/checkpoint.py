"""One way to open any checkpoint artifact: plain, by reference, or virtual (base + adapter)."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import torch

from slipway.errors import CheckpointError
from slipway.store.artifacts import Adapter, Artifact, Checkpoint
from slipway.store.references import reference_to, resolve
from slipway.store.store import load
from slipway.system.files import write_atomic
from slipway.system.json_files import read_json
from slipway.system.progress import Progress
from slipway.weights.dequantized import open_weights
from slipway.weights.external import check_reference
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.model_config import read_config
from slipway.weights.model_files import copy_small_files
from slipway.weights.shard_writer import write_shards
from slipway.weights.shards import TensorInfo, WeightSource
from slipway.weights.weight_roles import weight_roles

VIRTUAL = "virtual.json"


def open_checkpoint(artifact: Artifact) -> WeightSource:
    """The tensors of a checkpoint. Raises CheckpointError when it is damaged or what it refers to has changed."""
    path = artifact.path
    if (path / VIRTUAL).exists():
        refs = read_json(path / VIRTUAL, "virtual checkpoint", _AGAIN)
        base, adapter = _referred(Checkpoint, refs["base"], path), _referred(Adapter, refs["adapter"], path)
        return MergedSource(open_checkpoint(base), LoraAdapter(adapter.path), read_config(base.path))
    check_reference(path)
    return open_weights(path)


def is_virtual(artifact: Artifact) -> bool:
    """Whether a checkpoint is base + adapter, merged when read; its directory then has config and tokenizer, no
    weights."""
    return (artifact.path / VIRTUAL).exists()


def _referred(cls: type[Artifact], ref: dict[str, str], document: Path) -> Artifact:
    path = resolve({"kind": cls.kind, **ref}, document)
    if not path.exists():
        raise CheckpointError(
            f"{cls.kind} {path}", "missing", "the artifact that a virtual checkpoint was merged from", _AGAIN
        )
    artifact = load(cls, path)
    if artifact.digest != ref["digest"]:
        raise CheckpointError(
            f"{cls.kind} {path}", f"digest {artifact.digest[:12]}", f"digest {ref['digest'][:12]}", _AGAIN
        )
    return artifact


_AGAIN = "run the pipeline again: it makes what is missing"


def write_virtual(out: Path, base: Checkpoint, adapter: Adapter) -> None:
    """Write `virtual.json` into an artifact's directory in the store, `<root>/<kind>/<name>`: base and adapter by
    reference."""
    root = out.parent.parent
    refs = {"base": reference_to(base, root), "adapter": reference_to(adapter, root)}
    write_atomic(out / VIRTUAL, json.dumps(refs, indent=1) + "\n")


class _WithFp32:
    """A source whose tensors in `fp32` are read as they are stored, not in bf16."""

    def __init__(self, source: WeightSource, fp32: Collection[str]) -> None:
        self._source, self._fp32 = source, fp32
        self.metadata, self.names = source.metadata, source.names

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor as it is written."""
        stored = self._source.as_stored(name) if name in self._fp32 else None
        return stored or self._source.info(name)

    def read(self, name: str) -> torch.Tensor:
        """The tensor as it is written. Raises CheckpointError when it is not finite."""
        recipe = self._source.recipe(name)
        return recipe.stored.read(recipe.name) if name in self._fp32 else self._source.read(name)


def materialize(artifact: Artifact, out: Path, progress: Progress, max_bytes: float = 4e9) -> None:
    """Write any checkpoint as a plain HF model directory: shards, config and tokenizer.

    Of a virtual one, what its base keeps in fp32 (norms, biases, routers) stays so bit for bit, unless the adapter
    changes it: a GGUF file holds norms and biases in fp32, as every runtime computes them. Raises CheckpointError.
    """
    source = open_checkpoint(artifact)
    fp32 = weight_roles(read_config(artifact.path), source).fp32 if is_virtual(artifact) else frozenset()
    write_shards(_WithFp32(source, fp32), out, max_bytes, progress)
    copy_small_files(artifact.path, out)
