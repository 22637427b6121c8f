"""What a stage is: a function with typed inputs and params, and the workspace it gets."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slipway.errors import ConfigError
from slipway.store.artifacts import Artifact
from slipway.system.progress import Progress

STAGES = ("fetch", "prepare", "train_cpu", "train_nemo", "merge", "quantize", "engine", "evaluate", "gate")


@dataclass(frozen=True)
class Workspace:
    """What a stage may touch. `out` becomes the artifact; `work` outlives a crash of the same job (checkpoints);
    `cache` is shared between jobs and clones (downloads, builds)."""

    out: Path
    work: Path
    cache: Path
    progress: Progress


@dataclass(frozen=True)
class StageSpec:
    """A stage function with its types, read from its annotations."""

    name: str
    function: Callable[..., None]
    inputs: dict[str, type[Artifact]]
    params: type[BaseModel]
    output: type[Artifact]


@functools.cache
def stage_spec(name: str) -> StageSpec:
    """The stage called `name`. Importing it may import torch."""
    if name not in STAGES:
        raise ConfigError("stage", name, f"one of {', '.join(STAGES)}", "see `slipway stage --help`")
    module = importlib.import_module(f"slipway.stages.{name}")
    function = getattr(module, name)
    hints = typing.get_type_hints(function)
    inputs = {k: _artifact_type(t) for k, t in hints.items() if k not in ("params", "space", "return")}
    return StageSpec(name, function, inputs, hints["params"], module.OUTPUT)


def _artifact_type(hint: Any) -> type[Artifact]:
    """`Champion | None` and `Checkpoint | Quantized` are allowed for inputs; the stored kind decides."""
    members = [t for t in (typing.get_args(hint) or (hint,)) if t is not type(None)]
    return members[0] if len(members) == 1 else Artifact
