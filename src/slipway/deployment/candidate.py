"""From a verdict back to what it judged: engine, data, adapter, evaluations, and the config that made them."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config, parse
from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Adapter, Artifact, Dataset, Engine, Evaluation, Verdict
from slipway.store.lineage import lineage
from slipway.store.manifest import read_manifest
from slipway.store.references import resolve
from slipway.store.store import A, load, verify
from slipway.system.json_files import is_present, read_value

SECTION_OF = {
    "fetch": "model",
    "train_cpu": "train",
    "merge": "merge",
    "quantize": "quantize",
    "engine": "engine",
    "gate": "gate",
}


GATE_LOOKS = ("test_rows", "look", "first_look")
EVALUATION = "evaluation.json"
DIGITS = "[0-9a-f]{6,64}"  # of a digest, as a person gives them
ROLES = ("base", "merged", "candidate", "champion", "best")
_AGAIN = "run the pipeline again: what is missing or damaged is made anew"


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
    """Follow the manifests. `config` gives what no stage recorded (evaluate, deploy, store, tracking).

    Raises StateError when an ancestor is gone, damaged or not recorded; ConfigError when its params are not understood.
    """
    inputs = _inputs(verdict)
    quality = {name: _input(Evaluation, verdict, name) for name in ROLES if name in inputs or name == "candidate"}
    engine = _input(Engine, quality["candidate"], "engine")
    data = _input(Dataset, quality["candidate"], "data")
    ancestors = lineage(engine)
    adapters = [load(Adapter, Path(ancestor.uri)) for ancestor in ancestors if ancestor.kind == Adapter.kind]
    if not adapters:
        raise StateError(f"engine {engine.path}", "made from no adapter", "one fine-tuned by a run", _AGAIN)
    recorded = {
        ancestor.stage: ancestor.provenance.get("params", {})
        for ancestor in [*ancestors, *lineage(verdict)[:1]]
        if ancestor.stage in SECTION_OF
    }
    sections = {SECTION_OF[stage]: _section(params) for stage, params in recorded.items()}
    recorded_data = data.manifest.get("provenance", {}).get("params", {}).get("config")
    if recorded_data is not None:
        sections["data"] = recorded_data
    full = parse({**config.model_dump(), **sections}, f"params that verdict {verdict.path} leads to")
    return Candidate(verdict, engine, data, adapters[0], quality, full)


def _section(params: dict[str, Any]) -> dict[str, Any]:
    """A config section of a stage's params: without the machine that the stage served on, and which look at
    the test rows the gate took."""
    return {name: value for name, value in params.items() if name not in ("serving", "serving_image", *GATE_LOOKS)}


def newest_candidate(config: Config) -> Candidate:
    """What the verdict made last of the config's line is about: another line's model is never promoted unasked.

    Raises StateError when the store has none, naming the line of the newest one that it has, or when a verdict on the
    way to it cannot say its line; damaged bytes of another line's stand in nobody's way.
    """
    store = Path(config.store.root)
    manifests = sorted((store / Verdict.kind).glob(f"*/{MANIFEST}"), key=_made, reverse=True)
    other_lines = []
    for manifest in manifests:
        line = line_of(load(Verdict, manifest.parent), config)
        if line == config.line:
            return candidate_of(read_verdict(manifest.parent), config)
        other_lines.append(line)
    hint = f"; the newest is of {other_lines[0]}" if other_lines else ""
    next_step = "`slipway run` makes one; or name a verdict's directory"
    raise StateError("verdict", f"none of {config.line} in {store}{hint}", "a gated candidate of this line", next_step)


def _made(manifest: Path) -> tuple[str, float]:
    """When a verdict was made: as its manifest says, which a copied store keeps; else when the file was written."""
    written = manifest.lstat().st_mtime
    try:
        created = read_manifest(manifest.parent)["provenance"].get("created")
    except StateError:
        created = None  # whoever comes to this one says what is wrong with it
    stamp = created if isinstance(created, str) else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(written))
    return stamp, written


def line_of(artifact: Verdict | Adapter, config: Config) -> str:
    """The line a verdict or an adapter belongs to, as `Config.line` names it. Reads manifests, no other bytes; data
    whose manifest holds no config count as `config`'s, as in `candidate_of`.

    Raises StateError when the base model or the data it came from are gone, or a manifest on the way is damaged;
    ConfigError when their params are not understood.
    """
    source: Artifact = artifact
    if isinstance(artifact, Verdict):  # its champion may be of another line: the candidate alone decides
        inputs = _inputs(artifact)
        if "candidate" not in inputs:
            raise StateError(f"manifest of {artifact.path}", "names no candidate", "the inputs of its stage", _AGAIN)
        source = load(Evaluation, resolve(inputs["candidate"], artifact.path))
    params = {ancestor.stage: ancestor.provenance.get("params", {}) for ancestor in lineage(source)}
    if missing := [stage for stage in ("fetch", "prepare") if stage not in params]:
        raise StateError(f"{artifact.kind} {artifact.path}", f"what {missing[0]} made is gone", "its lineage", _AGAIN)
    sections = {"model": params["fetch"], "data": params["prepare"].get("config") or config.data.model_dump()}
    return parse(sections, f"params that {artifact.kind} {artifact.path} leads to").line


def evaluation_document(verdict: Verdict) -> dict[str, str]:
    """`evaluation.json` and its text, a document for the release: digest, metrics and speed of the evaluation that a
    verdict judged. No rows: they hold prompts. Figures that are gone from the store are null.

    Raises StateError for a damaged file, and for a verdict that names no candidate."""
    inputs = _inputs(verdict)
    if "candidate" not in inputs:
        raise StateError(f"manifest of {verdict.path}", "names no candidate", "the inputs of its stage", _AGAIN)
    folder = resolve(inputs["candidate"], verdict.path)
    figures = {
        name: read_value(folder / f"{name}.json", f"{name} of evaluation {folder.name}", _AGAIN)
        if is_present(folder / f"{name}.json")
        else None
        for name in ("metrics", "speed")
    }
    document = {"digest": inputs["candidate"]["digest"], **figures}
    return {EVALUATION: json.dumps(document, indent=1, sort_keys=True) + "\n"}


def names_a_version(name: str) -> bool:
    """Whether a person names a version of the registered model, by its number or an alias (`7`, `spark-champion`,
    `@spark-champion`): no path that is there, and no digits of a digest, which are 6 at least."""
    if Path(name).exists() or re.fullmatch(DIGITS, name):
        return False
    return re.fullmatch(r"@?[A-Za-z0-9][A-Za-z0-9_.-]*", name) is not None


def verdict_on(engine: str, config: Config, named: str) -> Verdict:
    """The intact verdict made last of those whose candidate is the engine with this digest; `named`: how a person named
    it. Raises StateError when the store has none."""
    folder = Path(config.store.root) / Verdict.kind
    for manifest in sorted(folder.glob(f"*/{MANIFEST}"), key=_made, reverse=True):
        candidate = _inputs(load(Verdict, manifest.parent)).get("candidate")
        if candidate is None:
            continue
        with suppress(StateError):  # an evaluation that is gone or damaged: whoever names its verdict is told so
            evaluation = load(Evaluation, resolve(candidate, manifest.parent))
            if _inputs(evaluation).get("engine", {}).get("digest") == engine:
                return read_verdict(manifest.parent)
    next_step = "promote it where its store is, or run again: what is missing is made anew"
    raise StateError(
        named, f"no verdict on engine {engine[:12]} in {folder}", "the store that it was judged in", next_step
    )


def named_verdict(name: str, config: Config) -> Verdict:
    """The intact verdict that a person names: a directory, or the first digits of its digest, as the gate's row of a
    run shows them (6 at least).

    Raises StateError when it is no directory and no verdict of the store, or several, begin so.
    """
    if Path(name).exists() or not re.fullmatch(DIGITS, name):
        return read_verdict(Path(name))
    folder = Path(config.store.root) / Verdict.kind
    verdicts = [v for v in (load(Verdict, m.parent) for m in folder.glob(f"*/{MANIFEST}")) if v.digest.startswith(name)]
    if len(verdicts) != 1:
        several = ", ".join(v.digest[:12] for v in verdicts[:5]) or "none"
        raise StateError(f"verdict {name}", f"{several} in {folder}", "one that begins so", "give more of its digits")
    return read_verdict(verdicts[0].path)


def read_verdict(path: Path) -> Verdict:
    """The intact verdict in a directory. Raises StateError when it is absent, damaged or of another kind."""
    verdict = load(Verdict, path)
    if problem := verify(path):
        raise StateError(f"verdict {path}", problem, "intact bytes", _AGAIN)
    return verdict


def _inputs(artifact: Artifact) -> dict[str, Any]:
    return dict(artifact.manifest["provenance"].get("inputs", {}))


def _input(cls: type[A], artifact: Artifact, name: str) -> A:
    """An input of an artifact; its bytes are verified, but an engine's, which promotion verifies."""
    inputs = _inputs(artifact)
    if name not in inputs:
        raise StateError(f"manifest of {artifact.path}", f"names no input {name}", "the inputs of its stage", _AGAIN)
    loaded = load(cls, resolve(inputs[name], artifact.path))
    if cls is not Engine and (problem := verify(loaded.path)):
        raise StateError(f"{cls.kind} {loaded.path}", problem, "intact bytes", _AGAIN)
    return loaded
