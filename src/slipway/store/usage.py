"""What lies in a store: every entry by what wrote it, its bytes, and, for artifacts, what they were made from. Reads
only.

What Slipway writes is known by its place and the form of its name, and an artifact by its manifest. Everything else (a
folder without a manifest, a symlink, a file of somebody's) is `unknown`: nobody removes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.system.json_files import read_json
from slipway.system.locks import FOREVER, shared

KINDS = frozenset(cls.kind for cls in Artifact.__subclasses__())
USE_LOCK = "in-use.lock"  # shared by whoever works with the store, exclusive for who cleans it up
WORK, RUNS, SERVICES, TARGETS, SERVE, WATCH = "work", "runs", "services", "targets", "serve", "watch"
INDEX_POINTER = "current-index"  # key of the index that `slipway rag search` opens, and its retriever
_RECORDS = (INDEX_POINTER, "last-run.json", "pending-aliases.json", "key-format.json", "code-versions.json")
_MESSAGES = ("notified.json", "notified.json.lock", "pending-messages.json", "pending-messages.json.lock")
_MEASURED = ("measurements.jsonl", "measurements.lock")
_PACKED = ("bundles", "bundles.lock", "bundles.claims", "signing")  # for other machines; their signer's key
_OTHERS = frozenset(
    {RUNS, SERVICES, TARGETS, SERVE, WATCH, "dvc-remote", "tune", *_RECORDS, *_MESSAGES, *_MEASURED, USE_LOCK, *_PACKED}
)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_DAMAGED = re.compile(rf"{_KEY.pattern}\.damaged-\d+")
_HALF_WRITTEN = re.compile(r"\.tmp-[A-Za-z0-9_-]*-\d+")
_WORK_FOLDER = re.compile(r"[a-z_]+-[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """Something in the store. `what`: an artifact's kind, or `damaged`, `half-written`, `work`, `lock`, `unknown`;
    `name`: its name in its folder, the key of an artifact; `bytes`: what removing it would free; `made`: seconds since
    the epoch.

    Of an artifact: `digest`, `stage`, and the digests of its `inputs`.
    """

    what: str
    name: str
    path: Path
    bytes: int
    made: float
    digest: str = ""
    stage: str = ""
    inputs: tuple[str, ...] = field(default=())
    key_format: int = 0

    @property
    def is_artifact(self) -> bool:
        """Whether it is a complete artifact."""
        return self.what in KINDS


@contextmanager
def in_use(root: Path) -> Iterator[None]:
    """For the time of the block nothing is removed from the store at `root`; waits while somebody does that."""
    with shared(root / USE_LOCK, FOREVER, of=f"store {root}"):
        yield


def entries(root: Path) -> list[Entry]:
    """Everything in the store at `root` but services, targets and run records, by folder and name. Empty without a
    store."""
    if not root.is_dir():
        return []
    listed: list[Entry] = []
    for path in sorted(root.iterdir()):
        if path.name in KINDS and path.is_dir():
            listed += [_in_kind(path.name, child) for child in sorted(path.iterdir())]
        elif path.name == WORK and path.is_dir() and not path.is_symlink():
            listed += [_in_work(child) for child in sorted(path.iterdir())]
        elif path.name not in _OTHERS:
            listed.append(_entry("unknown", path))
    return listed


def freed_bytes(path: Path) -> int:
    """Bytes that go when `path` is removed: sizes of files that have no other name (a release links its engine's)."""
    if path.is_symlink():
        return 0
    return sum(status.st_size for status in _files(path) if status.st_nlink == 1)


def _files(path: Path) -> Iterator[os.stat_result]:
    if not path.is_dir():
        yield path.lstat()
        return
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = Path(folder, name).lstat()
            except FileNotFoundError:  # somebody works in there
                continue
            if not Path(folder, name).is_symlink():
                yield status


def _entry(what: str, path: Path, **more: Any) -> Entry:
    return Entry(what, path.name, path, freed_bytes(path), path.lstat().st_mtime, **more)


def _in_kind(kind: str, path: Path) -> Entry:
    """What lies in the folder of one kind."""
    if path.is_symlink() or not path.is_dir():
        return _entry("unknown", path)
    if _DAMAGED.fullmatch(path.name):
        return _entry("damaged", path)
    if _HALF_WRITTEN.fullmatch(path.name):
        return _entry("half-written", path)
    manifest = _manifest(path)
    if manifest.get("kind") != kind or manifest.get("key") != path.name:
        return _entry("unknown", path)
    provenance = manifest["provenance"]
    inputs = tuple(sorted(ref["digest"] for ref in provenance.get("inputs", {}).values()))
    return _entry(
        kind,
        path,
        digest=manifest["digest"],
        stage=provenance.get("stage", ""),
        inputs=inputs,
        key_format=provenance.get("key_format", 1),
    )


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest there; empty when it is missing, garbage, or lacks what is read of it."""
    try:
        document = read_json(path / MANIFEST, "manifest", "")
        provenance = document["provenance"]
        whole = isinstance(document["digest"], str) and isinstance(provenance.get("key_format", 1), int)
        whole = whole and all(isinstance(ref["digest"], str) for ref in provenance.get("inputs", {}).values())
    except (StateError, KeyError, TypeError, AttributeError):
        return {}
    return document if whole else {}


def _in_work(path: Path) -> Entry:
    """A stage's work folder, its lock, or something else."""
    if path.is_symlink():
        return _entry("unknown", path)
    if path.is_dir() and _HALF_WRITTEN.fullmatch(path.name):
        return _entry("half-written", path)
    if path.is_dir() and _WORK_FOLDER.fullmatch(path.name):
        return _entry("work", path)
    if path.is_file() and _WORK_FOLDER.fullmatch(path.stem) and path.suffix == ".lock":
        return _entry("lock", path)
    return _entry("unknown", path)
