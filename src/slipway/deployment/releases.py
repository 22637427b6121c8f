"""A release as its target's agent describes it, and an engine that was ended.

Short because the agent keeps the releases (`agent/releases.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slipway.agent.paths import NAME
from slipway.deployment.decision.policy import Asked
from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Engine
from slipway.store.manifest import read_manifest
from slipway.store.store import load


class Release(BaseModel):
    """A shipped engine, as `release.json` describes it.

    `path` is its directory on the target, `model` its registered name, which is its line, `digests` one hex sha256 per
    kind of artifact, `runs` the ids of its tracking and flow runs, `outcome` the gate's, `asked` who wanted it (None in
    releases of earlier versions). `recorded`: rows and rounding of the probe, None where its evaluation recorded none;
    `checks`: what was tested before the switch, by name. `reused`: the promotion found it serving already.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=f"^{NAME}$")
    path: str
    model: str
    created: str
    digests: dict[str, str]
    runs: dict[str, str] = {}
    outcome: str
    asked: Asked | None = None
    smoke: list[dict[str, Any]] = []
    recorded: dict[str, Any] | None = None
    checks: dict[str, Any] = {}
    reused: bool = False

    @field_validator("digests")
    @classmethod
    def _engine_is_named(cls, digests: dict[str, str]) -> dict[str, str]:
        if "engine" not in digests:
            raise ValueError("a digest of the engine is expected")
        return digests

    def engine(self, store: Path) -> Engine:
        """The released engine as an artifact: the release's own, which can be evaluated again after the store was
        pruned; of a release on another machine the one in `store` that it was shipped from. An evaluation that is in
        the store already needs its digest only.

        Raises StateError when the release lies elsewhere and the store has no engine of its digest."""
        here = Path(self.path) / "engine"
        if (here / MANIFEST).is_file() and read_manifest(here)["digest"] == self.digests["engine"]:
            return load(Engine, here)
        for manifest in sorted((store / Engine.kind).glob(f"*/{MANIFEST}")):
            if read_manifest(manifest.parent)["digest"] == self.digests["engine"]:
                return load(Engine, manifest.parent)
        raise StateError(
            f"engine {self.digests['engine'][:12]} of release {self.name}",
            f"on its target only, not in {store}",
            "the store that it was shipped from: the candidate is compared with it",
            "run with that store (store.root); or `slipway rollback` to a release of this one",
        )


@dataclass(frozen=True)
class Stopped:
    """An engine that was ended: its release, its pid (0: a container), and where it answered, empty when no record
    says so."""

    release: str
    pid: int
    url: str
