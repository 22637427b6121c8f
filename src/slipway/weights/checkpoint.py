"""One way to open any checkpoint artifact: plain, by reference, or virtual (base + adapter)."""

from __future__ import annotations

import json
from pathlib import Path

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
from slipway.weights.shards import WeightSource

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


def materialize(artifact: Artifact, out: Path, progress: Progress, max_bytes: float = 4e9) -> None:
    """Write any checkpoint as a plain HF model directory: shards, config and tokenizer."""
    write_shards(open_checkpoint(artifact), out, max_bytes, progress)
    copy_small_files(artifact.path, out)
