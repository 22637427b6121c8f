"""What skopeo is told, and what its answers mean; a real registry is in tests/lab/deployment/test_registry_push.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.deployment.bundle.release import PackedRelease
from slipway.deployment.kubernetes.registry_push import push
from slipway.errors import BundleError, ResourceError
from slipway.store.store import Store
from tests.support.shippable import packed

SKOPEO = """#!/bin/sh
echo "$*" >> {calls}
[ ! -f {folder}/error ] || {{ cat {folder}/error >&2; exit 1; }}
[ "$1" != inspect ] || cat {folder}/digest
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> PackedRelease:
    folder = tmp_path_factory.mktemp("store")
    return packed(Store(folder / "store"), folder / "layout")


@pytest.fixture
def skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "skopeo").write_text(SKOPEO.format(calls=tmp_path / "calls", folder=tmp_path))
    (tmp_path / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_release_and_signatures_go_with_their_digests(release: PackedRelease, skopeo: Path) -> None:
    (skopeo / "digest").write_text(f"sha256:{release.bundle.digest}\n")
    assert push(release, "registry.example/m") == f"sha256:{release.bundle.digest}"
    calls = (skopeo / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["copy", "copy", "copy", "inspect"]
    assert all("--preserve-digests" in call for call in calls[:3])
    assert calls[1].endswith(f"registry.example/m:sha256-{release.bundle.digest}.sig")


def test_another_digest_in_the_registry_is_refused(release: PackedRelease, skopeo: Path) -> None:
    (skopeo / "digest").write_text(f"sha256:{'0' * 64}\n")
    with pytest.raises(BundleError, match="which was signed"):
        push(release, "registry.example/m")


def test_a_registry_that_refuses_is_named_by_skopeos_last_words(release: PackedRelease, skopeo: Path) -> None:
    (skopeo / "error").write_text("time=... level=fatal\nunauthorized: authentication required\n")
    with pytest.raises(ResourceError, match=r"unauthorized: authentication required.*skopeo login"):
        push(release, "registry.example/m")


def test_without_skopeo_the_package_is_named(
    release: PackedRelease, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="apt-get install skopeo"):
        push(release, "registry.example/m")
