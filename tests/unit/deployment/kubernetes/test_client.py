"""A cluster answers the agent's verbs: a whole promotion, a rollback, a session that ends in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.kubernetes.client import KubernetesClient
from slipway.deployment.state import status, versions
from slipway.errors import ConfigError, ResourceError, StateError
from slipway.store.artifacts import Engine
from tests.support.kubernetes_scene import Scene, cluster_engine, deploy
from tests.support.kubernetes_server import wait_until
from tests.support.shippable import DOCUMENTS


def promote(client: KubernetesClient, made: Engine, until: str = "commit") -> dict[str, Any]:
    """The verbs of a promotion, as `promotion.promote` calls them, up to one of them; its result."""
    bundle = client.deliver(made, DOCUMENTS, "m", lambda _: None)
    begun = client.call("begin", {"action": "promote", "engine": made.digest, "wait_s": 5})
    record = {"model": "m", "digests": {"engine": made.digest}, "runs": {}, "outcome": "pass"}
    staged = {**bundle, "release": record, "documents": {"smoke.jsonl": "{}\n", "probe.jsonl": "x" * 200_000}}
    client.call("stage", staged)
    endpoint = client.call("start", {})
    with client.reach(endpoint) as url:
        assert httpx.post(f"{url}/chat/completions", json={}, trust_env=False).status_code == 200
    if until == "start":
        return begun
    client.call("switch", {"smoke": [{"id": "t0"}]})
    return client.call("commit", {"spare": []})


def test_the_verbs_of_a_promotion_and_of_a_rollback(scene: Scene, tmp_path: Path) -> None:
    params = deploy(scene)
    client = KubernetesClient(params)
    assert status(params).release is None
    first = promote(client, cluster_engine(tmp_path, "a"))["release"]
    second = promote(client, cluster_engine(tmp_path, "b"))["release"]
    now = status(params)
    assert now.release is not None
    assert (now.release.name, now.healthy, now.previous) == (second["name"], True, first["name"])
    assert now.release.smoke == [{"id": "t0"}]
    assert [(row["name"], row["state"]) for row in versions(params)] == [
        (second["name"], "serving"), (first["name"], "previous"),
    ]  # fmt: skip
    assert client.call("document", {"release": first["name"], "document": "smoke.jsonl"})["text"] == "{}\n"
    large = {"release": first["name"], "document": "probe.jsonl"}
    assert client.call("document", {**large, "optional": True})["text"] is None
    with pytest.raises(StateError, match=r"no probe\.jsonl"):
        client.call("document", large)
    assert client.call("begin", {"action": "rollback", "release": None})["new"] == first["name"]
    client.call("start", {})
    client.call("switch", {})
    client.call("commit", {})
    now = status(params)
    assert now.release is not None
    assert now.release.name == first["name"]
    assert now.withdrawn == {second["name"].rpartition("-")[2]}
    assert scene.ask().body == b"a"


def test_one_engine_with_another_index_is_another_release(scene: Scene, tmp_path: Path) -> None:
    client, made = KubernetesClient(deploy(scene)), cluster_engine(tmp_path, "a")
    promote(client, made)
    asked = {"action": "promote", "engine": made.digest, "wait_s": 5}
    assert client.call("begin", {**asked, "index": None})["new"] is None
    client.close()
    assert client.call("begin", {**asked, "index": "b" * 64})["new"] == f"0002-{made.digest[:8]}"
    client.close()


def test_a_session_that_ends_before_the_record_leaves_the_champion(scene: Scene, tmp_path: Path) -> None:
    params, client = deploy(scene), KubernetesClient(deploy(scene))
    promote(client, cluster_engine(tmp_path, "a"))
    promote(client, cluster_engine(tmp_path, "b"), until="start")
    client.close()
    now = status(params)
    assert now.release is not None
    assert (now.release.name[:4], now.healthy, now.document["interrupted"], now.document["lock"]) == (
        "0001", True, None, None,
    )  # fmt: skip
    wait_until(lambda: len(scene.cluster.pods) == 1)
    assert now.releases == [now.release.name]  # what never served leaves nothing
    assert not [name for _, name in scene.cluster.objects if "0002-" in name]


def test_the_same_engine_again_is_kept_and_started_where_it_was_stopped(scene: Scene, tmp_path: Path) -> None:
    client, made = KubernetesClient(deploy(scene)), cluster_engine(tmp_path, "a")
    name = promote(client, made)["release"]["name"]
    assert [row["release"] for row in client.call("stop", {})["stopped"]] == [name]
    wait_until(lambda: not scene.cluster.pods)
    assert client.call("begin", {"action": "promote", "engine": made.digest})["new"] is None
    assert client.call("start_current", {})["started"]
    client.close()
    assert scene.ask().body == b"a"
    assert client.call("gc", {"keep": 2, "dry_run": True}) == {"pruned": []}


def test_what_a_cluster_does_not_know_is_refused_by_name(scene: Scene) -> None:
    client = KubernetesClient(deploy(scene))
    with pytest.raises(ConfigError, match="verb of a cluster: hold"):
        client.call("hold", {})
    with pytest.raises(ConfigError, match="none is open"):
        client.call("start", {})
    with pytest.raises(ResourceError, match="nothing was promoted yet"):
        client.call("start_current", {})
    secret = KubernetesClient(deploy(scene, api_key={"name": "key"}))
    with pytest.raises(ConfigError, match=r"kubernetes\.api_key"), secret.reach({"service": "x", "port": 1}):
        pass


def test_a_target_without_its_section_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"deploy\.kubernetes: absent"):
        KubernetesClient(DeployConfig())


@pytest.mark.parametrize("flavor", ["deployment", "kserve"])
def test_stop_ends_the_pods_and_start_brings_them_back(scene: Scene, tmp_path: Path, flavor: str) -> None:
    params = deploy(scene, flavor=flavor)
    client = KubernetesClient(params)
    name = promote(client, cluster_engine(tmp_path, "a"))["release"]["name"]
    assert scene.cluster.pods
    (row,) = client.call("stop", {"wait_s": 5})["stopped"]
    assert row["release"] == name
    wait_until(lambda: not scene.cluster.pods)
    assert (client.call("status", {})["pointer"], client.call("status", {})["healthy"]) == (name, False)
    assert client.call("stop", {"wait_s": 5})["stopped"] == []
    assert client.call("start_current", {"wait_s": 5})["started"]
    assert client.call("status", {})["healthy"] and scene.cluster.pods


@pytest.mark.parametrize("flavor", ["deployment", "kserve"])
def test_a_key_is_refused_before_anything_is_packed(scene: Scene, tmp_path: Path, flavor: str) -> None:
    made = cluster_engine(tmp_path, "a")
    client = KubernetesClient(deploy(scene, flavor=flavor, api_key={"name": "keys", "key": "chat"}))
    with pytest.raises(ConfigError, match=r"deploy\.kubernetes\.api_key.*let a gateway check keys"):
        client.deliver(made, DOCUMENTS, "m", lambda _: None)
    assert not (made.path.parents[1] / "bundles").exists()
