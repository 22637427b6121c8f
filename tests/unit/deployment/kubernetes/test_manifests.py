"""Every manifest passes Kubernetes' own schemas, strictly, and carries the release that it is of."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from slipway.deployment.kubernetes.manifests import (
    RELEASE,
    disruption_budget,
    notes,
    object_name,
    release_objects,
    route,
    service,
)
from slipway.errors import ConfigError
from tests.support.kubernetes_releases import kubernetes_params, kubernetes_release, serve_plan
from tests.support.kubernetes_schema import problems

VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
SECRET = {"name": "chat-key"}
NIM = {"image": "nvcr.io/nim/llm@sha256:" + "c" * 64, "key": {"name": "ngc", "key": "key"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "claim": {"claim": "bundles"},
    "key": {"api_key": SECRET, "replicas": 3, "pull_secrets": ["pull"], "runtime_class": "nvidia"},
    "nim": {"nim": NIM, "node_selector": {"nvidia.com/gpu.product": "H100"}},
}


def params_for(version: str, variant: str) -> Any:
    """A variant on a cluster of a version: before image volumes with a claim."""
    more = dict(VARIANTS[variant])
    if int(version.split(".")[1]) < 33:
        more["claim"] = "bundles"
    return kubernetes_params(version=version, **more)


# every version, the variants in turn; all variants on the newest
PAIRS = [(version, list(VARIANTS)[i % len(VARIANTS)]) for i, version in enumerate(VERSIONS[:-1])]


@pytest.mark.parametrize(("version", "variant"), [*PAIRS, *((VERSIONS[-1], variant) for variant in VARIANTS)])
def test_manifests_are_what_this_version_takes(version: str, variant: str) -> None:
    params = params_for(version, variant)
    release = kubernetes_release(plan=serve_plan(files={"serve.yaml": "a: {cache}\n"}))
    objects = release_objects(release, params)
    assert {document["kind"]: problems(document, version) for document in objects} == {
        "ConfigMap": [],
        "Deployment": [],
        "Service": [],
        "PodDisruptionBudget": [],
    }


def test_the_service_of_clients_keeps_its_name_whatever_serves() -> None:
    documents = [service(kubernetes_params(), "chat", release) for release in ("0001-00000000", "0002-11111111")]
    assert [d["metadata"]["name"] for d in documents] == ["chat", "chat"]
    assert documents[0]["spec"]["selector"] != documents[1]["spec"]["selector"]


def test_the_schemas_see_a_misspelt_field_and_a_wrong_type() -> None:
    (deployment, *_) = release_objects(kubernetes_release(), kubernetes_params())
    for damage in ("misspelt", "type"):
        bad = copy.deepcopy(deployment)
        container = bad["spec"]["template"]["spec"]["containers"][0]
        if damage == "misspelt":
            container["startUpProbe"] = container.pop("startupProbe")
        else:
            container["ports"][0]["containerPort"] = "8000"
        assert problems(bad, "1.35")


def test_objects_of_a_release_choose_its_pods_and_no_others() -> None:
    params = kubernetes_params()
    for name in ("0007-3fa9c1d2", "0008-00000000"):
        for document in release_objects(kubernetes_release(name), params):
            assert document["metadata"]["labels"][RELEASE] == name
            assert document["metadata"]["name"] == f"chat-{name}" == object_name(params, name)
        (deployment, stable, budget) = release_objects(kubernetes_release(name), params)
        pod_labels = deployment["spec"]["template"]["metadata"]["labels"]
        chosen = (
            deployment["spec"]["selector"]["matchLabels"],
            stable["spec"]["selector"],
            budget["spec"]["selector"]["matchLabels"],
        )
        assert all(labels.items() <= pod_labels.items() for labels in chosen)
        assert all(labels[RELEASE] == name for labels in chosen)


def test_digests_are_on_the_pod_and_labels_fit() -> None:
    (deployment, *_) = release_objects(kubernetes_release(), kubernetes_params(name="a" * 40))
    pod = deployment["spec"]["template"]["metadata"]
    assert pod["annotations"]["slipway.digest/engine"] == "e" * 64
    assert pod["annotations"]["slipway.bundle"].startswith("sha256:")
    assert all(len(value) <= 63 for value in pod["labels"].values())
    assert len(deployment["metadata"]["name"]) <= 63


def test_a_deployment_waits_longer_than_the_start_it_allows() -> None:
    (deployment, *_) = release_objects(kubernetes_release(start_s=2000.0), kubernetes_params(start_timeout_s=60))
    assert deployment["spec"]["progressDeadlineSeconds"] > 4000
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_only_pod_is_not_evicted_and_one_of_several_is() -> None:
    assert disruption_budget(kubernetes_params(), "0001-00000000")["spec"]["minAvailable"] == 1
    assert disruption_budget(kubernetes_params(replicas=2), "0001-00000000")["spec"]["maxUnavailable"] == 1


def test_a_route_weighs_from_1_and_to_100() -> None:
    params = kubernetes_params(gateway="public")
    document = route(params, {"0001-00000000": 99, "0002-11111111": 1})
    assert problems(document, "1.35") == []
    assert [b["weight"] for b in document["spec"]["rules"][0]["backendRefs"]] == [99, 1]
    assert document["metadata"]["labels"][RELEASE] == "0001-00000000"
    for weights in ({"a": 100, "b": 0}, {"a": 50, "b": 49}, {}):
        with pytest.raises(ConfigError, match="shares of a route"):
            route(params, weights)
    with pytest.raises(ConfigError, match="gateway: none"):
        route(kubernetes_params(), {"a": 100})


def test_notes_say_what_a_version_and_a_config_lack() -> None:
    assert any("feature gate ImageVolume" in line for line in notes(kubernetes_params(version="1.33")))
    assert not any("ImageVolume" in line for line in notes(kubernetes_params(version="1.35")))
    assert any("no gateway" in line for line in notes(kubernetes_params()))
    assert notes(kubernetes_params(gateway="public", api_key=SECRET)) == []
