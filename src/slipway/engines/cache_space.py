"""Room for the caches that servers write to: one folder a start, and the least recently used go first.

    ROOT = engine.cache_dir
    ROOT/<digest of the work folder>/start.json    whose start it is; its mtime is when it was last used
    ROOT/<digest of the work folder>/cache/        what the server writes to

A start is in use while its work folder records a server (`serving.json`), which a killed orchestrator leaves behind and
the next start adopts or ends; and where the caller says so, for a release that serves or can be rolled back to. What
is in use is never removed, whatever the limit. Bundles' own caches lie in the store and are its garbage collector's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ConfigError, StateError
from slipway.system.files import remove, sha256_bytes, write_atomic
from slipway.system.json_files import read_json
from slipway.system.locks import locked

OWNER, CACHE, LOCK = "start.json", "cache", "room.lock"
IN_USE = "serving.json"  # of a work folder (engines/serving.py)
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "lustre", "glusterfs", "fuse.glusterfs", "9p")
LOCK_S = 60.0


@dataclass(frozen=True)
class StartCaches:
    """The caches of one start. `work`: the start's own work folder; `used_ns`: when it was last used."""

    folder: Path
    work: Path
    nbytes: int
    used_ns: int


def start_cache(root: Path, work: Path, limit_bytes: int, keep: Collection[Path] = ()) -> Path:
    """The empty cache folder of a start that is about to begin in `work`, after room was made for it: others in `root`
    go, least recently used first, until all fit `limit_bytes`. `keep`: work folders whose caches stay.

    Raises ConfigError for a root on a network file system, where mtimes and locks are not what they are here, and
    ResourceError when another start makes room for longer than a minute.
    """
    if (kind := file_system(root)) in NETWORK:
        raise ConfigError("engine.cache_dir", f"{root} is on {kind}", "a folder of a local disk", "choose another")
    folder = root / sha256_bytes(str(work.resolve()).encode())[:16]
    with locked(root / LOCK, LOCK_S, "a start's caches", of=f"caches in {root}"):
        remove(folder)
        make_room(root, limit_bytes, keep)
        (folder / CACHE).mkdir(parents=True)
        write_atomic(folder / OWNER, json.dumps({"work": str(work.resolve())}) + "\n")
    return folder / CACHE


def make_room(root: Path, limit_bytes: int, keep: Collection[Path] = ()) -> list[StartCaches]:
    """Remove starts that are not in use, least recently used first, until all take `limit_bytes` at most; returns what
    went. What is in use may alone take more."""
    starts = sorted(start_caches(root), key=lambda start: start.used_ns)
    kept = {work.resolve() for work in keep}
    total, gone = sum(start.nbytes for start in starts), []
    for start in starts:
        if total <= limit_bytes:
            break
        if start.work not in kept and not (start.work / IN_USE).exists():
            remove(start.folder)
            total -= start.nbytes
            gone.append(start)
    return gone


def start_caches(root: Path) -> Iterator[StartCaches]:
    """Every start with caches in `root`. What Slipway did not make is left alone."""
    for file in sorted(root.glob(f"*/{OWNER}")):
        try:
            work = Path(str(read_json(file, "owner of caches", f"delete {file.parent}")["work"]))
        except (StateError, KeyError):
            continue
        yield StartCaches(file.parent, work, folder_bytes(file.parent), file.stat().st_mtime_ns)


def file_system(path: Path) -> str:
    """Type of the file system that a path lies on, or will when it is made; empty where nobody says."""
    import psutil

    place = path.resolve()
    while not place.exists():
        place = place.parent
    mounts = [p for p in psutil.disk_partitions(all=True) if place.is_relative_to(p.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below; one that goes meanwhile has none."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(directory) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total
