"""From a verdict back to what it judged: engine, data, adapter, evaluations, and the config that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.errors import SlipwayError
from slipway.store.artifacts import MANIFEST, Adapter, Artifact, Dataset, Engine, Evaluation, Verdict
from slipway.store.lineage import lineage
from slipway.store.references import resolve
from slipway.store.store import A, load, verify

SECTION_OF = {
    "fetch": "model",
    "train": "train",
    "merge": "merge",
    "quantize": "quantize",
    "engine": "engine",
    "gate": "gate",
}


@dataclass(frozen=True)
class Candidate:
    """What a verdict is about."""

    verdict: Verdict
    engine: Engine
    data: Dataset
    adapter: Adapter
    quality: dict[str, Evaluation]
    config: Config


def candidate_of(verdict: Verdict, config: Config) -> Candidate:
    """Follow the manifests. `config` gives what no stage recorded (deploy, store, tracking).

    Raises SlipwayError when the bytes of an ancestor are gone.
    """
    inputs = verdict.manifest["provenance"]["inputs"]
    quality = {
        name: _load(Evaluation, inputs[name], verdict)
        for name in ("base", "merged", "candidate", "champion")
        if name in inputs
    }
    served = quality["candidate"].manifest["provenance"]["inputs"]
    engine = _load(Engine, served["engine"], quality["candidate"])
    ancestors = lineage(engine)
    adapter = next(load(Adapter, Path(a.uri)) for a in ancestors if a.kind == Adapter.kind)
    recorded = {s.stage: s.provenance["params"] for s in [*ancestors, *lineage(verdict)[:1]] if s.stage in SECTION_OF}
    sections = {SECTION_OF[stage]: params for stage, params in recorded.items()}
    full = Config.model_validate({**config.model_dump(), **sections})
    return Candidate(verdict, engine, _load(Dataset, served["data"], quality["candidate"]), adapter, quality, full)


def newest_verdict(store: Path) -> Verdict:
    """The verdict made last. Raises SlipwayError when the store has none."""
    found = sorted((store / Verdict.kind).glob(f"*/{MANIFEST}"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise SlipwayError("verdict", f"none in {store}", "a gated candidate", "`slipway run` makes one")
    return read_verdict(found[-1].parent)


def read_verdict(path: Path) -> Verdict:
    """The intact verdict in a directory. Raises SlipwayError when it is absent, damaged or of another kind."""
    verdict = load(Verdict, path)
    if problem := verify(path):
        raise SlipwayError(f"verdict {path}", problem, "intact bytes", "run the pipeline again")
    return verdict


def _load(cls: type[A], ref: dict[str, Any], referrer: Artifact) -> A:
    """The artifact that the manifest of `referrer` names."""
    return load(cls, resolve(ref, referrer.path))
