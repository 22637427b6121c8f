"""A release as its target's agent describes it, and an engine that was ended.

Short because the agent keeps the releases (`agent/releases.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slipway.agent.paths import ENGINE, INDEX, NAME
from slipway.deployment.decision.policy import Asked
from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Engine, SearchIndex
from slipway.store.manifest import read_manifest
from slipway.store.store import A, load


class Carried(BaseModel):
    """The index that a release carries: digest, the retriever that searches it, and how many chunks that ranks."""

    model_config = ConfigDict(frozen=True)

    index: str = Field(pattern="^[0-9a-f]{64}$")
    retriever: Literal["bm25", "dense", "hybrid"]
    depth: int = Field(ge=1)


class Release(BaseModel):
    """A shipped engine, as `release.json` describes it.

    `path` is its directory on the target, `model` its registered name, which is its line, `digests` one hex sha256 per
    kind of artifact, `runs` the ids of its tracking and flow runs, `outcome` the gate's, `asked` who wanted it (None in
    releases of earlier versions). `recorded`: rows and rounding of the probe, None where its evaluation recorded none;
    `checks`: what was tested before the switch, by name. `retrieval`: the index that lies beside the engine, None for a
    release without one. `reused`: the promotion found it serving already.
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
    retrieval: Carried | None = None
    reused: bool = False

    @field_validator("digests")
    @classmethod
    def _engine_is_named(cls, digests: dict[str, str]) -> dict[str, str]:
        if "engine" not in digests:
            raise ValueError("a digest of the engine is expected")
        return digests

    @property
    def index_digest(self) -> str:
        """Of the index that it carries; empty where it carries none."""
        return self.retrieval.index if self.retrieval else ""

    def engine(self, store: Path) -> Engine:
        """The released engine as an artifact: the release's own, which can be evaluated again after the store was
        pruned; of a release on another machine the one in `store` that it was shipped from. An evaluation that is in
        the store already needs its digest only.

        Raises StateError when the release lies elsewhere and the store has no engine of its digest."""
        return self._artifact(Engine, ENGINE, self.digests["engine"], store)

    def index(self, store: Path) -> SearchIndex | None:
        """The index that the release carries, found as its engine is; None for a release without one. Raises StateError
        as `engine`."""
        return self._artifact(SearchIndex, INDEX, self.retrieval.index, store) if self.retrieval else None

    def _artifact(self, cls: type[A], folder: str, digest: str, store: Path) -> A:
        """From the release's own folder, else from the store."""
        here = Path(self.path) / folder
        if (here / MANIFEST).is_file() and read_manifest(here)["digest"] == digest:
            return load(cls, here)
        for manifest in sorted((store / cls.kind).glob(f"*/{MANIFEST}")):
            if read_manifest(manifest.parent)["digest"] == digest:
                return load(cls, manifest.parent)
        raise StateError(
            f"{cls.kind} {digest[:12]} of release {self.name}",
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
