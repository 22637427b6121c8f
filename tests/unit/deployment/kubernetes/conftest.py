"""The cluster of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.deployment.kubernetes import client as kubernetes_client
from tests.support.kubernetes_scene import Scene
from tests.support.kubernetes_server import kubernetes_server


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A cluster; the registry is a lab's, here it answers with the digest that was packed."""
    monkeypatch.setattr(kubernetes_client, "push", lambda packed, repository, note: packed.bundle.digest)
    with kubernetes_server(tmp_path) as (cluster, config):
        yield Scene(cluster, config)
