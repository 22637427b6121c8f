"""Artifacts that link to a user's files, in a tree that moves: links are absolute (a container sees the same paths),
and are made anew when store and files have moved together.

`place` is a directory as documents hold it: relative to the folder that holds the store (a clone, for `.slipway`) where
it lies in there, else absolute. It stands in the key and in the manifest, not in the artifact's files: the digest names
bytes.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST
from slipway.system.json_files import read_json

PLACE = "place"  # field of a key's `extra`


def place_of(directory: Path, root: Path) -> str:
    """How documents of the store at `root` hold the path of a directory."""
    directory, tree = directory.expanduser().resolve(), root.resolve().parent
    # Relative to the file system's root would be absolute in other words, and would lead elsewhere after a move.
    inside = directory.is_relative_to(tree) and tree != tree.parent
    return directory.relative_to(tree).as_posix() if inside else str(directory)


def mend_links(path: Path, root: Path) -> None:
    """Point links of an artifact that lead nowhere at the files of the same names in its `place`, where those exist.

    What the files hold is for `verify` to check. Nothing happens without a place, or with a manifest that cannot be
    read.
    """
    broken = [file for file in path.iterdir() if file.is_symlink() and not file.exists()]
    if not broken:
        return
    try:
        extra = read_json(path / MANIFEST, "manifest", "").get("provenance", {}).get("extra", {})
        place = extra.get(PLACE)
    except (StateError, AttributeError):
        return
    if not isinstance(place, str):
        return
    for link in broken:
        target = root.parent / place / link.name
        if target.is_file():
            fresh = link.with_name(f".{link.name}.{secrets.token_hex(8)}")  # whoever else mends it has another
            fresh.symlink_to(target)
            fresh.replace(link)
