"""Somebody deleted what serves, or what is kept of it: named by `status`, and every other verb has a way on."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.kubernetes.client import KubernetesClient
from slipway.deployment.state import status
from slipway.errors import EngineError
from tests.support.kubernetes_scene import FLAVORS, OBJECTS, RECORDS, Scene, cluster_engine, deploy
from tests.support.kubernetes_server import wait_until
from tests.unit.deployment.kubernetes.test_client import promote
from tests.unit.deployment.kubernetes.test_looks import rollback


@pytest.mark.parametrize("flavor", FLAVORS)
def test_what_was_deleted_is_named_and_start_puts_it_back(scene: Scene, tmp_path: Path, flavor: str) -> None:
    params = deploy(scene, flavor=flavor)
    client = KubernetesClient(params)
    name = promote(client, cluster_engine(tmp_path, "a"))["release"]["name"]
    data = {key: set(document.get("data", ())) for key, document in scene.cluster.objects.items()}
    each = [[one] for one in (*OBJECTS[flavor], *RECORDS)]
    for things in [*each, [*OBJECTS[flavor], RECORDS[0]]]:
        gone = scene.lose(things, name)
        now = status(params)
        assert now.release is not None
        assert (now.release.name, sorted(now.document["missing"]), now.document["damaged"]) == (name, gone, [])
        client.call("start_current", {"wait_s": 5})
        now = status(params)
        assert (now.healthy, now.document["missing"]) == (True, [])
        assert {key: set(one.get("data", ())) for key, one in scene.cluster.objects.items()} == data


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_whatever_was_deleted_a_rollback_and_a_promotion_replace_it(
    scene: Scene, tmp_path: Path, flavor: str, record: tuple[str, str]
) -> None:
    params = deploy(scene, flavor=flavor)
    client = KubernetesClient(params)
    first, second = [promote(client, cluster_engine(tmp_path, key))["release"]["name"] for key in "ab"]
    scene.lose([*OBJECTS[flavor], record], second)
    scene.lose([record], first)
    request = {"release": first, "document": "smoke.jsonl"}
    assert client.call("document", request)["text"] == "{}\n", "what a rollback asks with"
    assert rollback(client) == first
    scene.lose([*OBJECTS[flavor], record], first)
    third = promote(client, cluster_engine(tmp_path, "c"))["release"]["name"]
    now = status(params)
    assert now.release is not None
    assert (now.release.name, now.healthy, now.previous, now.document["missing"]) == (third, True, first, [])
    wait_until(lambda: len(scene.cluster.pods) == 1)  # nothing of before is left running


def test_a_candidate_that_is_no_good_leaves_a_champion_whose_route_is_gone(scene: Scene, tmp_path: Path) -> None:
    params, client = deploy(scene), KubernetesClient(deploy(scene))
    name = promote(client, cluster_engine(tmp_path, "a"))["release"]["name"]
    scene.lose(OBJECTS["deployment"], name)
    with pytest.raises(EngineError, match="died"):
        promote(client, cluster_engine(tmp_path, "b", "die"))
    client.close()
    client.call("start_current", {"wait_s": 5})
    assert (status(params).healthy, scene.ask().body) == (True, b"a")
