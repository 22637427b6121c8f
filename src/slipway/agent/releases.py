"""Releases on a target: one directory each, one pointer, one history (`history.py`).

<root>/releases/0001-3fa9c1d2/   number and first hex digits of the engine's digest
    engine/                      the engine artifact, hard linked where the file system allows
    index/                       the index artifact that goes with it, where the release is searched with one
    release.json start.json card.md report.html verdict.json smoke.jsonl ...
    endpoint.json engine.log     of its engine, while it has one
<root>/current                   symlink to the serving release, replaced in one rename
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from errno import EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path
from typing import Any

from slipway.agent.artifact import MANIFEST, listed_files
from slipway.agent.files import as_resource_error, disk_full_is_named, fsync_directory, fsync_tree, write_atomic
from slipway.agent.history import PROMOTE, ROLLBACK, History
from slipway.agent.paths import DIGEST, ENGINE, INDEX, NAME, TargetPaths
from slipway.agent.records import Fields, is_present, read_json, read_text
from slipway.errors import ConfigError, StateError

TMP = ".tmp-"
RECORD = "release.json"


class Releases:
    """The release directories under one root, with the pointer and the history beside them. Changes are for whoever
    holds the target's lock."""

    def __init__(self, paths: TargetPaths) -> None:
        self.paths = paths
        self.history = History(paths.history)

    def dir(self, name: str) -> Path:
        """The directory of a release. Raises StateError for what is no release's name."""
        return self.paths.release(name)

    def names(self) -> list[str]:
        """Complete releases, oldest first. What has another kind of name is not ours and is passed over."""
        folders = self.paths.releases.iterdir() if self.paths.releases.is_dir() else ()
        return sorted(p.name for p in folders if re.fullmatch(NAME, p.name) and p.is_dir())

    def read(self, name: str) -> dict[str, Any]:
        """The record of a release, `path` being where it lies now. Raises StateError when it cannot be read or is
        another's."""
        file, what = self.dir(name) / RECORD, f"record of release {name}"
        mend = f"put back a copy of it; or delete {self.dir(name)} and promote its engine again"
        if Path(os.path.realpath(self.paths.pointer)).name == name:
            mend = "put back a copy of it; or `slipway rollback TARGET` to a release before it"
        document = read_json(file, what, mend)
        fields = Fields(document, f"{what}: {file}", mend)
        for key in ("name", "model", "created", "outcome"):
            fields.text(key)
        fields.text_map("runs", {})
        if "engine" not in fields.text_map("digests"):
            raise StateError(f"{what}: {file}", "digests name no engine", "a digest of the engine", mend)
        carried_index(document)
        if document["name"] != name:
            raise StateError(f"{what}: {file}", f"about {document['name']}"[:200], f"about {name}", mend)
        return {**document, "path": str(self.dir(name))}

    def records(self) -> tuple[dict[str, dict[str, Any]], dict[str, StateError]]:
        """The records of the releases by name, oldest first; and, of those whose record is damaged, why it is."""
        records, damaged = {}, {}
        for name in self.names():
            try:
                records[name] = self.read(name)
            except StateError as err:
                damaged[name] = err
        return records, damaged

    def current(self) -> str | None:
        """Name of the release that the pointer names, None when there is no pointer.

        Raises StateError when the pointer is no symlink or names no release that is here: nobody can tell then what
        serves.
        """
        pointer = self.paths.pointer
        if not is_present(pointer):
            return None
        value = str(pointer.readlink()) if pointer.is_symlink() else "no symlink"
        name, names = Path(value).name, self.names()
        if name not in names or os.path.realpath(pointer) != os.path.realpath(self.dir(name)):
            raise StateError(
                f"pointer {pointer}",
                value,
                f"a symlink to one of the releases {', '.join(names) or '(none)'}",
                f"`slipway stop`, then `ln -sfn releases/NAME {pointer}`, or delete it: then nothing counts as serving",
            )
        return name

    def point(self, name: str | None) -> None:
        """Switch the pointer in one rename; readers see the old release or the new. None removes it."""
        pointer, fresh = self.paths.pointer, self.paths.root / f".current.{os.getpid()}"
        if name is None:
            pointer.unlink(missing_ok=True)
            return
        with disk_full_is_named(self.paths.root):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(Path("releases") / name)
            fresh.replace(pointer)
            fsync_directory(self.paths.root)

    def next_name(self, digest: str) -> str:
        """A new release's name: the number after every number ever used here, and 8 digits of the engine's digest."""
        names = [*self.names(), *(switch.release for switch in self.history.switches())]
        used = [int(name.split("-")[0]) for name in names]
        return f"{max(used, default=0) + 1:04d}-{digest[:8]}"

    def stage(self, name: str, fill: Callable[[Path], None], documents: Mapping[str, str]) -> None:
        """Make the release directory: complete and on the disk, or not there at all; its bytes are for `check`.

        `fill` makes what is in it but the documents. Raises ConfigError for a document's name that is none,
        ResourceError when the disk is full.
        """
        tmp = self.paths.releases / f"{TMP}{name}"
        with disk_full_is_named(tmp):
            try:
                shutil.rmtree(tmp, ignore_errors=True)
                tmp.mkdir(parents=True)
                fill(tmp)
                for document, text in documents.items():
                    _write_document(tmp / document_name(document), text)
                fsync_tree(tmp)
                tmp.rename(self.dir(name))
                fsync_directory(self.paths.releases)
            finally:
                shutil.rmtree(tmp, ignore_errors=True)

    def check(self, name: str) -> str:
        """Who signed the release, for a person. Raises CheckpointError or BundleError unless it is what was released:
        byte for byte the first time, and whenever it is not as it was sealed then."""
        from slipway.agent.bundle.release import verify_release  # layers and signatures: a look needs none of it

        return verify_release(self.paths.root, self.dir(name), full=False)

    def write(self, name: str, document: str, content: Mapping[str, Any]) -> None:
        """Write a document of a release as JSON, whole or not at all. Raises ResourceError when the disk is full."""
        with disk_full_is_named(self.dir(name)):
            write_atomic(self.dir(name) / document_name(document), json.dumps(content, indent=1) + "\n")

    def remove(self, name: str) -> None:
        """Delete a release, whole: renamed out of sight first, so that a crash leaves no half of it."""
        if self.dir(name).exists():
            shutil.rmtree(self.dir(name).rename(self.paths.releases / f"{TMP}{name}"))

    def sweep(self) -> None:
        """Delete what crashes left: half-made and half-removed directories, and releases that never served."""
        for path in self.paths.releases.glob(f"{TMP}*"):
            shutil.rmtree(path)
        served = {switch.release for switch in self.history.switches()}
        for name in self.names():
            if name not in served and name != self.current():
                self.remove(name)

    def previous(self) -> str | None:
        """What a rollback goes to: the last release before the serving one that is still kept."""
        return next(iter(self.returnable()), None)

    def returnable(self) -> list[str]:
        """Releases that a rollback can bring back: on disk, with a record that can be read, and served in the line that
        led to the serving one; the last one first."""
        records, _ = self.records()
        return [name for name in reversed(self.history.line()[:-1]) if name in records]

    def reconcile(self) -> None:
        """Record a switch that a crash kept out of the history; the pointer is the truth."""
        current, line = self.current(), self.history.line()
        if current is not None and line[-1:] != [current]:
            self.history.record(ROLLBACK if current in line else PROMOTE, current)

    def prune(self, keep: int, held: frozenset[str] = frozenset(), *, dry_run: bool = False) -> list[str]:
        """Delete all but the newest `keep` releases, never the serving or the previous one, nor one of `held`, nor one
        whose record is damaged (a copy may be put back); names of the deleted, or, with `dry_run`, of those that would
        be."""
        held |= self.records()[1].keys()
        retained = {self.current(), self.previous()} - {None} | held
        for name in reversed(self.names()):
            if len(retained - held) < keep:
                retained.add(name)
        doomed = [name for name in self.names() if name not in retained]
        for name in doomed if not dry_run else ():
            self.remove(name)
        return doomed


def carried_index(record: Mapping[str, Any]) -> str:
    """The digest of the index that a release carries by its record; empty for one that carries none. Raises StateError
    for a record that says it otherwise."""
    thing, mend = f"record of release {record.get('name')}, retrieval", "promote its engine again"
    retrieval = Fields(record, thing, mend).document("retrieval", {})
    return Fields(retrieval, thing, mend).text("index", pattern=DIGEST) if retrieval else ""


def link_engine(source: Path, folder: Path) -> None:
    """Fill `folder` with the files of the engine artifact at `source`: hard links where the file system allows, copies
    elsewhere; no bytes are read. Raises StateError for a damaged manifest, ResourceError for a file that cannot be
    read."""
    for file in [MANIFEST, *(row["path"] for row in listed_files(source))]:
        try:
            _link(source / file, folder / file)
        except FileNotFoundError:
            continue  # the check that follows names it
        except PermissionError as err:
            raise as_resource_error(err) from err


def _link(source: Path, to: Path) -> None:
    """Hard link: no bytes are copied. A copy where links cannot be made."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError as err:
        if err.errno not in (EXDEV, EPERM, EMLINK, ENOTSUP):
            raise
        shutil.copy2(source, to)


def _write_document(file: Path, text: str) -> None:
    """A new file. One that a bundle brought is a name of a layer's bytes and is never written to: it holds this very
    text, or the request is refused."""
    if is_present(file):
        if read_text(file, "document of a bundle", "deliver the release again") != text:
            expected = "the same text in bundle and request"
            raise ConfigError(f"document {file.name} of a release", "two texts", expected, "deliver the release again")
        return
    file.write_text(text, encoding="utf-8")


def document_name(name: str) -> str:
    """A file's name in a release. Raises ConfigError for one that leads elsewhere or is hidden."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in (ENGINE, INDEX):
        raise ConfigError("document of a release", name[:200], "a plain file name", "name it like card.md")
    return name
