"""The manifest of an artifact: `manifest.json`, written last, read by whoever uses, verifies or traces the artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slipway.system.json_files import as_model, read_json

MANIFEST = "manifest.json"


class FileEntry(BaseModel):
    """One file of the artifact: path below its directory, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


class Reference(BaseModel):
    """How a document names another artifact."""

    uri: str
    kind: str
    digest: str


class Provenance(BaseModel):
    """What made the artifact, as far as others rely on it; manifests hold more."""

    stage: str = ""
    params: dict[str, Any] = {}
    inputs: dict[str, Reference] = {}


class Manifest(BaseModel):
    """What every manifest must hold."""

    kind: str
    digest: str
    key: str
    files: list[FileEntry]
    provenance: Provenance


def read_manifest(artifact: Path) -> dict[str, Any]:
    """The manifest of the artifact in this directory, whole. Raises StateError when it is absent, damaged or no
    manifest."""
    file, what = artifact / MANIFEST, "manifest of an artifact"
    mend = f"delete {artifact} and run again: what is missing is made anew"
    document = read_json(file, what, mend)
    as_model(Manifest, document, f"{what}: {file}", mend)
    return document
