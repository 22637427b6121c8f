"""The index that goes with a release: which one a verdict judged, how it is searched, and its probes before a switch.

A release that is searched carries its index as it carries its engine: sealed, named by digest, read byte by byte on the
target. A target cannot search: its agent is one file of the standard library. So the probes are replayed here, on the
bytes of the digest that the target then holds (ADR 54).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slipway.agent.artifact import MANIFEST
from slipway.agent.paths import INDEX
from slipway.deployment.releases import Carried, Release
from slipway.errors import StateError
from slipway.store.artifacts import Artifact, Choice, Retrieval, SearchIndex, Verdict
from slipway.store.manifest import read_manifest
from slipway.store.references import resolve
from slipway.store.store import A, load
from slipway.system.json_files import is_present

_AGAIN = "run the pipeline again: what is missing or damaged is made anew"


@dataclass(frozen=True)
class JudgedIndex:
    """The index that a verdict judged, and how it is searched."""

    index: SearchIndex
    carried: Carried


def judged_index(verdict: Verdict) -> JudgedIndex | None:
    """What the verdict's evaluation of retrieval searched; None for a verdict without one. Raises StateError where the
    index is gone, or its evaluation does not say how it was searched."""
    if "search" not in _inputs(verdict):
        return None
    search = _input(Retrieval, verdict, "search")
    choice = _input(Choice, verdict, "choice") if "choice" in _inputs(verdict) else None
    index = _input(SearchIndex, search, "index")
    params = search.manifest["provenance"].get("params", {})
    winner = str(choice.read_json("choice.json")["winner"]).rpartition("/")[2] if choice else ""
    retrievers = params.get("retrievers") or [""]
    try:
        named = {"index": index.digest, "retriever": winner or retrievers[0], "depth": params.get("depth")}
        carried = Carried.model_validate(named)
    except ValidationError as err:
        message = f"params of its stage: {err.errors()[0]['msg']}"
        raise StateError(f"evaluation {search.path}", message, "retriever and depth", _AGAIN) from err
    return JudgedIndex(index, carried)


def replayed(folder: Path, digest: str, of: str) -> dict[str, Any]:
    """Search the probes of the index in a folder again; digest, probes and retrievers, for the release's record. `of`:
    whose index it is, for the error.

    Raises StateError when it is another index, when a byte differs, and when a probe finds other rows than it did."""
    from slipway.rag.search import open_index  # numpy and FAISS: a release without an index needs neither

    thing, again = f"index {digest[:12]} of {of}", "nothing was switched; run again: a damaged index is made anew"
    try:
        if (actual := read_manifest(folder)["digest"]) != digest:
            raise StateError(thing, f"digest {actual[:12]} in {folder}", digest[:12], again)
        index = open_index(folder)
    except StateError as err:
        raise StateError(thing, err.value, err.expected, again) from err
    return {"digest": digest, "probes": len(index.about["probes"]), "retrievers": sorted(index.about["top"])}


def replayed_on_return(release: Release) -> dict[str, Any]:
    """The same of a release that comes back, where its folder can be read from here; else why not: a rollback works
    without the store. Empty for a release without an index."""
    if release.retrieval is None:
        return {}
    folder, digest = Path(release.path) / INDEX, release.retrieval.index
    if is_present(folder / MANIFEST):
        return replayed(folder, digest, f"release {release.name}")
    return {"digest": digest, "refused": "its files lie on the target only, which reads every byte of them"}


def _inputs(artifact: Artifact) -> dict[str, Any]:
    return dict(artifact.manifest["provenance"].get("inputs", {}))


def _input(cls: type[A], artifact: Artifact, name: str) -> A:
    """An input of an artifact, with the digest that its manifest names."""
    thing, inputs = f"{name} of {artifact.kind} {artifact.path}", _inputs(artifact)
    if name not in inputs:
        raise StateError(thing, "not named by its manifest", "the inputs of its stage", _AGAIN)
    loaded = load(cls, resolve(inputs[name], artifact.path))
    if loaded.digest != inputs[name]["digest"]:
        raise StateError(thing, f"made again as {loaded.digest[:12]}", str(inputs[name]["digest"])[:12], _AGAIN)
    return loaded
