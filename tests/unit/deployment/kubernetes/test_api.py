"""The API's errors by name: conflicts with field and manager, refusals, no permission, no server, no client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.deployment.kubernetes.api import ChangedError, KubernetesAPI
from slipway.errors import ConfigError, ResourceError
from tests.support.kubernetes_releases import kubernetes_params
from tests.support.kubernetes_server import Cluster, kubernetes_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    with kubernetes_server(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def api(server: tuple[Cluster, Path]) -> KubernetesAPI:
    server[0].objects.clear()
    server[0].fail = lambda method, path: 0
    return KubernetesAPI(kubernetes_params(kubeconfig=str(server[1])))


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"a": "b"}}, "data": data}


def test_an_object_is_applied_read_listed_and_deleted(api: KubernetesAPI) -> None:
    assert api.get("ConfigMap", "x") is None
    api.apply(config_map(one="1", two="2"))
    api.apply(config_map(one="1"))  # what is left out goes
    document = api.get("ConfigMap", "x")
    assert document is not None
    assert document["data"] == {"one": "1"}
    assert [item["metadata"]["name"] for item in api.list("ConfigMap", {"a": "b"})] == ["x"]
    assert api.list("ConfigMap", {"a": "c"}) == []
    api.delete("ConfigMap", "x")
    api.delete("ConfigMap", "x")
    assert api.get("ConfigMap", "x") is None


def test_a_conflict_names_field_and_manager(api: KubernetesAPI, server: tuple[Cluster, Path]) -> None:
    api.apply(config_map(one="1"))
    server[0].objects["ConfigMap", "x"]["owners"]["data|one"] = "kubectl-edit"
    api.apply(config_map(one="1"))  # the same value is nobody's conflict
    server[0].objects["ConfigMap", "x"]["owners"]["data|one"] = "kubectl-edit"
    with pytest.raises(ConfigError, match=r'\.data\.one \(conflict with "kubectl-edit"\)'):
        api.apply(config_map(one="2"))


def test_what_was_read_is_replaced_only_if_nobody_was_faster(api: KubernetesAPI) -> None:
    first = api.replace(config_map(one="1"))
    with pytest.raises(ChangedError):
        api.replace(config_map(one="2"))  # made already
    api.replace({**first, "data": {"one": "3"}})
    with pytest.raises(ChangedError):
        api.replace({**first, "data": {"one": "4"}})


def test_a_manifest_that_the_cluster_refuses_is_the_users_to_correct(api: KubernetesAPI) -> None:
    with pytest.raises(ConfigError, match="is invalid"):
        api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": "8000"}})


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (403, ResourceError, "expected permission"),
        (500, ResourceError, "run again"),
        (400, ConfigError, "made to fail"),
    ],
)
def test_refusals_by_status(
    api: KubernetesAPI, server: tuple[Cluster, Path], status: int, kind: type[Exception], message: str
) -> None:
    server[0].fail = lambda method, path: status
    with pytest.raises(kind, match=message):
        api.get("ConfigMap", "x")


def test_a_server_that_is_not_reached(server: tuple[Cluster, Path], tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    text = server[1].read_text()
    port = text.split("127.0.0.1:")[1].split()[0]
    config.write_text(text.replace(port, "1"))
    api = KubernetesAPI(kubernetes_params(kubeconfig=str(config)))
    with pytest.raises(ResourceError, match="Kubernetes API server"):
        api.get("ConfigMap", "x")


@pytest.mark.parametrize("text", ["", "a: [", "clusters: 3\ncurrent-context: x\n", "just words"])
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig"):
        KubernetesAPI(kubernetes_params(kubeconfig=str(tmp_path / "config")))


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ResourceError, match=r"slipway\[kubernetes\]"):
        KubernetesAPI(kubernetes_params())


def test_the_clients_timeout_is_one_that_it_takes() -> None:
    """The client ignores a float without a word and waits for ever."""
    from slipway.deployment.kubernetes.api import TIMEOUT_S

    assert isinstance(TIMEOUT_S, int)
