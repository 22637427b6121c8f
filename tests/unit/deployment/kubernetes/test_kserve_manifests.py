"""A release on KServe passes KServe's own schemas; a candidate gets a share from 1, and keeps its pods afterwards."""

from __future__ import annotations

import copy

import pytest

from slipway.deployment.kubernetes.kserve_manifests import inference_service, predictor, serving_runtime
from slipway.errors import ConfigError
from tests.support.kubernetes_releases import kubernetes_params, kubernetes_release, serve_plan
from tests.support.kubernetes_schema import crd_schema, problems

PARAMS = kubernetes_params(flavor="kserve", replicas=2)
OLD, NEW = kubernetes_release("0001-00000000"), kubernetes_release("0002-11111111", start_s=300.0)
SERVING, CANDIDATE = predictor(OLD, PARAMS), predictor(NEW, PARAMS)


def test_runtime_and_service_are_what_kserve_takes() -> None:
    files = kubernetes_release(plan=serve_plan(files={"serve.yaml": "a: 1\n"}))
    for document in (serving_runtime(OLD, PARAMS), serving_runtime(files, PARAMS), inference_service(PARAMS, SERVING)):
        assert problems(document, "1.35") == []
    assert problems(inference_service(PARAMS, SERVING, CANDIDATE, 1), "1.35") == []


def test_the_schemas_see_a_field_that_kserve_would_drop_without_a_word() -> None:
    document = inference_service(PARAMS, SERVING, CANDIDATE, 10)
    for path in (("predictor",), ("canary", 0, "predictor", "model")):
        bad = copy.deepcopy(document)
        place = bad["spec"]
        for part in path:
            place = place[part]
        place["storageUris"] = ["oci://x"]  # does nothing where a bundle is meant (kserve#5200)
        assert problems(bad, "1.35")
    assert crd_schema("inferenceservice")["properties"]["spec"]["additionalProperties"] is False


def test_the_bundle_is_an_image_volume_by_digest() -> None:
    model = inference_service(PARAMS, SERVING)["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"oci+native://registry.example/team/chat@{OLD.digest}"
    assert model["runtime"] == serving_runtime(OLD, PARAMS)["metadata"]["name"]
    mounts = serving_runtime(OLD, PARAMS)["spec"]["containers"][0]["volumeMounts"]
    assert "/mnt/models" not in [mount["mountPath"] for mount in mounts]  # KServe mounts it there itself
    assert serving_runtime(OLD, PARAMS)["spec"]["containers"][0]["command"][2] == "/mnt/models/engine/model"


@pytest.mark.parametrize("percent", [0, 100, -1])
def test_a_share_outside_1_to_99_is_refused(percent: int) -> None:
    with pytest.raises(ConfigError, match="share of the candidate"):
        inference_service(PARAMS, SERVING, CANDIDATE, percent)


def test_promoting_makes_the_canarys_name_the_predictors_and_changes_nothing_else_of_it() -> None:
    """KServe keeps a canary's pods when its name becomes the predictor's and its entry goes."""
    entry = inference_service(PARAMS, SERVING, CANDIDATE, 50)["spec"]["canary"][0]["predictor"]
    promoted = inference_service(PARAMS, CANDIDATE)["spec"]
    assert "canary" not in promoted
    assert {k: v for k, v in promoted["predictor"].items() if k != "maxReplicas"} == entry
    assert entry["name"] == "r0002-11111111"
