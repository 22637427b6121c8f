"""Nothing is kept of what serves: what the cluster has of it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.decision.incumbent import incumbent
from slipway.deployment.kubernetes.client import KubernetesClient
from slipway.deployment.state import status, stop
from slipway.errors import EngineError, ResourceError
from tests.support.kubernetes_scene import FLAVORS, OBJECTS, RECORDS, Scene, cluster_engine, deploy
from tests.support.kubernetes_server import wait_until
from tests.unit.deployment.kubernetes.test_client import promote


@pytest.mark.parametrize("flavor", FLAVORS)
def test_nothing_is_kept_of_what_serves(scene: Scene, tmp_path: Path, flavor: str) -> None:
    """It is asked and ended by what the cluster has of it; no schedule replaces it, a person's promotion does."""
    params = deploy(scene, flavor=flavor)
    client = KubernetesClient(params)
    only = promote(client, cluster_engine(tmp_path, "a"))["release"]["name"]
    scene.lose(RECORDS, only)
    now = status(params)
    assert now.release is not None
    assert (now.release.name, now.healthy, now.releases) == (only, True, [only])
    (row,) = now.document["damaged"]
    assert (row["release"], row["decides"], row["error"]["value"]) == (only, False, "nothing is kept of it")
    serving = incumbent(now)
    assert serving is not None
    assert (serving.chosen_by, serving.line, serving.engine) == (None, "", cluster_engine(tmp_path, "a").digest)
    assert [one.release for one in stop(params)] == [only]
    wait_until(lambda: not scene.cluster.pods)
    assert client.call("start_current", {"wait_s": 5})["started"]
    with pytest.raises(EngineError, match="died"):
        promote(client, cluster_engine(tmp_path, "b", "die"))
    client.close()
    assert (status(params).healthy, client.call("status", {})["pointer"]) == (True, only)
    second = promote(client, cluster_engine(tmp_path, "c"))["release"]["name"]
    now = status(params)
    assert (now.releases, now.healthy, now.document["damaged"]) == ([second], True, [])
    wait_until(lambda: len(scene.cluster.pods) == 1)
    assert not [name for _, name in scene.cluster.objects if only in name], "it could not come back"


def test_all_of_it_is_gone(scene: Scene, tmp_path: Path) -> None:
    params, client = deploy(scene), KubernetesClient(deploy(scene))
    only = promote(client, cluster_engine(tmp_path, "a"))["release"]["name"]
    scene.lose([*OBJECTS["deployment"], *RECORDS], only)
    assert status(params).release is None
    with pytest.raises(ResourceError, match="nothing was promoted yet"):
        client.call("start_current", {"wait_s": 5})
    assert promote(client, cluster_engine(tmp_path, "a"))["release"]["name"].startswith("0002-")
