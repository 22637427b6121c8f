"""A release pushed to a real registry has the digest there that a cluster is told to mount."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from slipway.deployment.kubernetes.registry_push import push
from slipway.errors import ResourceError
from slipway.store.store import Store
from tests.lab.deployment.test_oci_registry import registry
from tests.support.shippable import packed

__all__ = ["registry"]  # the fixture


def test_the_registry_answers_by_the_digest_that_was_signed(registry: str, tmp_path: Path) -> None:
    release = packed(Store(tmp_path / "store"), tmp_path / "layout", "0001-aaaaaaaa")
    notes: list[str] = []
    digest = push(release, f"{registry}/team/chat", tls=False, note=notes.append)
    again = push(release, f"{registry}/team/chat", tls=False)
    assert digest == again == f"sha256:{release.bundle.digest}"
    assert len(notes) == 3  # the release and two signatures
    request = urllib.request.Request(
        f"http://{registry}/v2/team/chat/manifests/{digest}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        manifest = json.loads(answer.read())
    assert len(manifest["layers"]) == len(release.bundle.layers)


def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    release = packed(Store(tmp_path / "store"), tmp_path / "layout", "0001-aaaaaaaa")
    with pytest.raises(ResourceError, match="push to a registry"):
        push(release, "127.0.0.1:1/team/chat", tls=False)
