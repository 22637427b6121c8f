"""What a stage is: a function with typed inputs and params, the code that decides its bytes, and one call of it.

A stage named X is the function `X` of the module `slipway.stages.X`; its annotations say which inputs and params it
takes. The module says besides: `OUTPUT`, the kind it makes; `params_of(config)`, its params out of a run's config;
where it has them, `key_extra(params)`, what the key must know beside inputs and params, and `CODE` with `CODE_WITHOUT`,
the modules that decide its bytes where that is not the whole stage. The module imports no torch at its top:
orchestrators import it.
"""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from slipway.config.base import Section
from slipway.errors import ConfigError
from slipway.store.artifacts import Artifact
from slipway.store.key import key_document
from slipway.store.manifest import Reference

STAGES = (
    "fetch",
    "prepare",
    "train_cpu",
    "train_nemo",
    "merge",
    "quantize",
    "engine",
    "reference",
    "evaluate",
    "agent_eval",
    "gate",
    "corpus",
    "chunk",
    "embed",
    "index",
    "search_eval",
    "choose",
    "answer_eval",
)
STOP_S = 10.0
STAGE_FILE = "stage.json"  # what a stage process is told, in its work folder
ERROR_FILE = "error.json"  # what it raised


class ErrorDocument(BaseModel):
    """`error.json`: the error of a stage process, as `SlipwayError.to_json` writes it."""

    type: str
    thing: str
    value: str
    expected: str
    next_step: str


class StageDocument(BaseModel):
    """What `stage.json` must hold. Artifacts by reference; `store` and `cache` are directories."""

    stage: str
    key: str
    inputs: dict[str, Reference]
    params: dict[str, Any]
    extra: dict[str, str]
    store: str
    cache: str


@dataclass(frozen=True)
class StageSpec:
    """A stage function with its types, read from its annotations, and the modules whose code decides its bytes."""

    name: str
    function: Callable[..., None]
    inputs: dict[str, type[Artifact]]
    params: type[Section]
    output: type[Artifact]
    code: tuple[str, ...]
    code_without: tuple[str, ...]

    def code_version(self) -> str:
        """Digest of the code that decides what this stage makes."""
        from slipway.store.code_version import code_digest  # who looks at stages that run needs no key

        return code_digest(*self.code, without=self.code_without)

    def module_digests(self) -> dict[str, str]:
        """What each module contributes to the code version, by its name: recorded, so that a change can be named."""
        from slipway.store.code_version import module_digests

        return module_digests(*self.code, without=self.code_without)


@dataclass(frozen=True)
class Work:
    """How much a stage has to do. Time and memory of calls of one `group` grow with `amount`; `unit` says of what."""

    group: str
    amount: float
    unit: str


@dataclass(frozen=True)
class StageCall:
    """One stage to be made: what it reads, its params, and how it is shown and stopped.

    `label`: its name in tables and logs, where it runs more than once. `extra`: what the key must know beside inputs
    and params. `stop_s`: seconds that a cancelled stage gets to end by itself. `work`: None where it is not known.
    `preemptible`: more urgent work may have it ended at a checkpoint, and go on later.
    """

    stage: str
    inputs: Mapping[str, Artifact | None]
    params: Section
    label: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    stop_s: float = STOP_S
    work: Work | None = None
    preemptible: bool = False

    @property
    def title(self) -> str:
        """The label, else the stage's name."""
        return self.label or self.stage

    def key_document(self) -> dict[str, Any]:
        """What decides the bytes that this call makes; `store.key.key_of` digests it."""
        code = stage_spec(self.stage).code_version()
        return key_document(self.stage, self.inputs, self.params, self.extra, code)


@functools.cache
def stage_spec(name: str) -> StageSpec:
    """The stage called `name`. Raises ConfigError when there is none."""
    if name not in STAGES:
        raise ConfigError("stage", name, f"one of {', '.join(STAGES)}", "see `slipway stage --help`")
    module = importlib.import_module(f"slipway.stages.{name}")
    function = getattr(module, name)
    hints = typing.get_type_hints(function)
    inputs = {k: _artifact_type(t) for k, t in hints.items() if k not in ("params", "space", "return")}
    code = getattr(module, "CODE", (f"stages.{name}",))
    without = getattr(module, "CODE_WITHOUT", ())
    return StageSpec(name, function, inputs, hints["params"], module.OUTPUT, code, without)


def _artifact_type(hint: Any) -> type[Artifact]:
    """`Champion | None` and `Checkpoint | Quantized` are allowed for inputs; the stored kind decides."""
    members = [t for t in (typing.get_args(hint) or (hint,)) if t is not type(None)]
    return members[0] if len(members) == 1 else Artifact
