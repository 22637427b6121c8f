"""The layout on disk: as OCI has it, each blob once, and releases that go take their blobs along."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from slipway.agent.bundle.layer_tar import Member
from slipway.deployment.bundle import oci_layout as module
from slipway.deployment.bundle.files import File, Part
from slipway.deployment.bundle.layer_cuts import Span
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.errors import BundleError, StateError


def part(name: str, data: bytes) -> Part:
    return Part("engine", "file", (File(Member(f"models/{name}", len(data)), (data,)),))


def add(layout: OciLayout, ref: str, **files: bytes) -> str:
    layers = [layout.add_layer(part(name, data)) for name, data in files.items()]
    bundle, size = layout.add_manifest(layers, "amd64", {"a": "b"})
    layout.name(ref, bundle.digest, size, {}, "amd64")
    layout.attach(bundle, "sig", "text/plain", ref.encode(), {})
    return bundle.digest


def test_the_layout_is_what_oci_says(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "l")
    digest = add(layout, "one", x=b"1", y=b"2")
    assert json.loads((tmp_path / "l/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((tmp_path / "l/index.json").read_text())
    row = next(row for row in index["manifests"] if row["digest"] == f"sha256:{digest}")
    assert row["annotations"] == {"org.opencontainers.image.ref.name": "one"}
    assert row["platform"] == {"architecture": "amd64", "os": "linux"}
    blobs = {file.name: file.read_bytes() for file in (tmp_path / "l/blobs/sha256").iterdir()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in blobs.items()} == {name: name for name in blobs}
    assert row["size"] == len(blobs[digest])
    assert [one.digest for one in layout.bundle(digest).layers] == [
        one["digest"].removeprefix("sha256:") for one in json.loads(blobs[digest])["layers"]
    ]
    assert layout.refs() == ["one"]
    assert layout.attached(digest, "sig") is not None
    assert layout.attached(digest, "oms") is None


def test_equal_files_are_one_bundle_on_every_machine(tmp_path: Path) -> None:
    digests = {add(OciLayout(tmp_path / name), "one", x=b"1") for name in "ab"}
    assert len(digests) == 1


def test_a_layer_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "l")
    assert layout.add_layer(part("x", b"1")).written
    assert not layout.add_layer(part("x", b"1")).written


def test_releases_that_go_take_what_nobody_else_names(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "l")
    first, second = add(layout, "one", x=b"1", y=b"2"), add(layout, "two", x=b"1", y=b"3")
    assert layout.keep(["two"]) > 0
    assert layout.refs() == ["two"]
    assert layout.bundle(second)
    with pytest.raises(BundleError, match="No such file"):
        layout.bundle(first)
    named = layout.named(second) | layout.named(str(layout.attached(second, "sig")))
    assert {file.name for file in layout.blobs.iterdir()} == named
    with pytest.raises(BundleError, match="one of two"):
        layout.digest_of("one")


def test_a_name_is_moved_to_what_was_packed_last(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "l")
    add(layout, "one", x=b"1")
    second = add(layout, "one", x=b"2")
    assert layout.refs() == ["one"]
    assert layout.digest_of("one") == second


def test_a_source_that_changes_between_digest_and_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, layout = tmp_path / "source", OciLayout(tmp_path / "l")
    source.write_bytes(b"1" * 100)
    layer = Part("engine", "file", (File(Member("models/x", 100), (Span(source, 0, 100),)),))
    digest_then = module.layer_digest

    def meddling(files: list[File]) -> tuple[str, dict[str, str]]:
        result = digest_then(files)
        source.unlink()
        source.write_bytes(b"2" * 100)
        return result

    monkeypatch.setattr(module, "layer_digest", meddling)
    with pytest.raises(BundleError, match="changes while it is read"):
        layout.add_layer(layer)
    assert list(layout.blobs.iterdir()) == []


def test_damaged_layouts(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "l")
    digest = add(layout, "one", x=b"1")
    (layout.blobs / digest).write_bytes(b"{}")
    with pytest.raises(BundleError, match="the bytes of its name"):
        layout.bundle(digest)
    for text, error in (("{", StateError), ('{"manifests": 7}', BundleError), ('{"manifests": [7]}', BundleError)):
        (tmp_path / "l/index.json").write_text(text)
        with pytest.raises(error):
            layout.refs()
    assert OciLayout(tmp_path / "none").refs() == []


def test_another_clean_up_takes_no_layer_that_is_being_packed(tmp_path: Path) -> None:
    """Nor one that was there before, of a release that goes meanwhile, nor one half-written."""
    first, second = OciLayout(tmp_path / "l"), OciLayout(tmp_path / "l")
    add(first, "old", x=b"1")
    again, new = second.add_layer(part("x", b"1")), second.add_layer(part("y", b"2"))
    half = first.blobs / f".{new.descriptor['digest'].removeprefix('sha256:')}.1.2"
    half.write_bytes(b"half")
    assert first.keep([]) > 0
    left = {one.descriptor["digest"].removeprefix("sha256:") for one in (again, new)}
    assert {file.name for file in first.blobs.iterdir()} == {*left, half.name}
    second.release(second.claim)
    assert first.keep([]) > 0
    assert not list(first.blobs.iterdir())
