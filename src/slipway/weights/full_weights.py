"""What full fine-tuning leaves: every weight of the model, in place of an adapter. Checked against the base, handed on
as it is.

A trained folder holds safetensors with the base's names and shapes, in bf16. The merge has nothing to add: its
checkpoint is these files, linked where the file system allows it, with the base's config and tokenizer beside them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from slipway.errors import AdapterError
from slipway.weights.adapter_config import CONFIG
from slipway.weights.shards import Shards, TensorSource

SHOWN = 3


def holds_full_weights(directory: Path) -> bool:
    """Whether a folder that training left has whole weights, and no adapter."""
    return not (directory / CONFIG).is_file() and any(directory.glob("model*.safetensors"))


def check_full_weights(directory: Path, base: TensorSource) -> tuple[Shards, int]:
    """The tensors of a trained folder, and how many differ from the base's, rounded to bf16.

    Raises AdapterError when names or shapes are not the base's, or when nothing was trained; CheckpointError for
    damaged files and for values that are not finite.
    """
    trained = Shards.open(directory)
    ours, theirs = set(base.names()), set(trained.names())
    if ours != theirs:
        absent, extra = sorted(ours - theirs)[:SHOWN], sorted(theirs - ours)[:SHOWN]
        raise _misfit(directory, f"lacks {absent or 'none'} and has besides {extra or 'none'}", "the base's tensors")
    changed = 0
    for name in trained.names():
        if trained.info(name).shape != base.info(name).shape:
            raise _misfit(directory, f"{name} is {trained.info(name).shape}", f"{base.info(name).shape}")
        weight = trained.read(name)  # NaN and Inf are named here
        changed += not torch.equal(weight, base.read(name).to(weight.dtype))
    if not changed:
        raise _misfit(directory, "every tensor equals the base's", "weights that training changed")
    return trained, changed


def _misfit(directory: Path, value: str, expected: str) -> AdapterError:
    return AdapterError(f"trained weights in {directory}", value, expected, "train on the base that is merged with")


def pass_through(directory: Path, out: Path) -> None:
    """Put the weights of a trained folder into `out`, by links where both lie on one file system."""
    for file in (*directory.glob("model*.safetensors"), *directory.glob("model*.index.json")):
        try:
            os.link(file, out / file.name)  # artifacts never change, so both may name the same bytes
        except OSError:
            shutil.copyfile(file, out / file.name)
