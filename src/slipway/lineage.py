"""What an artifact was made from, read from manifests: each names its inputs by uri and digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.artifacts import MANIFEST, Artifact


@dataclass(frozen=True)
class Ancestor:
    """An artifact in the history of another. `provenance` is empty when its bytes were pruned; the digest still names it."""

    kind: str
    stage: str
    uri: str
    digest: str
    provenance: dict[str, Any]


def lineage(*artifacts: Artifact) -> list[Ancestor]:
    """The artifacts and all they were made from, nearest first, each digest once."""
    todo = [(a.kind, a.uri, a.digest) for a in artifacts]
    found: dict[str, Ancestor] = {}
    while todo:
        kind, uri, digest = todo.pop(0)
        if digest in found:
            continue
        provenance = _provenance(Path(uri), digest)
        found[digest] = Ancestor(kind, provenance.get("stage", ""), uri, digest, provenance)
        todo += [(i["kind"], i["uri"], i["digest"]) for i in provenance.get("inputs", {}).values()]
    return list(found.values())


def digests(*artifacts: Artifact) -> dict[str, str]:
    """Kind -> digest of the nearest ancestor of each kind."""
    nearest: dict[str, str] = {}
    for ancestor in lineage(*artifacts):
        nearest.setdefault(ancestor.kind, ancestor.digest)
    return nearest


def _provenance(path: Path, digest: str) -> dict[str, Any]:
    """Of the artifact at `path`; empty when it is gone or has been made again with other bytes."""
    file = path / MANIFEST
    doc: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return dict(doc["provenance"]) if doc.get("digest") == digest else {}
