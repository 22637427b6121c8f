"""What a Kubernetes cluster says before a release is made for it, over a real conversation with an API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.config.kubernetes import KubernetesConfig
from slipway.config.load import Config, load_config
from slipway.ops.preflight.finding import Finding
from slipway.ops.preflight.kubernetes_checks import PodNeeds, kubernetes_checks, lack, needs_of, pods_on, quantity
from slipway.ops.preflight.target_checks import target_checks
from tests.support.kubernetes_server import Cluster, kubernetes_server


def node(name: str, gpus: int = 8, arch: str = "amd64", **spec: Any) -> dict[str, Any]:
    """A node as a DGX is one."""
    given = {
        "cpu": "223500m",
        "memory": "2113000000Ki",
        "pods": "110",
        **({"nvidia.com/gpu": str(gpus)} if gpus else {}),
    }
    labels = {"kubernetes.io/arch": arch, "pool": "h100"}
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": given, "conditions": conditions},
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Cluster, Config]]:
    with kubernetes_server(tmp_path) as (cluster, kubeconfig):
        words = ["layers.deploy=deploy/dgx-kubernetes", "layers.target=targets/dgx-h100", "layers.engine=engine/vllm"]
        config = load_config(overrides=[*words, f"deploy.kubernetes.kubeconfig={kubeconfig}"])
        yield cluster, config


def kubernetes_of(config: Config) -> KubernetesConfig:
    """Its section `deploy.kubernetes`."""
    assert config.deploy.kubernetes
    return config.deploy.kubernetes


def rows(config: Config) -> dict[str, Finding]:
    return {row.name: row for row in kubernetes_checks(config, kubernetes_of(config))}


def changed(config: Config, **values: Any) -> Config:
    kubernetes = kubernetes_of(config).model_copy(update=values)
    return config.model_copy(update={"deploy": config.deploy.model_copy(update={"kubernetes": kubernetes})})


def test_a_cluster_with_room_is_well_and_is_part_of_the_targets_rows(cluster: tuple[Cluster, Config]) -> None:
    there, config = cluster
    there.nodes = [node("a"), node("b", gpus=0)]
    judged = rows(config)
    assert [judged["API server"].status, judged["nodes"].status] == ["ok", "ok"]
    assert "b: too small" in judged["nodes"].finding
    assert {"API server", "nodes"} <= {row.name for row in target_checks(config, 0)}


def test_a_cluster_without_room_fails_and_says_why_of_each_node(cluster: tuple[Cluster, Config]) -> None:
    there, config = cluster
    taint = {"key": "dedicated", "effect": "NoSchedule"}
    there.nodes = [node("a", arch="arm64"), node("b", unschedulable=True), node("c", taints=[taint]), node("d", gpus=0)]
    judged = rows(config)["nodes"]
    assert judged.status == "fail" and judged.finding.startswith("4 nodes take 0 pods of")
    for reason in (
        "a: kubernetes.io/arch is arm64, not amd64",
        "b: unschedulable",
        "c: taint dedicated",
        "d: too small",
    ):
        assert reason in judged.finding
    there.nodes = [node("a")]
    assert rows(changed(config, replicas=64))["nodes"].status == "fail"
    assert "pool is h100, not b200" in rows(changed(config, node_selector={"pool": "b200"}))["nodes"].finding
    there.nodes = []
    assert rows(config)["nodes"].finding.startswith("0 nodes take 0 pods")


def test_nodes_that_we_may_not_list_warn_and_a_silent_server_fails(cluster: tuple[Cluster, Config]) -> None:
    there, config = cluster
    there.fail = lambda _, path: 403 if path == "/api/v1/nodes" else 0
    judged = rows(config)["nodes"]
    assert judged.status == "warn" and "infra/dgx/rbac.yaml" in judged.advice
    there.fail = lambda _, path: 403 if path.endswith("/pods") else 0
    assert rows(config)["API server"].status == "fail"
    there.fail = lambda *_: 500
    (row,) = rows(config).values()
    assert (row.name, row.status) == ("API server", "fail")
    nowhere = changed(config, kubeconfig="/nowhere/config")
    (row,) = rows(nowhere).values()
    assert row.status == "fail" and "kubeconfig" in row.finding


def test_another_version_than_the_config_says_warns(cluster: tuple[Cluster, Config]) -> None:
    there, config = cluster
    there.nodes, there.version = [node("a")], "1.34"
    judged = rows(config)["API server"]
    assert judged.status == "warn" and "Kubernetes 1.34; deploy.kubernetes.version=1.35" in judged.finding


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("3920m", 3.92), ("1Ki", 1024), ("2.5Gi", 2.5 * 2**30), ("1e3", 0), ("5G", 5e9), ("x", 0), (None, 0)],
)
def test_quantities_are_read_as_kubernetes_writes_them(text: object, value: float) -> None:
    assert quantity(text) == value


def test_what_a_node_leaves_out_is_not_there() -> None:
    needs = PodNeeds({}, 1, 1e9, 0, 1)
    assert lack({}, needs) == "not ready" and pods_on({}, needs) == 0
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert lack(ready, needs) == "too small"
    assert lack(node("a", taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]), needs) == "taint nvidia.com/gpu"
    assert lack(node("a", taints=[{"key": "x", "effect": "PreferNoSchedule"}]), needs) == ""


def test_needs_are_those_of_the_pod_that_is_written(cluster: tuple[Cluster, Config]) -> None:
    _, config = cluster
    needs = needs_of(config, kubernetes_of(changed(config, replicas=2, cpus=7.5)))
    assert (needs.cpus, needs.replicas, needs.gpus) == (7.5, 2, config.engine.tensor_parallel or 1)
    assert needs.labels["kubernetes.io/arch"] == config.serving.arch
