"""What an engine compiled and tuned while it started: taken into the bundle, checked, and copied out for each start.

    BUNDLE/caches/manifest.json    the key document, and of each file: path, size, mtime (ns), mode, sha256
    BUNDLE/caches/files/...        the files, never written again and never mounted writable

Engines judge cached objects by mtime (ninja), or not at all (tuned tactics), and two engines on one directory corrupt
it. So each start gets a copy of its own, with the mtimes; each file is checked while it is copied; and one difference,
of the key or of a file, gives an empty directory and the reason: a cold start is slow, a wrong kernel is wrong.
Hard links would be one file under two names, so a copy is a copy (a reflink where the file system has them).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipway.config.base import Section
from slipway.engines.bundle_key import KeyDocument, Miss, misses
from slipway.errors import EngineError, StateError
from slipway.system.files import disk_full_is_named, remove, sha256_file, write_atomic
from slipway.system.json_files import is_present, read_model

FOLDER, MANIFEST, FILES = "caches", "manifest.json", "files"
MOST_MISSES = 20  # named one by one; the rest is counted
READABLE = 0o444  # of what is harvested: a pod that is not root's reads what root's engine wrote with mode 600
_FICLONE = 0x40049409  # ioctl of linux/fs.h: share the blocks of another file, copied when one of them is written
NEXT = "the bundle has no caches and starts cold; see what the machine answers to nvidia-smi"
# Left by a process that holds or held a lock: no part of what was compiled
DROPPED_SUFFIXES = (".lock", ".pid", ".sock")


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise PydanticCustomError("path", "a path below the cache's root")
    return path


class CachedFile(Section):
    """One file of a cache as it was harvested."""

    path: Annotated[str, AfterValidator(_below)] = Field(description="Below the cache's root.")
    size: int = Field(ge=0, description="Bytes.")
    mtime_ns: int = Field(description="Modification time, nanoseconds since 1970.")
    mode: int = Field(ge=0, le=0o7777, description="Permission bits.")
    sha256: str = Field(description="Digest of the bytes, hex.")


class CacheManifest(Section):
    """`manifest.json` of harvested caches."""

    key: KeyDocument = Field(description="What they are valid for.")
    files: list[CachedFile] = Field(description="Every file, by path.")
    dropped: list[str] = Field(default_factory=list, description="Locks and sockets that were not taken.")

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def harvest(live: Path, bundle: Path, key: KeyDocument, limit_bytes: int | None = None) -> CacheManifest:
    """Copy a stopped engine's cache `live` into `bundle`; the manifest comes last and makes it complete.

    Locks and sockets are left out and listed; a link to a file of the cache becomes a file. Raises EngineError for a
    key with unknown facts (nothing could ever use it), for a link out of the cache, for a file that changes while it
    is read (the engine still lives), for more than `limit_bytes`, and for a file system that does not keep mtimes.
    Nothing is left in the bundle then.
    """
    if unknown := key.unknown_fields():
        raise EngineError(
            "harvest of caches", f"unknown: {', '.join(unknown)}", "a key whose facts are all known", NEXT
        )
    taken, dropped = _listed(live)
    total = sum(path.stat().st_size for path in taken)
    if limit_bytes is not None and total > limit_bytes:
        raise EngineError("harvest of caches", f"{total} bytes", f"at most {limit_bytes}", "raise engine.cache_gb")
    folder = bundle / FOLDER
    remove(folder)
    try:
        with disk_full_is_named(folder):
            files = [_harvested(path, live, folder / FILES) for path in taken]
            manifest = CacheManifest(key=key, files=files, dropped=dropped)
            (folder / FILES).mkdir(parents=True, exist_ok=True)
            write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    except BaseException:
        remove(folder)
        raise
    return manifest


def read_manifest(bundle: Path) -> CacheManifest | None:
    """The manifest of a bundle's caches; None where it has none. Raises StateError for one that cannot be read."""
    file = bundle / FOLDER / MANIFEST
    return read_model(CacheManifest, file, "manifest of caches", "build the engine again") if is_present(file) else None


def fill(bundle: Path, target: Path, key: KeyDocument) -> list[Miss]:
    """Copy a bundle's caches into the empty folder `target`, checked; empty again and the reasons when one thing
    differs. A bundle without caches is a reason too. Raises ResourceError when the disk is full."""
    try:
        manifest = read_manifest(bundle)
    except StateError as err:
        return [Miss(MANIFEST, "a manifest of caches", str(err.value))]
    if manifest is None:
        return [Miss("caches", "nothing harvested", "a cold start")]
    reasons = misses(manifest.key, key) or _strays(bundle / FOLDER / FILES, manifest)
    if not reasons:
        with disk_full_is_named(target):
            reasons = _copied(bundle / FOLDER / FILES, target, manifest)
    if reasons:
        clear(target)
    return _bounded(reasons)


def check(bundle: Path, key: KeyDocument) -> list[Miss]:
    """Why a bundle's caches would not be used, without a copy of them; empty when they would."""
    try:
        manifest = read_manifest(bundle)
    except StateError as err:
        return [Miss(MANIFEST, "a manifest of caches", str(err.value))]
    if manifest is None:
        return [Miss("caches", "nothing harvested", "a cold start")]
    source = bundle / FOLDER / FILES
    reasons = misses(manifest.key, key) + _strays(source, manifest)
    reasons += [miss for file in manifest.files if (miss := _difference(source / file.path, file))]
    return _bounded(reasons)


def clear(folder: Path) -> None:
    """Empty a folder that stays: a container may have it mounted already."""
    for entry in folder.iterdir():
        remove(entry)


def copy_file(source: Path, target: Path) -> None:
    """A copy with its own blocks to write to, with mode and mtime in nanoseconds; a reflink where there are such."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:  # another file system, or one without reflinks
            shutil.copyfileobj(reader, writer, 1 << 20)
    status = source.stat()
    target.chmod(stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _listed(live: Path) -> tuple[list[Path], list[str]]:
    """Files to take, and names of those left out."""
    taken, dropped = [], []
    for path in sorted(live.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if path.suffix in DROPPED_SUFFIXES or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            dropped.append(str(path.relative_to(live)))
        elif stat.S_ISLNK(mode) and not (path.is_file() and path.resolve().is_relative_to(live.resolve())):
            raise EngineError(
                f"harvest of {path.relative_to(live)}",
                f"a link to {path.readlink()}",
                "a file, or a link to one in the same cache",
                "report this engine",
            )
        else:
            taken.append(path)
    return taken, dropped


def _harvested(path: Path, live: Path, target: Path) -> CachedFile:
    name = str(path.relative_to(live))
    before = path.stat()
    copy_file(path, target / name)
    (target / name).chmod(stat.S_IMODE(before.st_mode) | READABLE)
    copy, after = (target / name).stat(), path.stat()
    entry = CachedFile(
        path=name,
        size=copy.st_size,
        mtime_ns=copy.st_mtime_ns,
        mode=stat.S_IMODE(copy.st_mode),
        sha256=sha256_file(target / name),
    )
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise EngineError(f"harvest of {name}", "changes while it is read", "a stopped engine", "stop what writes it")
    if (entry.size, entry.mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise EngineError(
            f"harvest of {name}",
            f"mtime {after.st_mtime_ns} became {entry.mtime_ns}",
            "a file system that keeps nanoseconds",
            "put store.root on a local disk",
        )
    return entry


def _strays(source: Path, manifest: CacheManifest) -> list[Miss]:
    """Files, links and sockets that stand beside those of the manifest."""
    known = {file.path for file in manifest.files}
    present = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_symlink() or not path.is_dir()}
    return [Miss(name, "absent", "an extra file") for name in sorted(present - known)]


def _copied(source: Path, target: Path, manifest: CacheManifest) -> list[Miss]:
    """Copy file by file, each checked before and after; stops at the first that differs."""
    for file in manifest.files:
        if miss := _difference(source / file.path, file, digest=False):
            return [miss]
        copy_file(source / file.path, target / file.path)
        if miss := _difference(target / file.path, file):  # the copy's bytes are the ones that are used
            return [miss]
    return []


def _difference(path: Path, file: CachedFile, *, digest: bool = True) -> Miss | None:
    """How a file differs from its entry; the digest is computed last."""
    try:
        status = path.lstat()
        pairs: tuple[tuple[str, object, object], ...] = (
            ("type", "a file", "a file" if stat.S_ISREG(status.st_mode) else "no regular file"),
            ("size", file.size, status.st_size),
            ("mtime_ns", file.mtime_ns, status.st_mtime_ns),
            ("mode", oct(file.mode), oct(stat.S_IMODE(status.st_mode))),
        )
        for what, then, now in pairs:
            if then != now:
                return Miss(f"{file.path} ({what})", str(then), str(now))
        if digest and (now := sha256_file(path)) != file.sha256:
            return Miss(f"{file.path} (sha256)", file.sha256, str(now))
    except OSError as err:
        return Miss(file.path, "a file", err.strerror or str(err))
    return None


def _bounded(reasons: list[Miss]) -> list[Miss]:
    more = len(reasons) - MOST_MISSES
    return [*reasons[:MOST_MISSES], Miss("more", "none", f"{more} more differences")] if more > 0 else reasons
