"""Releases on a target: one directory each, one pointer, one history.

    <root>/releases/0001-3fa9c1d2/   number and first hex digits of the engine's digest
        engine/                      the engine artifact, hard linked where the file system allows
        release.json card.md report.html verdict.json smoke.jsonl
        endpoint.json engine.log     of its process, while it has one
    <root>/current                   symlink to the serving release, replaced in one rename
    <root>/history.jsonl             every switch; what `rollback` steps back through

Clients follow `<root>/current/endpoint.json`: the port changes with every switch.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slipway.agent.holds import held_releases
from slipway.deployment.history import NAME, History
from slipway.deployment.policy import Asked
from slipway.errors import CheckpointError, StateError
from slipway.store.artifacts import MANIFEST, Engine
from slipway.store.store import load, verify
from slipway.system.files import as_resource_error, disk_full_is_named, fsync_directory, fsync_tree, write_atomic
from slipway.system.json_files import is_present, read_model
from slipway.system.locks import locked

TMP = ".tmp-"


class Release(BaseModel):
    """A shipped engine, as `release.json` describes it.

    `path` is its directory on the target, `model` its registered name, which is its line, `digests` one hex sha256 per
    kind of artifact, `runs` the ids of its tracking and flow runs, `outcome` the gate's, `asked` who wanted it (None in
    releases of earlier versions). `reused`: the promotion found it serving already.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=f"^{NAME}$")
    path: str
    model: str
    created: str
    digests: dict[str, str]
    runs: dict[str, str] = {}
    outcome: str
    asked: Asked | None = None
    smoke: list[dict[str, Any]] = []
    reused: bool = False

    @field_validator("digests")
    @classmethod
    def _engine_is_named(cls, digests: dict[str, str]) -> dict[str, str]:
        if "engine" not in digests:
            raise ValueError("a digest of the engine is expected")
        return digests

    @property
    def engine(self) -> Engine:
        """The released engine as an artifact of its own: it can be evaluated again after the store was pruned."""
        return load(Engine, Path(self.path) / "engine")


@dataclass(frozen=True)
class Stopped:
    """An engine process that was ended: its release, its pid, and where it answered, empty when no record says so."""

    release: str
    pid: int
    url: str


class Releases:
    """The release directories under one root, with the pointer and the history beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.history = History(self.root / "history.jsonl")
        self._folder = self.root / "releases"

    @contextmanager
    def lock(self, action: str, timeout_s: float) -> Iterator[None]:
        """One change of the target at a time; a second waits up to `timeout_s`, then ResourceError naming the first."""
        with locked(self.root / "lock", timeout_s, action, of=f"target {self.root}"):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as err:
                raise as_resource_error(err) from err
            yield

    def dir(self, name: str) -> Path:
        """The directory of a release."""
        return self._folder / name

    def names(self) -> list[str]:
        """Complete releases, oldest first. What has another kind of name is not ours and is passed over."""
        folders = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(p.name for p in folders if re.fullmatch(NAME, p.name) and p.is_dir())

    def read(self, name: str) -> Release:
        """The record of a release, `path` being where it lies now. Raises StateError when it cannot be read or is
        another's."""
        file = self.dir(name) / "release.json"
        mend = f"put back a copy of it; or delete {self.dir(name)} and promote its engine again"
        release = read_model(Release, file, f"record of release {name}", mend)
        if release.name != name:
            raise StateError(f"record of release {name}: {file}", f"about {release.name}", f"about {name}", mend)
        return release.model_copy(update={"path": str(self.dir(name))})

    def current(self) -> str | None:
        """Name of the release that the pointer names, None when there is no pointer.

        Raises StateError when the pointer is no symlink or names no release that is here: nobody can tell then what
        serves.
        """
        pointer = self.root / "current"
        if not is_present(pointer):
            return None
        value = str(pointer.readlink()) if pointer.is_symlink() else "no symlink"
        name = Path(value).name
        if (
            not pointer.is_symlink()
            or os.path.realpath(pointer) != os.path.realpath(self.dir(name))
            or name not in self.names()
        ):
            raise StateError(
                f"pointer {pointer}",
                value,
                f"a symlink to one of the releases {', '.join(self.names()) or '(none)'}",
                f"`slipway stop`, then `ln -sfn releases/NAME {pointer}`, or delete it: then nothing counts as serving",
            )
        return name

    def point(self, name: str | None) -> None:
        """Switch the pointer in one rename; readers see the old release or the new. None removes it."""
        pointer, fresh = self.root / "current", self.root / f".current.{os.getpid()}"
        if name is None:
            pointer.unlink(missing_ok=True)
            return
        with disk_full_is_named(self.root):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(Path("releases") / name)
            fresh.replace(pointer)
            fsync_directory(self.root)

    def next_name(self, digest: str) -> str:
        """A new release's name: the number after every number ever used here, and 8 digits of the engine's digest."""
        names = [*self.names(), *(switch.release for switch in self.history.switches())]
        used = [int(name.split("-")[0]) for name in names]
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
                    (tmp / document).write_text(text, encoding="utf-8")
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
        if problem is None and (actual := load(Engine, path).digest) != digest:
            problem = f"digest {actual[:12]}"
        if problem:
            raise CheckpointError(
                f"engine {path.parent.name}", problem, f"intact bytes of digest {digest[:12]}", "run the pipeline again"
            )

    def write(self, name: str, document: str, text: str) -> None:
        """Write a document of a release, whole or not at all. Raises ResourceError when the disk is full."""
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
        served = {switch.release for switch in self.history.switches()}
        for name in self.names():
            if name not in served and name != self.current():
                self.remove(name)

    def previous(self) -> str | None:
        """What a rollback would go to: the last release before the serving one that is still kept."""
        on_disk = self.names()
        return next((name for name in reversed(self.history.line()[:-1]) if name in on_disk), None)

    def reconcile(self) -> None:
        """Record a switch that a crash kept out of the history; the pointer is the truth."""
        current, line = self.current(), self.history.line()
        if current is not None and line[-1:] != [current]:
            self.history.record("rollback" if current in line else "promote", current)

    def prune(self, keep: int, spared: Collection[str] = ()) -> list[str]:
        """Delete all but the newest `keep` releases, never the serving, the previous or a held one, nor those in
        `spared`; names of the deleted."""
        retained = {self.current(), self.previous(), *held_releases(self.root), *spared} - {None}
        for name in reversed(self.names()):
            if len(retained) < keep:
                retained.add(name)
        doomed = [name for name in self.names() if name not in retained]
        for name in doomed:
            self.remove(name)
        return doomed


def _link(source: Path, to: Path) -> None:
    """Hard link: no bytes are copied. A copy where links cannot be made."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError as err:
        if err.errno not in (EXDEV, EPERM, EMLINK, ENOTSUP):
            raise
        shutil.copy2(source, to)
