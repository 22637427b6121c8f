"""Bundles received by digest: whole or refused, each layer once, removed when nobody names it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from slipway.agent.bundle import layers as module
from slipway.agent.bundle.layer_tar import ALIGNED_FROM
from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.manifest import Bundle
from slipway.errors import BundleError
from tests.support.bundles import FILES, documents, incoming

LARGE = {**FILES, "engine/model.gguf": bytes(range(256)) * (ALIGNED_FROM // 256) + b"end"}


def wanted(bundle: Bundle) -> list[str]:
    return [bundle.digest, bundle.config, *(layer.digest for layer in bundle.layers)]


def received(root: Path, files: dict[str, bytes] = FILES) -> Bundle:
    return Layers(root).receive(incoming(root / "incoming", files).digest, machine="x86_64")


@pytest.mark.parametrize("cuts", [True, False])
def test_a_bundle_becomes_a_tree(tmp_path: Path, cuts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a file system that cuts the head off in place."""
    if not cuts:
        monkeypatch.setattr(module, "_cut_head", lambda file, size: False)
    layers, bundle = Layers(tmp_path), incoming(tmp_path / "incoming", LARGE)
    assert layers.missing(wanted(bundle)) == wanted(bundle)
    layers.receive(bundle.digest, machine="x86_64")
    assert layers.missing(wanted(bundle)) == []
    assert list((tmp_path / "incoming").iterdir()) == []
    layers.link(bundle, tmp_path / "release")
    assert {name: (tmp_path / "release" / name).read_bytes() for name in LARGE} == LARGE
    assert os.access(tmp_path / "release/engine/server", os.X_OK)
    file = tmp_path / "release/engine/model.gguf"
    assert file.stat().st_nlink == 2, "hard linked into the layer"
    for layer in bundle.layers:
        layers.verify(layer)


def test_a_second_release_brings_only_what_changed(tmp_path: Path) -> None:
    received(tmp_path)
    second = incoming(tmp_path / "other", {**FILES, "card.md": b"# Another card\n"})
    assert len(Layers(tmp_path).missing(wanted(second))) == 3, "manifest, config and the card's layer"
    for digest in Layers(tmp_path).missing(wanted(second)):
        (tmp_path / "other" / digest).rename(tmp_path / "incoming" / digest)
    Layers(tmp_path).receive(second.digest, machine="x86_64")


def test_another_architecture_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    bundle = incoming(tmp_path / "incoming", architecture="arm64")
    with pytest.raises(BundleError, match="for architecture arm64"):
        Layers(tmp_path).receive(bundle.digest, machine="x86_64")
    assert not (tmp_path / "layers").exists()


def spoil(root: Path, bundle: Bundle, kind: str) -> None:
    blob = root / "incoming" / bundle.layers[2].digest
    data = blob.read_bytes()
    if kind == "cut":
        blob.write_bytes(data[:-1])
    elif kind == "flipped":
        blob.write_bytes(data[:600] + b"X" + data[601:])
    elif kind == "missing":
        blob.unlink()
    elif kind == "link":
        blob.rename(root / "elsewhere")
        blob.symlink_to(root / "elsewhere")
    elif kind == "another layer":
        blob.write_bytes((root / "incoming" / bundle.layers[0].digest).read_bytes())
    elif kind == "manifest":
        (root / "incoming" / bundle.digest).write_bytes(documents(architecture="arm64")[0])
    elif kind == "config":
        (root / "incoming" / bundle.config).write_bytes(documents(architecture="arm64")[1])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("cut", "bytes; expected"),
        ("flipped", "digest .*; expected the bytes of its name"),
        ("missing", "No such file"),
        ("link", "no regular file"),
        ("another layer", "bytes; expected"),
        ("manifest", "expected the bytes of its name"),
        ("config", "expected the bytes of its name"),
    ],
)
def test_what_arrives_damaged_is_refused(kind: str, value: str, tmp_path: Path) -> None:
    bundle = incoming(tmp_path / "incoming")
    spoil(tmp_path, bundle, kind)
    with pytest.raises(BundleError, match=value):
        Layers(tmp_path).receive(bundle.digest, machine="x86_64")
    assert not (tmp_path / "layers" / bundle.layers[2].digest).exists()


def test_a_layer_of_another_release_is_refused(tmp_path: Path) -> None:
    """The manifest names a layer whose digest is right and whose files are not the config's."""
    other = documents({**FILES, "engine/model.gguf": b"poisoned" * 200})[2][2]
    digest = f"sha256:{hashlib.sha256(other).hexdigest()}"
    rows = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in documents()[2]]
    rows[2] = digest
    _, config, _ = documents(config_rootfs={"type": "layers", "diff_ids": rows})
    renamed = config.replace(b"model.gguf", b"modem.gguf")
    manifest = documents(
        layers=[
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": row,
                "size": len(layer),
                "annotations": {"dev.slipway.role": "engine", "dev.slipway.part": "file"},
            }
            for row, layer in zip(rows, documents()[2], strict=True)
        ],
        config={
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": f"sha256:{hashlib.sha256(renamed).hexdigest()}",
            "size": len(renamed),
        },
    )[0]
    incoming(tmp_path / "incoming")
    for blob in (manifest, renamed, other):
        (tmp_path / "incoming" / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    with pytest.raises(BundleError, match="other files; expected those that the config names"):
        Layers(tmp_path).receive(hashlib.sha256(manifest).hexdigest(), machine="x86_64")


def test_layers_that_nobody_names_go(tmp_path: Path) -> None:
    first = received(tmp_path)
    second = received(tmp_path, {**FILES, "engine/model.gguf": b"other weights"})
    (tmp_path / "layers/.tmp-abc").mkdir()
    (tmp_path / "layers/somebody's").mkdir()
    gone = Layers(tmp_path).gc([second.digest])
    assert sorted(gone) == sorted({*wanted(first)} - {*wanted(second)})
    assert Layers(tmp_path).missing(wanted(second)) == []
    assert sorted(p.name for p in (tmp_path / "layers").iterdir() if len(p.name) < 64) == ["somebody's"]
    with pytest.raises(BundleError):
        Layers(tmp_path).gc([first.digest])
    with pytest.raises(BundleError, match="64 hex digits"):
        Layers(tmp_path).missing(["../../etc/passwd"])


def test_a_killed_unpacking_is_done_again(tmp_path: Path) -> None:
    bundle = incoming(tmp_path / "incoming")
    (tmp_path / "layers" / f".tmp-{bundle.layers[0].digest}/engine").mkdir(parents=True)
    Layers(tmp_path).receive(bundle.digest, machine="x86_64")
    assert Layers(tmp_path).missing(wanted(bundle)) == []
