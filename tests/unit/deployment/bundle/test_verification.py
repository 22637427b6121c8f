"""`slipway verify`: a layout and a tree that are whole pass; each way of spoiling one is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.release import stage
from slipway.agent.bundle.signature import Trust
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import PackedRelease
from slipway.deployment.bundle.verification import verify
from slipway.errors import BundleError, CheckpointError, SlipwayError
from slipway.store.store import Store
from tests.support.bundles import key_pair
from tests.support.shippable import files_of_an_index, packed, signer
from tests.support.target import make_engine

NAME = "0001-aaaaaaaa"


class World:
    """A packed release, its layout, the tree of its files, and its release's folder on a target."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        index = files_of_an_index(self.store, "i")
        self.release: PackedRelease = packed(self.store, folder / "layout", NAME, index=index)
        self.layout, self.target = folder / "layout", folder / "target"
        layers = Layers(self.target)
        layers.incoming.mkdir(parents=True)
        for digest in self.release.blobs:
            shutil.copy(self.layout / "blobs/sha256" / digest, layers.incoming / digest)
        request = {
            "manifest": self.release.bundle.digest,
            "signature": self.release.signature,
            "files_signature": self.release.files_signature,
        }
        layers.receive(self.release.bundle.digest, machine="aarch64")
        self.folder = Agent(self.target).paths.release(NAME)
        self.folder.mkdir(parents=True)
        stage(self.target, request, self.folder)
        self.tree = folder / "tree"
        shutil.copytree(self.folder, self.tree)
        for own in ("bundle.json", "seal.json"):
            (self.tree / own).unlink(missing_ok=True)
        self.trust = Trust("enforce", (signer(self.store).public,))

    def blob(self, part: str) -> Path:
        """A layer's blob by its part."""
        layer = next(layer for layer in self.release.bundle.layers if layer.part == part)
        return self.layout / "blobs/sha256" / layer.digest


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def layout(original: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.layout, tmp_path / "layout"))


@pytest.fixture
def tree(original: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.tree, tmp_path / "tree"))


def test_what_is_whole_passes(original: World, tree: Path) -> None:
    (by_layout,) = verify(original.layout, original.trust)
    (on_target,) = verify(original.folder, original.trust)
    (by_files,) = verify(tree, original.trust)
    assert (by_layout.kind, on_target.kind, by_files.kind) == ("layout", "release", "tree")
    assert by_layout.digest == on_target.digest == original.release.bundle.digest
    assert by_layout.files == on_target.files == by_files.files
    assert by_layout.bytes == by_files.bytes
    assert by_layout.architecture == "arm64"
    assert by_layout.parts["caches"] == 2
    assert (by_layout.parts["index-records"], by_layout.parts["index-file"]) == (3, 1)
    assert by_files.parts["index"] == 5, "the manifest of the index is its fifth file"
    assert all("signed by key" in sentence for one in (by_layout, on_target, by_files) for sentence in one.signed)
    assert len(by_layout.signed) == 2
    (untrusting,) = verify(tree, Trust())
    assert untrusting.signed == ["files warning: signed, and nobody is trusted here: give a public key"]


def overwrite(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


LAYOUTS: dict[str, tuple[Callable[[Path, Path, World], object], str]] = {
    "flipped byte": (lambda lay, blob, w: overwrite(blob, 600), "the bytes of its name"),
    "flipped byte of a manifest": (
        lambda lay, blob, w: overwrite(lay / "blobs/sha256" / w.release.bundle.digest, 20),
        "the bytes of its name",
    ),
    "cut": (lambda lay, blob, w: os.truncate(blob, 700), "700 bytes"),
    "missing": (lambda lay, blob, w: blob.unlink(), "missing"),
    "added": (lambda lay, blob, w: (blob.with_name("f" * 64)).write_bytes(b"x"), "added: no release names it"),
    "added at the top": (lambda lay, blob, w: (lay / "run.sh").write_text("x"), "run.sh: added"),
    "renamed": (lambda lay, blob, w: blob.rename(blob.with_name("f" * 64)), "missing"),
    "symlink": (lambda lay, blob, w: (blob.rename(lay / "x"), blob.symlink_to(lay / "x")), "no regular file"),
    "git path": (lambda lay, blob, w: (lay / ".git").mkdir(), "a path of git"),
    "empty folder": (lambda lay, blob, w: (lay / "blobs/empty").mkdir(), "an empty folder"),
    "another layer": (lambda lay, blob, w: shutil.copy(w.blob("card"), blob), "bytes"),
    "manifest swapped": (lambda lay, blob, w: swap(lay, w), "layer in manifest"),
}


def swap(layout: Path, world: World) -> None:
    """The release's name leads to another manifest that lies in the layout: that of its signature."""
    index = json.loads((layout / "index.json").read_text())
    for row in index["manifests"]:
        if row["annotations"]["org.opencontainers.image.ref.name"] == NAME:
            row["digest"] = f"sha256:{world.release.signature}"
    (layout / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_spoiled_layout_is_refused_by_name(kind: str, original: World, layout: Path) -> None:
    spoil, value = LAYOUTS[kind]
    spoil(layout, layout / "blobs/sha256" / original.blob("weights").name, original)
    with pytest.raises(SlipwayError, match=value) as refused:
        verify(layout, original.trust)
    assert refused.value.exit_code == 2


TREES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (lambda t: overwrite(t / "engine/model/model-layer-00001.safetensors", 900), "layer-00001.*other"),
    "flipped byte of the index": (lambda t: overwrite(t / "index/vectors.faiss", 900), "index/vectors.faiss.*other"),
    "added to the index": (lambda t: (t / "index/bm25/more.npy").write_text("x"), "index/bm25/more.npy.*added: not"),
    "missing of the index": (lambda t: (t / "index/index.json").unlink(), "index/index.json .*missing"),
    "added": (lambda t: (t / "engine/model/modeling.py").write_text("x"), "modeling.py.*added: not signed"),
    "missing": (lambda t: (t / "card.md").unlink(), "card.md .*missing"),
    "renamed": (lambda t: (t / "card.md").rename(t / "cart.md"), "card.md .*missing"),
    "re-cased": (lambda t: (t / "card.md").rename(t / "CARD.md"), "CARD.md .*added"),
    "symlink": (lambda t: ((t / "card.md").unlink(), (t / "card.md").symlink_to("verdict.json")), "a symlink"),
    "git path": (lambda t: (t / "engine/.gitattributes").write_text("x"), "a path of git"),
    "changed mode": (lambda t: (t / "engine/serve.json").chmod(0o755), "serve.json: mode 0755; expected 0644"),
    "empty folder": (lambda t: (t / "engine/empty").mkdir(), "an empty folder"),
    "a cache's time": (lambda t: os.utime(t / "engine/caches/files/triton/kernel.so", ns=(0, 7)), "mtime 7 ns"),
    "list of files": (lambda t: (t / "files.json").write_text("{}"), "files.json .*other bytes"),
    "signature": (lambda t: (t / "model.sig").write_text("{}"), "an OpenSSF model signature"),
}


@pytest.mark.parametrize("kind", TREES)
def test_a_spoiled_tree_is_refused_by_name(kind: str, original: World, tree: Path) -> None:
    spoil, value = TREES[kind]
    spoil(tree)
    with pytest.raises(BundleError, match=value):
        verify(tree, original.trust)


@pytest.mark.parametrize("place", ["layout", "folder", "tree"])
def test_another_signer_is_refused(place: str, original: World, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path)
    with pytest.raises(BundleError, match="signed by somebody else"):
        verify(getattr(original, place), Trust("enforce", (public,)))
    (warned,) = verify(getattr(original, place), Trust("warn", (public,)))
    assert all("warning: signed by somebody else" in sentence for sentence in warned.signed)
    (silent,) = verify(getattr(original, place), Trust("off"))
    assert all("not looked at" in sentence for sentence in silent.signed)


def test_a_release_without_signatures(original: World, layout: Path) -> None:
    index = json.loads((layout / "index.json").read_text())
    index["manifests"] = [row for row in index["manifests"] if "platform" in row]
    (layout / "index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match="not signed"):
        verify(layout, original.trust)


def test_a_layer_of_another_release_under_a_valid_manifest(original: World, layout: Path) -> None:
    """A manifest made anew over other files is a release that nobody signed."""
    other = packed(original.store, layout, "0002-bbbbbbbb", changed_layers=(0,))
    store = OciLayout(layout)
    store.name(NAME, other.bundle.digest, 1, {})
    store.keep([NAME])
    assert {one.digest for one in verify(layout, original.trust)} == {other.bundle.digest}
    _, public = key_pair(layout.parent / "k")
    with pytest.raises(BundleError, match="somebody else"):
        verify(layout, Trust("enforce", (public,)))


def test_a_release_of_this_machines_store(tmp_path: Path) -> None:
    engine, folder = make_engine(Store(tmp_path / "store"), {"answer": "x"}), tmp_path / NAME
    shutil.copytree(engine.path, folder / "engine")
    (folder / "release.json").write_text(json.dumps({"digests": {"engine": engine.digest}}))
    (own,) = verify(folder, Trust())
    assert own.signed == ["not a bundle: an artifact of this machine's store", "warning: not signed"]
    with pytest.raises(BundleError, match="not signed"):
        verify(folder, Trust("enforce", (key_pair(tmp_path)[1],)))
    (folder / "engine/model.gguf").write_text("another")
    with pytest.raises(CheckpointError, match=r"model\.gguf"):
        verify(folder, Trust())


def test_what_is_no_release(tmp_path: Path) -> None:
    for path, value in ((tmp_path, "no release"), (tmp_path / "none", "no folder")):
        with pytest.raises(BundleError, match=value):
            verify(path, Trust())
    (tmp_path / "oci-layout").write_text("{}")
    with pytest.raises(BundleError, match="no releases"):
        verify(tmp_path, Trust())
