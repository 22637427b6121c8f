"""A bundle's two documents: read as written, and everything that does not fit named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.agent.bundle.manifest import check_architecture, parse_bundle
from slipway.errors import BundleError
from tests.support.bundles import FILES, documents


def test_files_and_layers_come_back() -> None:
    manifest, config, layers = documents()
    bundle = parse_bundle(manifest, config)
    assert {name: (one.size, oct(one.mode)) for name, (one, _) in bundle.members().items()} == {
        name: (len(data), "0o755" if name == "engine/server" else "0o644") for name, data in FILES.items()
    }
    assert [layer.size for layer in bundle.layers] == [len(layer) for layer in layers]
    assert {layer.role for layer in bundle.layers} == {"engine"}


@pytest.mark.parametrize(
    ("spoiled", "value"),
    [
        ({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}, "mediaType"),
        ({"layers": []}, "1 to 120 layers"),
        ({"layers": [{}] * 121}, "1 to 120 layers"),
        ({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}]}, "layer.v1.tar, digest"),
        ({"config": {}}, "config in manifest"),
        ({"annotations": {"a": 1}}, "names and texts"),
        ({"config_rootfs": {"diff_ids": []}}, "rootfs of other layers"),
        ({"config_architecture": None}, "architecture None"),
        ({"config_dev.slipway.members": [[{}]] * 4}, "rows of name"),
        ({"config_dev.slipway.members": [[]] * 4}, "for 0 files"),
        ({"config_dev.slipway.members": [[{"name": "models/a", "size": True, "mode": 0, "mtime_ns": 0}]] * 4}, "whole"),
        ({"config_dev.slipway.members": [[{"name": 7, "size": 0, "mode": 0, "mtime_ns": 0}]] * 4}, "a name"),
    ],
)
def test_documents_of_something_else_are_refused(spoiled: dict[str, Any], value: str) -> None:
    manifest, config, _ = documents(**spoiled)
    with pytest.raises(BundleError, match=value):
        parse_bundle(manifest, config)


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({"a/README": b"", "a/readme": b""}, "differ in more than case"),
        ({"a/\u00e9": b"", "a/e\u0301": b""}, "differ in more than case"),
        ({"a": b"", "a/b": b""}, "below another file"),
    ],
)
def test_files_that_a_file_system_may_mix_up(files: dict[str, bytes], value: str) -> None:
    manifest, config, _ = documents(files)
    with pytest.raises(BundleError, match=value):
        parse_bundle(manifest, config)


def test_a_config_of_another_manifest() -> None:
    manifest, _, _ = documents()
    with pytest.raises(BundleError, match="other bytes than the manifest names"):
        parse_bundle(manifest, documents(architecture="arm64")[1])
    for data in (b"", b"[]", b"[" * 100_000, b" " * (5 << 20), json.dumps("x").encode()):
        with pytest.raises(BundleError, match="a JSON object"):
            parse_bundle(data, data)


def test_another_architecture() -> None:
    manifest, config, _ = documents(architecture="arm64")
    bundle = parse_bundle(manifest, config)
    check_architecture(bundle, "aarch64")
    with pytest.raises(BundleError, match="for architecture arm64; expected amd64"):
        check_architecture(bundle, "x86_64")
