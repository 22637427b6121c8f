"""A tree of files against what it must be: every difference has a name, and a seal makes the check cheap.

A full check reads every byte. A start compares with the seal that was made after a full check: size, mtime, inode and
mode of every file, and the set of files. Whoever can write the files can write the seal too: it finds accidents and
half-finished repairs, the full check (on a schedule, and `slipway verify`) finds the rest.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from slipway.agent.bundle.layer_tar import Member, digest_of
from slipway.agent.bundle.manifest import Bundle, Layer
from slipway.errors import BundleError, StateError

SEAL_FORMAT = 1
Seal = dict[str, list[int]]
_NEXT = "promote the release again, or go back to another one"


def verify_tree(bundle: Bundle, tree: Path, own: Collection[str] = ()) -> None:
    """Raise BundleError unless `tree` holds the files of the bundle, byte for byte, and nothing else. `own`: names at
    its top that are not the bundle's and are passed over."""
    members = bundle.members()
    present = scan(tree, own)
    _compare({name: member for name, (member, _) in members.items()}, present, tree)
    for layer in bundle.layers:
        verify_layer(layer, tree)


def verify_layer(layer: Layer, tree: Path) -> None:
    """Raise BundleError unless the files of this layer below `tree` have its digest; sizes and modes are the
    caller's."""
    files = [(member, tree / member.name.partition("/")[2]) for member in layer.members]
    actual = digest_of(files)
    if actual != layer.digest:
        names = ", ".join(str(file) for _, file in files[:3])
        more = f" or {len(files) - 3} more" if len(files) > 3 else ""
        raise BundleError(
            f"file {names}{more}", f"other bytes: digest {actual[:12]}", f"{layer.digest[:12]}, its layer's", _NEXT
        )


def make_seal(tree: Path, own: Collection[str] = ()) -> Seal:
    """Size, mtime (ns), inode and mode of every file of a tree that has just been verified."""
    return {name: _identity(status) for name, status in scan(tree, own).items()}


def check_seal(seal: Seal, tree: Path, own: Collection[str] = ()) -> None:
    """Raise BundleError naming the first file that is not as it was when the seal was made."""
    present = {name: _identity(status) for name, status in scan(tree, own).items()}
    for name in sorted({*seal, *present}):
        then, now = seal.get(name), present.get(name)
        if then == now:
            continue
        if then is None or now is None:
            value, expected = ("missing", "as sealed") if now is None else ("added", "no such file")
        else:
            index = next(i for i, (a, b) in enumerate(zip(then, now, strict=True)) if a != b)
            what = ("size", "mtime", "inode", "mode")[index]
            shown = [f"{value:o}" if what == "mode" else str(value) for value in (now[index], then[index])]
            value, expected = f"{what} {shown[0]}", f"{shown[1]}, as sealed"
        raise BundleError(f"file {tree / name}", value, expected, f"`slipway verify {tree}` reads every byte")


def write_seal(file: Path, seal: Seal) -> None:
    """Write a seal, whole and on the disk."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump({"format": SEAL_FORMAT, "files": seal}, stream, indent=0, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def read_seal(file: Path) -> Seal | None:
    """A seal; None without one. Raises StateError for a file that is none."""
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
        version, files = document["format"], document["files"]
        rows = list(files.values())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise _no_seal(file, str(err)) from err
    if version != SEAL_FORMAT or not all(
        isinstance(row, list) and len(row) == 4 and all(type(n) is int for n in row) for row in rows
    ):
        raise _no_seal(file, f"{rows!r:.100}")
    return dict(files)


def scan(tree: Path, own: Collection[str] = ()) -> dict[str, os.stat_result]:
    """Every file below `tree` by its path. Raises BundleError for a link, a device, a path of git, and a folder
    without files, none of which a signature of a model covers."""
    files: dict[str, os.stat_result] = {}
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in _entries(tree / folder, tree):
            name = f"{folder}{entry.name}"
            if not folder and name in own:
                continue
            status = entry.stat(follow_symlinks=False)
            if entry.name.casefold().startswith(".git"):
                raise _stray(tree, name, "a path of git, which signatures leave out")
            if stat.S_ISDIR(status.st_mode):
                pending.append(f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                files[name] = status
            else:
                link = f"a symlink to {(tree / name).readlink()}" if entry.is_symlink() else "no regular file"
                raise _stray(tree, name, link)
    return dict(files)


def _entries(folder: Path, tree: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as err:
        raise BundleError(f"folder {folder}", err.strerror or str(err), "a folder that can be read", _NEXT) from err
    if not listed and folder != tree:
        raise _stray(tree, str(folder.relative_to(tree)), "an empty folder")
    return listed


def _compare(members: Mapping[str, Member], present: Mapping[str, os.stat_result], tree: Path) -> None:
    """Names first, then sizes, modes and, where they are part of the layer, mtimes."""
    missing, extra = sorted(members.keys() - present.keys()), sorted(present.keys() - members.keys())
    if missing:
        raise BundleError(f"file {tree / missing[0]}", _missing(missing, extra, members, present), "the file", _NEXT)
    if extra:
        more = f", and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise _stray(tree, extra[0], f"added: no file of the bundle{more}")
    for name, member in sorted(members.items()):
        status = present[name]
        mode = stat.S_IMODE(status.st_mode)
        problem = expected = ""
        if status.st_size != member.size:
            problem, expected = f"{status.st_size} bytes", f"{member.size}"
        elif mode != member.mode:
            problem, expected = f"mode {mode:04o}", f"{member.mode:04o}"
        elif member.mtime_ns and status.st_mtime_ns != member.mtime_ns:
            problem, expected = f"mtime {status.st_mtime_ns} ns", f"{member.mtime_ns}: caches are judged by it"
        if problem:
            raise BundleError(f"file {tree / name}", problem, expected, _NEXT)


def _missing(
    missing: list[str], extra: list[str], members: Mapping[str, Member], present: Mapping[str, os.stat_result]
) -> str:
    """What became of the first missing file: another case, another name, or nothing."""
    name = missing[0]
    recased = next((other for other in extra if other.casefold() == name.casefold()), None)
    renamed = next((other for other in extra if present[other].st_size == members[name].size), None)
    if recased:
        return f"missing; {recased} differs from it in case"
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"missing; {renamed} has its size: renamed?{more}" if renamed else f"missing{more}"


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino, stat.S_IMODE(status.st_mode)]


def _stray(tree: Path, name: str, value: str) -> BundleError:
    return BundleError(f"{tree / name}", value, "files of the bundle and nothing else", "remove it, or promote again")


def _no_seal(file: Path, value: str) -> StateError:
    return StateError(f"seal {file}", value, "sizes, mtimes, inodes and modes by file", "delete it: all is read then")
