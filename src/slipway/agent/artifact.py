"""Artifacts as a target sees them: a folder whose `manifest.json` lists every file with size and sha256.

    digest = sha256 of {"files": [{"path", "sha256", "size"}...], "kind"} as canonical JSON

Short because the store, which makes artifacts, has the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slipway.agent.files import canonical, sha256_bytes, sha256_file
from slipway.agent.records import Fields, is_present, read_json
from slipway.errors import CheckpointError, StateError

MANIFEST = "manifest.json"
_AGAIN = "run the pipeline again"


def digest_of(kind: str, files: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over kind and files (path, size, sha256 each, sorted by path), hex: it names the bytes."""
    return sha256_bytes(canonical({"kind": kind, "files": list(files)}))


def file_problem(folder: Path, files: Iterable[Mapping[str, Any]]) -> str | None:
    """None when every one of `files` is there with its size and sha256; else what is wrong with the first that is
    not."""
    for want in files:
        name, file = want["path"], folder / want["path"]
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != want["size"]:
            return f"{name} has {file.stat().st_size} bytes, manifest says {want['size']}"
        if sha256_file(file) != want["sha256"]:
            return f"{name} has another sha256 than the manifest"
    return None


def listed_files(folder: Path) -> list[dict[str, Any]]:
    """What the manifest of the artifact in `folder` lists: `path`, `size`, `sha256` each. Raises StateError for a
    manifest that is absent, damaged or does not follow from its files."""
    file, thing = folder / MANIFEST, "manifest of an artifact"
    fields = Fields(document := read_json(file, thing, _AGAIN), f"{thing}: {file}", _AGAIN)
    files = [_listed(row, f"{thing}: {file}") for row in fields.objects("files")]
    if fields.text("digest") != digest_of(fields.text("kind"), document["files"]):
        raise StateError(f"{thing}: {file}", "its digest does not match its files", "the manifest as written", _AGAIN)
    return files


def require_intact(folder: Path, digest: str, thing: str) -> None:
    """Raises CheckpointError unless the artifact in `folder` has this digest, byte for byte; `thing` is its name in the
    error."""
    try:
        listed = listed_files(folder) if is_present(folder / MANIFEST) else None
        problem = "no manifest" if listed is None else file_problem(folder, listed)
        if problem is None and (actual := read_json(folder / MANIFEST, "manifest", _AGAIN)["digest"]) != digest:
            problem = f"digest {actual[:12]}"
    except StateError as err:
        problem = f"manifest unreadable: {err.value}"
    if problem:
        raise CheckpointError(thing, problem, f"intact bytes of digest {digest[:12]}", _AGAIN)


def _listed(row: Mapping[str, Any], thing: str) -> dict[str, Any]:
    fields = Fields(row, f"{thing}, files", _AGAIN)
    name = fields.text("path")
    if not name or name.startswith("/") or ".." in Path(name).parts:
        raise StateError(thing, f"path {name}", "a path below its folder", _AGAIN)
    return {"path": name, "size": fields.integer("size"), "sha256": fields.text("sha256", pattern="[0-9a-f]{64}")}
