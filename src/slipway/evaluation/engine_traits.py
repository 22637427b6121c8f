"""What an evaluated engine is besides its answers: what it was trained on, its bytes, its speed.

Read from manifests, the evaluation's and those of what it was made from; what has been deleted since is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.evaluation.speed_rules import SPREAD, Speed
from slipway.store.artifacts import MANIFEST, Adapter, Engine, Evaluation
from slipway.store.lineage import Ancestor, lineage
from slipway.store.manifest import read_manifest
from slipway.store.store import load


@dataclass(frozen=True)
class Traits:
    """`data`: digest of the dataset that it was fine-tuned on; `size`: bytes of all files of the engine."""

    data: str | None
    size: int | None
    speed: Speed


def traits_of(evaluation: Evaluation) -> Traits:
    """The traits of the engine that an evaluation asked. Raises StateError for a manifest that is damaged."""
    ancestors = lineage(evaluation)
    engine = _engine(ancestors, evaluation)
    return Traits(_training_data(ancestors), _size(engine), speed_of(evaluation, engine))


def engine_digest(evaluation: Evaluation) -> str | None:
    """The digest of the engine that an evaluation asked; None where its manifest names none."""
    reference = evaluation.manifest["provenance"].get("inputs", {}).get("engine")
    return str(reference["digest"]) if reference else None


def speed_of(evaluation: Evaluation, engine: Engine | None) -> Speed:
    """The speed runs of an evaluation, none where speed was not measured, and the spread of its engine's boots."""
    measured = (evaluation.path / "speed.json").is_file()
    runs = {run["concurrency"]: run for run in evaluation.read_json("speed.json")} if measured else {}
    spread = engine.summary.get(SPREAD) if engine else None
    return Speed(runs, float(spread) if spread is not None else None)


def _engine(ancestors: list[Ancestor], evaluation: Evaluation) -> Engine | None:
    digest = engine_digest(evaluation)
    made = next((a for a in ancestors if a.digest == digest), None)
    path = Path(made.uri) if made else None
    return load(Engine, path) if path and (path / MANIFEST).is_file() else None


def _training_data(ancestors: list[Ancestor]) -> str | None:
    """The test rows may be newer than what a champion was trained on: its adapter's own data counts."""
    adapter = next((a for a in ancestors if a.kind == Adapter.kind), None)
    data = adapter.provenance.get("inputs", {}).get("data") if adapter else None
    return str(data["digest"]) if data else None


def _size(engine: Engine | None) -> int | None:
    return sum(int(file["size"]) for file in read_manifest(engine.path)["files"]) if engine else None
