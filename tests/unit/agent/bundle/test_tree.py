"""A tree against its bundle: each way of spoiling it is refused by name, fully and against the seal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.manifest import Bundle
from slipway.agent.bundle.tree import check_seal, make_seal, read_seal, verify_tree, write_seal
from slipway.errors import BundleError, StateError
from tests.support.bundles import incoming

OWN = ("release.json",)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = incoming(tmp_path / "incoming")
    layers = Layers(tmp_path)
    layers.link(layers.receive(made.digest, machine="x86_64"), tmp_path / "tree")
    (tmp_path / "tree/release.json").write_text("the target's own")
    return made


def flipped(tree: Path) -> None:
    file = tree / "engine/model.gguf"
    status, data = file.stat(), bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(bytes(data))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def linked(tree: Path) -> None:
    (tree / "card.md").rename(tree / "release.json")
    (tree / "card.md").symlink_to("release.json")


def git(tree: Path) -> None:
    (tree / "engine/.git/hooks").mkdir(parents=True)
    (tree / "engine/.git/hooks/post-checkout").write_text("#!/bin/sh\n")


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (flipped, "model.gguf: other bytes"),
    "added": (lambda tree: (tree / "engine/extra.py").write_text(""), "extra.py: added"),
    "missing": (lambda tree: (tree / "card.md").unlink(), "card.md: missing;"),
    "renamed": (lambda tree: (tree / "card.md").rename(tree / "cart.md"), "cart.md has its size: renamed"),
    "re-cased": (lambda tree: (tree / "card.md").rename(tree / "Card.md"), "Card.md differs from it in case"),
    "symlink": (linked, "card.md: a symlink to release.json"),
    "device": (lambda tree: os.mkfifo(tree / "engine/pipe"), "pipe: no regular file"),
    "git path": (git, "a path of git"),
    "git file": (lambda tree: (tree / ".gitignore").write_text("*"), "a path of git"),
    "changed mode": (lambda tree: (tree / "engine/server").chmod(0o644), "server: mode 0644; expected 0755"),
    "setuid": (lambda tree: (tree / "engine/server").chmod(0o4755), "server: mode 4755"),
    "empty folder": (lambda tree: (tree / "engine/empty").mkdir(), "empty: an empty folder"),
    "cut": (lambda tree: os.truncate(tree / "engine/model.gguf", 100), "100 bytes; expected 1600"),
}


def test_a_whole_tree_passes(bundle: Bundle, tmp_path: Path) -> None:
    verify_tree(bundle, tmp_path / "tree", OWN)
    check_seal(make_seal(tmp_path / "tree", OWN), tmp_path / "tree", OWN)
    with pytest.raises(BundleError, match=r"release\.json: added"):
        verify_tree(bundle, tmp_path / "tree")


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_tree_is_refused_by_name(kind: str, bundle: Bundle, tmp_path: Path) -> None:
    spoil, value = SPOILED[kind]
    tree = tmp_path / "tree"
    seal = make_seal(tree, OWN)
    spoil(tree)
    with pytest.raises(BundleError, match=value):
        verify_tree(bundle, tree, OWN)
    with pytest.raises(BundleError):
        check_seal(seal, tree, OWN)


def test_a_file_put_back_with_its_time_is_found_by_its_inode(bundle: Bundle, tmp_path: Path) -> None:
    tree, file = tmp_path / "tree", tmp_path / "tree/engine/model.gguf"
    seal, status = make_seal(tree, OWN), file.stat()
    fresh = file.with_name("fresh")
    fresh.write_bytes(file.read_bytes())
    fresh.replace(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BundleError, match=r"model\.gguf: inode"):
        check_seal(seal, tree, OWN)
    verify_tree(bundle, tree, OWN)


def test_seals_are_written_and_read(bundle: Bundle, tmp_path: Path) -> None:
    seal = make_seal(tmp_path / "tree", OWN)
    write_seal(tmp_path / "seal.json", seal)
    assert read_seal(tmp_path / "seal.json") == seal
    assert read_seal(tmp_path / "none.json") is None
    for text in ("", "[]", '{"format": 2}', '{"format": 1, "files": {"a": [1, 2]}}', '{"format": 1, "files": 7}'):
        (tmp_path / "seal.json").write_text(text)
        with pytest.raises(StateError, match="seal"):
            read_seal(tmp_path / "seal.json")
