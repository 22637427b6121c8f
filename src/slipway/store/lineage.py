"""What an artifact was made from, read from manifests: each names its inputs by uri and digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.manifest import read_manifest
from slipway.store.references import resolve
from slipway.system.json_files import is_present


@dataclass(frozen=True)
class Ancestor:
    """An artifact in the history of another. `role` is the path of input names that leads to it, the shortest.
    `provenance` is empty when its bytes were pruned; the digest still names it."""

    role: str
    kind: str
    stage: str
    uri: str
    digest: str
    provenance: dict[str, Any]


def lineage(*artifacts: Artifact) -> list[Ancestor]:
    """The artifacts and all they were made from, nearest first, each digest once."""
    # With each artifact the documents that led to it: a release lies outside of the store that its inputs lie in.
    todo: list[tuple[str, str, Path, str, tuple[Path, ...]]] = [("", a.kind, a.path, a.digest, ()) for a in artifacts]
    ancestors: dict[str, Ancestor] = {}
    while todo:
        role, kind, path, digest, documents = todo.pop(0)
        if digest in ancestors:
            continue
        provenance = _provenance(path, digest)
        ancestors[digest] = Ancestor(role or kind, kind, provenance.get("stage", ""), str(path), digest, provenance)
        inputs = provenance.get("inputs", {})
        documents = (path, *documents)
        todo += [
            (f"{role}.{name}".strip("."), ref["kind"], resolve(ref, *documents), ref["digest"], documents)
            for name, ref in inputs.items()
        ]
    return list(ancestors.values())


def digests(*artifacts: Artifact) -> dict[str, str]:
    """Kind -> digest of the nearest ancestor of each kind."""
    nearest: dict[str, str] = {}
    for ancestor in lineage(*artifacts):
        nearest.setdefault(ancestor.kind, ancestor.digest)
    return nearest


def _provenance(path: Path, digest: str) -> dict[str, Any]:
    """Of the artifact at `path`; empty when it is gone or has been made again with other bytes.

    Raises StateError when its manifest is there and damaged.
    """
    if not is_present(path / MANIFEST):
        return {}
    doc = read_manifest(path)
    return dict(doc["provenance"]) if doc["digest"] == digest else {}
