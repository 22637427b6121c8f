"""Damaged records of a target on a cluster: named, set aside, and in the way of nothing that does not need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.deployment.kubernetes.client import KubernetesClient
from slipway.deployment.state import status, versions
from slipway.errors import StateError
from tests.support.kubernetes_scene import Scene, cluster_engine, deploy
from tests.unit.deployment.kubernetes.test_client import promote

GARBAGE = ["", "{", "[]", "null", "\0", '{"name": "other", "digests": {"engine": "a"}}', '{"name": 1}']


@pytest.fixture
def names(scene: Scene, tmp_path: Path) -> list[str]:
    """Three releases, the last of which serves."""
    client = KubernetesClient(deploy(scene))
    return [promote(client, cluster_engine(tmp_path, key))["release"]["name"] for key in "abc"]


def data(scene: Scene, name: str) -> dict[str, Any]:
    values: dict[str, Any] = scene.cluster.objects["ConfigMap", name]["data"]
    return values


def rollback(client: KubernetesClient, release: str | None = None) -> str:
    client.call("begin", {"action": "rollback", "release": release, "wait_s": 5})
    client.call("start", {})
    client.call("switch", {})
    return str(client.call("commit", {})["release"]["name"])


def test_damaged_records_are_named_and_in_nobodys_way(scene: Scene, names: list[str], tmp_path: Path) -> None:
    params, client = deploy(scene), KubernetesClient(deploy(scene))
    old = data(scene, f"chat-{names[1]}-record")
    whole = old["release.json"]
    for garbage in GARBAGE:  # of the release that a rollback would go to
        old["release.json"] = garbage
        now = status(params)
        assert [(row["release"], row["decides"]) for row in now.document["damaged"]] == [(names[1], False)]
        assert (now.healthy, now.previous, now.releases) == (True, names[0], [names[0], names[2]])
        assert [row["state"] for row in versions(params)] == ["serving", "damaged", "previous"]
        with pytest.raises(StateError, match=f"record of release {names[1]}"):
            rollback(client, names[1])
        client.close()
    fourth = promote(client, cluster_engine(tmp_path, "d"))["release"]["name"]
    assert rollback(client) == names[2]
    assert client.call("gc", {"keep": 1})["pruned"] == [fourth], "a damaged one stays: it may be put back"
    old["release.json"] = whole
    serving = data(scene, f"chat-{names[2]}-record")
    kept, serving["release.json"] = serving["release.json"], "{"
    document = client.call("status", {})
    assert [(row["release"], row["decides"]) for row in document["damaged"]] == [(names[2], True)]
    assert (document["pointer"], document["current"], document["healthy"]) == (names[2], None, True)
    with pytest.raises(StateError, match=f"record of release {names[2]}"):
        status(params)
    with pytest.raises(StateError, match=f"record of release {names[2]}"):  # nobody can tell what it would replace
        promote(client, cluster_engine(tmp_path, "e"))
    client.close()
    assert rollback(client) == names[1]
    serving["release.json"] = kept
    for record, harm in (("history", "{\n"), ("history", "[]\n"), ("journal", "x"), ("journal", '{"step": 1}')):
        target = data(scene, "chat-record")
        before, target[record] = target.get(record, ""), harm
        document = client.call("status", {})
        assert [(row["record"], row["decides"]) for row in document["damaged"]] == [(record, True)]
        assert document["healthy"]
        with pytest.raises(StateError, match=record):
            promote(client, cluster_engine(tmp_path, "e"))
        client.close()
        assert client.call("stop", {"wait_s": 5})["error"] is None
        assert client.call("start_current", {"wait_s": 5})["started"], "what serves comes up whatever records say"
        target = data(scene, "chat-record")
        target[record] = before
        if not before:
            del target[record]
    assert promote(client, cluster_engine(tmp_path, "e"))["release"]["name"].startswith("0005-")
