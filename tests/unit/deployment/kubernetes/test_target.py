"""Promotion on a cluster: the ways through it. Candidates that fail, canaries and dead orchestrators: in the lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.deployment.kubernetes.target import Ask
from slipway.errors import ConfigError, ResourceError
from tests.support.kubernetes_scene import ONE, TWO, Scene, fine, release
from tests.support.kubernetes_server import kubernetes_server


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with kubernetes_server(tmp_path) as (cluster, config):
        yield Scene(cluster, config)


def test_promote_twice_and_roll_back(scene: Scene) -> None:
    target = scene.target()
    for name in (ONE, TWO):
        target.promote(release(name), fine)
    assert target.rollback(None, fine) == ONE
    status = target.status()
    assert (status.serving, status.healthy, status.lock, status.journal) == (ONE, True, None, None)
    assert [switch.release for switch in status.history] == [ONE, TWO, ONE]


def test_a_second_orchestrator_is_refused_by_name(scene: Scene) -> None:
    def check(_: Ask) -> None:
        with pytest.raises(ResourceError, match="busy: promote by me"):
            scene.target("you").promote(release(TWO), fine, wait_s=0.2)

    scene.target().promote(release(ONE), check)
    assert scene.target().status().serving == ONE


def test_rollback_needs_something_before(scene: Scene) -> None:
    target = scene.target()
    with pytest.raises(ConfigError, match="nothing before the serving release"):
        target.rollback(None, fine)
    target.promote(release(ONE), fine)
    with pytest.raises(ConfigError, match="it serves already"):
        target.promote(release(ONE), fine)
