"""`slipway history`: the versions that a store judged, what each was made of, and what differs between two of them.

It reads manifests alone: neither Prefect nor MLflow has to be up, and what both forgot is still here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slipway.config.deploy import DeployConfig
from slipway.config.load import line_name
from slipway.deployment.state import status
from slipway.errors import ConfigError, StateError
from slipway.ops.chain.why import Change, Made, between
from slipway.store.artifacts import MANIFEST, Artifact, Engine, Evaluation, Quantized, Verdict
from slipway.store.lineage import lineage
from slipway.store.manifest import read_manifest
from slipway.store.references import resolve
from slipway.store.store import load
from slipway.system.json_files import as_model, is_present, read_json

# Inputs of a verdict that its engine was made by; the others are what it was compared with.
_OWN: Mapping[str, type[Artifact]] = {"candidate": Evaluation, "quantized": Quantized, "engine": Engine}
_DATA, _MODEL = "prepare", "fetch"
_MIN_DIGITS = 6


class _Measured(BaseModel):
    name: str
    value: float | None


class _Judged(BaseModel):
    """What is read of a `verdict.json`."""

    outcome: str
    measured: list[_Measured] = []


@dataclass(frozen=True)
class Version:
    """One judged engine: `verdict` and `engine` are digests (hex sha256), `made` the time of the verdict (UTC), `line`
    the name that its releases are registered by, `quality` what was measured of the candidate, by the metric's name,
    and `stages` the artifact of each stage that it was made by."""

    verdict: str
    made: str
    line: str
    outcome: str
    engine: str
    data: str
    quality: Mapping[str, float]
    stages: Mapping[str, Made]
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """What differs between two versions: `rows` of the data by split, `changes` by stage in the order of the chain
    (only stages that differ), `quality` by metric (None: not measured there). `same_data`: both were judged on the same
    rows, so their figures compare."""

    before: Version
    now: Version
    rows: Mapping[str, tuple[int | None, int | None]]
    changes: Mapping[str, Sequence[Change]]
    quality: Mapping[str, tuple[float | None, float | None]]
    same_data: bool


def versions(store: Path) -> tuple[list[Version], int]:
    """The versions of a store, oldest first, and how many verdicts could not be read."""
    judged, damaged = [], 0
    for file in sorted((store / Verdict.kind).glob(f"*/{MANIFEST}")):
        try:
            judged.append(_version(load(Verdict, file.parent)))
        except (StateError, ConfigError):  # a name without a letter names no line
            damaged += 1
    return sorted(judged, key=lambda version: version.made), damaged


def matching(digits: str, among: Sequence[Version]) -> list[Version]:
    """The versions whose verdict, or whose engine, begins with these digits; none for fewer than six."""
    if len(digits) < _MIN_DIGITS:
        return []
    return [version for version in among if version.verdict.startswith(digits) or version.engine.startswith(digits)]


def named(digits: str, among: Sequence[Version]) -> Version:
    """The one version of `matching`. Raises StateError for none or several."""
    matches = matching(digits, among)
    if len(matches) != 1:
        several = ", ".join(version.verdict[:12] for version in matches[:5]) or "none"
        expected = f"the first {_MIN_DIGITS} digits or more of one version's verdict or engine"
        raise StateError(f"version {digits[:80]}", several, expected, "`slipway history` lists them")
    return matches[0]


def before(version: Version, among: Sequence[Version]) -> Version | None:
    """The version of the same line that was judged last before this one; None for the first of its line."""
    earlier = [v for v in among if v.line == version.line and v.made < version.made]
    return max(earlier, key=lambda v: v.made, default=None)


def difference(earlier: Version, now: Version) -> Difference:
    """What differs between two versions, by what the keys of their stages hold."""
    last = {name: made.created for version in (earlier, now) for name, made in version.stages.items()}
    names = sorted(last, key=lambda name: last[name])
    changes: dict[str, list[Change]] = {}
    for name in names:
        one, other = earlier.stages.get(name), now.stages.get(name)
        if one and other:
            # inputs are artifacts of earlier stages, whose own changes stand there
            changes[name] = [c for c in between(one, other) if not c.field.startswith("input ")]
        else:
            changes[name] = [Change("artifact", *("made" if made else "-" for made in (one, other)))]
    return Difference(
        earlier,
        now,
        {split: (earlier.rows.get(split), now.rows.get(split)) for split in {**earlier.rows, **now.rows}},
        {name: rows for name, rows in changes.items() if rows},
        {
            metric: (earlier.quality.get(metric), now.quality.get(metric))
            for metric in {**earlier.quality, **now.quality}
        },
        earlier.data == now.data,
    )


def _version(verdict: Verdict) -> Version:
    manifest = verdict.manifest
    inputs = manifest["provenance"].get("inputs", {})
    own = [
        cls(uri=str(resolve(inputs[role], verdict.path)), digest=inputs[role]["digest"])
        for role, cls in _OWN.items()
        if role in inputs
    ]
    stages = {
        ancestor.stage: Made(Path(ancestor.uri), ancestor.kind, ancestor.digest, ancestor.provenance)
        for ancestor in reversed(lineage(*own))  # from the base model to what was judged
        if ancestor.stage
    }
    stages["gate"] = Made(verdict.path, verdict.kind, verdict.digest, manifest["provenance"])
    judged = as_model(_Judged, verdict.read_json("verdict.json"), f"verdict {verdict.path}", "delete it and run again")
    engine = inputs.get("engine", {}).get("digest", "")
    data = stages.get(_DATA)
    return Version(
        verdict=verdict.digest,
        made=str(manifest["provenance"].get("created", "")),
        line=_line(stages),
        outcome=judged.outcome,
        engine=engine,
        data=data.digest if data else "",
        quality={row.name: row.value for row in judged.measured if row.value is not None},
        stages=stages,
        rows=_rows(data),
    )


def _line(stages: Mapping[str, Made]) -> str:
    """The registered model's name; `unknown` for a part that its manifests no longer tell."""
    data = _params(stages, _DATA).get("config")
    data = data if isinstance(data, dict) else {}
    return line_name(
        str(data.get("name") or Path(str(data.get("raw", "unknown"))).stem),
        str(_params(stages, _MODEL).get("name", "unknown")),
    )


def _params(stages: Mapping[str, Made], stage: str) -> Mapping[str, Any]:
    made = stages.get(stage)
    return made.provenance.get("params", {}) if made else {}


def _rows(data: Made | None) -> dict[str, int]:
    """Rows of each split, out of the data's summary; empty where its bytes were removed."""
    if data is None or not is_present(data.path / "summary.json"):
        return {}
    if read_manifest(data.path)["digest"] != data.digest:
        return {}
    summary = read_json(data.path / "summary.json", "summary of the data", "run again")
    counts = {split: summary.get(f"{split}_rows") for split in ("train", "val", "test")}
    return {split: count for split, count in counts.items() if isinstance(count, int)}


def releases_of(version: Version, params: DeployConfig) -> list[str]:
    """The releases on a target that were promoted by this verdict, the serving one marked. Raises what the target
    raises when it cannot be asked."""
    now = status(params)
    serving = now.release.name if now.release else None
    return [
        f"{params.target} {record.name.split('-')[0]}{' (serves)' if record.name == serving else ''}"
        for record in now.records
        if record.digests.get("verdict") == version.verdict
    ]
