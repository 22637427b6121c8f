"""The artifact store: directories that are complete or do not exist, addressed by what made them.

    <store>/<kind>/<key>/            the bytes of one artifact
    <store>/<kind>/<key>/manifest.json   written last; a directory without it does not exist

`digest` = sha256 over the kind and every file's path, size and sha256: it names the bytes.
`key`    = sha256 over inputs' digests, params, code and (engines) hardware: it names how they came to be.
Same key and intact bytes: reuse. Damaged bytes: a miss with a warning, never an error and never used.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.links import mend_links
from slipway.store.manifest import read_manifest
from slipway.store.placed import PLACED, placed, placed_files
from slipway.system.files import (
    canonical,
    disk_full_is_named,
    fsync_directory,
    fsync_tree,
    sha256_bytes,
    sha256_file,
    write_atomic,
)
from slipway.system.json_files import is_present

A = TypeVar("A", bound=Artifact)


def list_files(root: Path) -> list[dict[str, Any]]:
    """Every regular file under `root` but the manifest: path, size in bytes, sha256; sorted by path."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.relative_to(root).as_posix() != MANIFEST)
    return [{"path": p.relative_to(root).as_posix(), "size": p.stat().st_size, "sha256": sha256_file(p)} for p in files]


def digest_of(kind: str, files: list[dict[str, Any]]) -> str:
    """sha256 over kind and `list_files`, hex: it names the bytes."""
    return sha256_bytes(canonical({"kind": kind, "files": files}))


class Store:
    """Artifacts under one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def dir(self, kind: str, key: str) -> Path:
        """Where the artifact of this kind and key lies, made or not."""
        return self.root / kind / key

    def find(self, cls: type[A], key: str) -> A | None:
        """The intact artifact of this key, or None; files of it may lie on another machine (`store/placed.py`). A
        damaged one is reported as a warning, moved aside and counts as absent."""
        path = self.dir(cls.kind, key)
        if not is_present(path / MANIFEST):
            return None
        mend_links(path, self.root)
        problem = verify(path, elsewhere=True)
        if problem is None:
            return load(cls, path)
        aside = path.with_name(f"{path.name}.damaged-{os.getpid()}")
        path.rename(aside)
        warnings.warn(f"artifact {path} is damaged ({problem}); moved to {aside.name} and made again", stacklevel=2)
        return None

    @contextmanager
    def create(self, cls: type[A], key: str, provenance: Mapping[str, Any]) -> Iterator[Path]:
        """Yield a temporary directory; when the block ends well it becomes the artifact, in one rename. On error
        nothing is left."""
        final = self.dir(cls.kind, key)
        tmp = final.parent / f".tmp-{key[:16]}-{os.getpid()}"
        with disk_full_is_named(final):
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(parents=True)
            try:
                yield tmp
                seal(tmp, cls.kind, key, provenance)
                if final.exists():
                    shutil.rmtree(final)
                tmp.rename(final)
                fsync_directory(final.parent)
            finally:
                shutil.rmtree(tmp, ignore_errors=True)


def seal(path: Path, kind: str, key: str, provenance: Mapping[str, Any]) -> None:
    """Write the manifest of a finished directory, last, with everything before it on the disk."""
    files = list_files(path)
    fsync_tree(path)
    doc = {
        "schema": 1,
        "kind": kind,
        "key": key,
        "digest": digest_of(kind, files),
        "files": files,
        "provenance": provenance,
    }
    write_atomic(path / MANIFEST, json.dumps(doc, indent=1, sort_keys=True) + "\n")


def sized(path: Path) -> bool:
    """Whether manifest and files are there, with the sizes that it names; files that lie on another machine are not
    missed. No byte is read: `verify` does that."""
    try:
        files = read_manifest(path)["files"]
        absent = placed_files(path)
    except StateError:
        return False
    here = [(path / file["path"], file["size"]) for file in files if file["path"] not in absent]
    return all(file.is_file() and file.stat().st_size == size for file, size in here)


def verify(path: Path, *, elsewhere: bool = False) -> str | None:
    """None when every file listed has its size and sha256; else what is wrong. `elsewhere`: files that lie on another
    machine only (`store/placed.py`) are not missed."""
    try:
        doc = read_manifest(path)
    except StateError as err:
        return f"manifest unreadable: {err.value}"
    try:
        there = placed(path)
    except StateError as err:
        return f"{PLACED} unreadable: {err.value}"
    listed = {f["path"]: f for f in doc["files"]}
    for name, want in listed.items():
        file = path / name
        if not file.is_file():
            if there and name in there.files:
                if elsewhere:
                    continue
                return f"{name} lies on {there.address} only"
            return f"{name} is missing"
        if file.stat().st_size != want["size"]:
            return f"{name} has {file.stat().st_size} bytes, manifest says {want['size']}"
        if sha256_file(file) != want["sha256"]:
            return f"{name} has another sha256 than the manifest"
    if doc.get("digest") != digest_of(doc.get("kind", ""), doc["files"]):
        return "the manifest's digest does not match its files"
    return None


def load(cls: type[A], path: Path) -> A:
    """The artifact at `path`, of the kind asked for. Raises StateError when it is absent, damaged or of another
    kind."""
    if not is_present(path / MANIFEST):
        raise StateError(f"artifact {path}", "no manifest", f"a complete {cls.kind}", "`slipway run` makes it")
    doc = read_manifest(path)
    if doc["kind"] != cls.kind:
        raise StateError(f"artifact {path}", doc["kind"], cls.kind, "pass the output of the right stage")
    return cls(uri=str(path), digest=doc["digest"], key=doc["key"])
