"""How documents name artifacts, so that a store can move: `{"uri", "kind", "digest"}`, the uri relative to the store's
root.

Manifests, stage files and virtual checkpoints lie in the store; what they name is looked for from where they lie now. A
uri is absolute only where the artifact lies outside of the store. Absolute uris that lead nowhere (written by older
versions, or from a store that has moved since) are looked for by kind and key. The digest decides: another artifact at
the place is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.system.json_files import read_json


def reference_to(artifact: Artifact, root: Path) -> dict[str, str]:
    """How a document in the store at `root` names this artifact."""
    path, root = artifact.path.resolve(), root.resolve()
    uri = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return {"uri": uri, "kind": artifact.kind, "digest": artifact.digest}


def resolve(reference: Mapping[str, Any], *documents: Path) -> Path:
    """The directory of the artifact that a document names. `documents`: paths in the store to start from, the
    document's first.

    Where none has the digest: the first that exists, else the place where it should be; opening that says what is
    wrong. Raises StateError when the reference is none.
    """
    if not all(isinstance(reference.get(key), str) for key in ("uri", "kind", "digest")):
        raise StateError(
            f"reference in {documents[0] if documents else 'a document'}",
            str(dict(reference))[:200],
            "uri, kind and digest",
            "run the pipeline again: it makes what is damaged",
        )
    places = list(dict.fromkeys(_places(reference, documents)))
    same = (place for place in places if _digest(place) == reference["digest"])
    there = (place for place in places if place.exists())
    return next(same, None) or next(there, places[0])


def _places(reference: Mapping[str, Any], documents: tuple[Path, ...]) -> Iterator[Path]:
    uri = PurePosixPath(reference["uri"])
    if uri.is_absolute():
        yield Path(uri)
    for document in documents:
        # An artifact's document is at <root>/<kind>/<key>: its root is tried first, then folders above and below that.
        parents = list(document.absolute().parents)
        for folder in [*parents[1:], *parents[:1]]:
            if not uri.is_absolute():
                yield folder / uri
            yield folder / str(reference["kind"]) / uri.name


def _digest(path: Path) -> str | None:
    """What the manifest there says; None without one that can be read."""
    if not (path / MANIFEST).is_file():
        return None
    try:
        return str(read_json(path / MANIFEST, "manifest", "").get("digest"))
    except StateError:
        return None
