"""Start and stop where records of what was applied are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.kubernetes.client import KubernetesClient
from slipway.deployment.state import status, stop
from slipway.errors import StateError
from tests.support.kubernetes_scene import Scene, cluster_engine, deploy
from tests.unit.deployment.kubernetes.test_client import promote
from tests.unit.deployment.kubernetes.test_looks import rollback


def test_what_was_applied_cannot_be_read(scene: Scene, tmp_path: Path) -> None:
    """Of the serving release: it goes on, and a stop says whose pods stay. Of one before: no rollback goes to it."""
    params, client = deploy(scene), KubernetesClient(deploy(scene))
    names = [promote(client, cluster_engine(tmp_path, key))["release"]["name"] for key in "abc"]
    data = scene.cluster.objects["ConfigMap", f"chat-{names[1]}-manifests"]["data"]
    whole = data["rendered"]
    for garbage in ("", "{", "[]", "null", "{}", '{"name": 1}', '{"objects": 3}'):
        data["rendered"] = garbage
        now = status(params)
        assert [(row["record"], row["release"]) for row in now.document["damaged"]] == [("rendered", names[1])]
        assert (now.healthy, now.previous) == (True, names[0])
    with pytest.raises(StateError, match="delete that ConfigMap"):
        stop(params)
    assert not status(params).healthy, "what can be ended was ended"
    assert client.call("start_current", {"wait_s": 5})["started"]
    data["rendered"] = whole
    scene.cluster.objects["ConfigMap", f"chat-{names[2]}-manifests"]["data"]["rendered"] = "{"
    now = status(params)
    assert (now.healthy, [row["decides"] for row in now.document["damaged"]]) == (True, [False])
    scene.cluster.lose("ConfigMap", f"chat-{names[2]}-manifests")
    assert rollback(client) == names[1]
