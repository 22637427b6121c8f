"""Releases on a target: one directory each, one pointer, one history.

    <root>/releases/0001-3fa9c1d2/   number and first hex digits of the engine's digest
        engine/                      the engine artifact, hard linked where the file system allows
        release.json card.md verdict.json smoke.jsonl
        endpoint.json engine.log     of its process, while it has one
    <root>/current                   symlink to the serving release, replaced in one rename
    <root>/history.jsonl             every switch; what `rollback` steps back through

Clients follow `<root>/current/endpoint.json`: the port changes with every switch.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from slipway.errors import CheckpointError
from slipway.store.artifacts import MANIFEST, Engine
from slipway.store.store import load, verify
from slipway.system.files import disk_full_is_named, fsync_directory, fsync_tree, write_atomic
from slipway.system.locks import locked

TMP = ".tmp-"


class Release(BaseModel):
    """A shipped engine, as `release.json` tells it. `path` is its directory on the target."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str
    model: str
    created: str
    digests: dict[str, str]
    runs: dict[str, str] = {}
    outcome: str
    smoke: list[dict[str, Any]] = []
    reused: bool = False

    @property
    def engine(self) -> Engine:
        """The released engine as an artifact of its own: it can be evaluated again after the store was pruned."""
        return load(Engine, Path(self.path) / "engine")


class Releases:
    """The release directories under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self._folder = self.root / "releases"

    @contextmanager
    def lock(self, action: str, timeout_s: float) -> Iterator[None]:
        """One change of the target at a time; a second waits up to `timeout_s`, then ResourceError naming the first."""
        with locked(self.root / "lock", timeout_s, action, of=f"target {self.root}"):
            with disk_full_is_named(self.root):
                self._folder.mkdir(parents=True, exist_ok=True)
            yield

    def dir(self, name: str) -> Path:
        return self._folder / name

    def names(self) -> list[str]:
        """Complete releases, oldest first."""
        return sorted(p.name for p in self._folder.glob("[0-9]*-*")) if self._folder.is_dir() else []

    def read(self, name: str) -> Release:
        return Release.model_validate_json((self.dir(name) / "release.json").read_text()).model_copy(
            update={"path": str(self.dir(name))}
        )

    def current(self) -> str | None:
        """Name of the release that the pointer names, None when there is none."""
        pointer = self.root / "current"
        return pointer.resolve().name if pointer.exists() else None

    def point(self, name: str | None) -> None:
        """Switch the pointer in one rename; readers see the old release or the new. None removes it."""
        pointer, fresh = self.root / "current", self.root / f".current.{os.getpid()}"
        if name is None:
            pointer.unlink(missing_ok=True)
            return
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("releases") / name)
        fresh.replace(pointer)
        fsync_directory(self.root)

    def next_name(self, digest: str) -> str:
        """The number after every number ever used here."""
        used = [int(n.split("-")[0]) for n in [*self.names(), *(h["release"] for h in self.history())]]
        return f"{max(used, default=0) + 1:04d}-{digest[:8]}"

    def stage(self, name: str, engine: Engine, documents: Mapping[str, str]) -> None:
        """Make the release directory: complete, on the disk and of the engine's digest, or not there at all."""
        tmp = self._folder / f"{TMP}{name}"
        with disk_full_is_named(tmp):
            try:
                for file in sorted(p for p in engine.path.rglob("*") if p.is_file()):
                    _link(file, tmp / "engine" / file.relative_to(engine.path))
                self._check(tmp / "engine", engine.digest)
                for document, text in documents.items():
                    (tmp / document).write_text(text)
                fsync_tree(tmp)
                tmp.rename(self.dir(name))
                fsync_directory(self._folder)
            finally:
                shutil.rmtree(tmp, ignore_errors=True)

    def check(self, name: str) -> None:
        """CheckpointError unless the engine of this release is, byte for byte, what was released."""
        self._check(self.dir(name) / "engine", self.read(name).digests["engine"])

    def _check(self, path: Path, digest: str) -> None:
        problem = verify(path) if (path / MANIFEST).exists() else "no manifest"
        if problem is None and (found := load(Engine, path).digest) != digest:
            problem = f"digest {found[:12]}"
        if problem:
            raise CheckpointError(
                f"engine {path.parent.name}", problem, f"intact bytes of digest {digest[:12]}", "run the pipeline again"
            )

    def write(self, name: str, document: str, text: str) -> None:
        with disk_full_is_named(self.dir(name)):
            write_atomic(self.dir(name) / document, text)

    def remove(self, name: str) -> None:
        """Delete a release, whole: renamed out of sight first, so that a crash leaves no half of it."""
        if self.dir(name).exists():
            doomed = self.dir(name).rename(self._folder / f"{TMP}{name}")
            shutil.rmtree(doomed)

    def sweep(self) -> None:
        """Delete what crashes left: half-made and half-removed directories, and releases that never served."""
        for path in self._folder.glob(f"{TMP}*"):
            shutil.rmtree(path)
        served = {h["release"] for h in self.history()}
        for name in self.names():
            if name not in served and name != self.current():
                self.remove(name)

    def history(self) -> list[dict[str, Any]]:
        file = self.root / "history.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def record(self, action: str, name: str) -> None:
        """Append to the history, whole line or none."""
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "action": action, "release": name}
        with disk_full_is_named(self.root):
            write_atomic(self.root / "history.jsonl", "".join(json.dumps(e) + "\n" for e in [*self.history(), entry]))

    def served(self) -> list[str]:
        """The line of releases that led to the serving one, oldest first: a rollback steps back and forgets what it left."""
        return self._walk()[0]

    def withdrawn(self) -> set[str]:
        """First 8 digits of the engine digests that a rollback left and no promotion brought back since."""
        return self._walk()[1]

    def _walk(self) -> tuple[list[str], set[str]]:
        line: list[str] = []
        left: set[str] = set()
        for entry in self.history():
            name = entry["release"]
            if entry["action"] == "promote":
                line.append(name)
                left.discard(_digest8(name))
            else:
                at = line.index(name) + 1
                left |= {_digest8(gone) for gone in line[at:]}
                del line[at:]
        return line, left

    def previous(self) -> str | None:
        """What a rollback would go to: the last release before the serving one that is still kept."""
        kept = self.names()
        return next((n for n in reversed(self.served()[:-1]) if n in kept), None)

    def reconcile(self) -> None:
        """Record a switch that a crash kept out of the history; the pointer is the truth."""
        current, line = self.current(), self.served()
        if current is not None and line[-1:] != [current]:
            self.record("rollback" if current in line else "promote", current)

    def prune(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` releases, never the serving or the previous one; names of the deleted."""
        kept = {self.current(), self.previous()} - {None}
        for name in reversed(self.names()):
            if len(kept) < keep:
                kept.add(name)
        doomed = [n for n in self.names() if n not in kept]
        for name in doomed:
            self.remove(name)
        return doomed


def _digest8(name: str) -> str:
    return name.rsplit("-", 1)[-1]


def _link(source: Path, to: Path) -> None:
    """Hard link: no bytes are copied. A copy where links cannot be made."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError as err:
        if err.errno not in (EXDEV, EPERM, EMLINK, ENOTSUP):
            raise
        shutil.copy2(source, to)
