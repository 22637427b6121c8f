"""The pod of a release: its command is the plan's, its waits come from figures, and nothing in it is root."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.deployment.kubernetes.pod import (
    LEAST_START_S,
    PROBE_S,
    container,
    grace_seconds,
    image_of,
    pod,
    rendered_files,
    start_seconds,
)
from slipway.engines.driver import Limits
from slipway.errors import ConfigError
from tests.support.kubernetes_releases import IMAGE, kubernetes_params, kubernetes_release, serve_plan

SECRET = {"name": "chat-key", "key": "api-key"}
NIM = {"image": "nvcr.io/nim/llm@sha256:" + "c" * 64, "key": {"name": "ngc", "key": "key"}}


def variables(engine: dict[str, Any]) -> dict[str, Any]:
    """Names of a container's variables, with their values or where they come from."""
    return {row["name"]: row.get("value", row.get("valueFrom")) for row in engine["env"]}


def test_the_command_is_the_plans_with_the_pods_places_in_it() -> None:
    engine = container(kubernetes_release(), kubernetes_params(port=8123))
    assert " ".join(engine["command"]) == (
        "vllm serve /mnt/models/engine/model --host 0.0.0.0 --port 8123 --max-num-seqs 8"
    )
    assert engine["image"] == IMAGE
    assert engine["ports"] == [{"name": "http", "containerPort": 8123}]
    assert variables(engine)["VLLM_CACHE_ROOT"] == "/cache/vllm"
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_no_placeholder_is_left_anywhere() -> None:
    plan = serve_plan(
        kind="trtllm",
        argv=["trtllm-serve", "{model}", "--extra_llm_api_options", "{bundle}/serve.yaml", "-t", "{threads}"],
        files={"serve.yaml": "cache: {cache}/tuner\nmodel: {bundle}/x\n"},
    )
    release = kubernetes_release(plan=plan)
    spec = pod(release, kubernetes_params(), "chat-1")
    words = spec["containers"][0]["command"]
    assert words[3] == "/config/serve.yaml"
    assert rendered_files(release, kubernetes_params()) == {
        "serve.yaml": "cache: /cache/tuner\nmodel: /mnt/models/engine/x\n"
    }
    assert {"name": "config", "configMap": {"name": "chat-1"}} in spec["volumes"]
    assert not [word for word in words if "{" in word]


@pytest.mark.parametrize(("measured", "seconds"), [(None, 900), (10.0, LEAST_START_S), (400.0, 800)])
def test_the_startup_probe_allows_twice_the_measured_start(measured: float | None, seconds: float) -> None:
    release = kubernetes_release(start_s=measured)
    probe = container(release, kubernetes_params())["startupProbe"]
    assert start_seconds(release) == seconds
    assert probe["failureThreshold"] * probe["periodSeconds"] >= seconds
    assert probe["periodSeconds"] == PROBE_S


@pytest.mark.parametrize("drain", [0, 30, 300])
def test_the_grace_period_is_above_the_drain_and_the_sleep_before_it(drain: int) -> None:
    plan = serve_plan(stop_s=drain + 10.0)
    release = kubernetes_release(plan=plan)
    sleep = container(release, kubernetes_params())["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace_seconds(plan) > drain + sleep
    assert pod(release, kubernetes_params(), "x")["terminationGracePeriodSeconds"] == grace_seconds(plan)


def test_before_1_30_the_sleep_is_a_program_of_the_image() -> None:
    engine = container(kubernetes_release(), kubernetes_params(version="1.29", claim="bundles"))
    assert engine["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "15"]}}


def test_nothing_is_root_and_nothing_of_the_api_server_is_in_the_pod() -> None:
    spec = pod(kubernetes_release(), kubernetes_params(), "x")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # a Service named vllm would set VLLM_PORT
    security = spec["containers"][0]["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["nodeSelector"]["kubernetes.io/arch"] == "amd64"


def test_a_bundle_is_mounted_by_its_digest_read_only() -> None:
    release = kubernetes_release()
    spec = pod(release, kubernetes_params(), "x")
    assert spec["volumes"][0]["image"]["reference"] == f"registry.example/team/chat@{release.digest}"
    mount = spec["containers"][0]["volumeMounts"][0]
    assert mount == {"name": "bundle", "mountPath": "/mnt/models", "readOnly": True, "subPath": "models"}
    claimed = pod(release, kubernetes_params(claim="bundles"), "x")
    assert claimed["volumes"][0]["persistentVolumeClaim"] == {"claimName": "bundles", "readOnly": True}
    assert claimed["containers"][0]["volumeMounts"][0]["subPath"] == release.digest.replace(":", "-")


def test_a_key_comes_out_of_a_secret_and_an_engine_that_checks_none_is_refused() -> None:
    params = kubernetes_params(api_key=SECRET)
    assert variables(container(kubernetes_release(), params))["VLLM_API_KEY"] == {"secretKeyRef": SECRET}
    tensorrt = kubernetes_release(plan=serve_plan(kind="trtllm"))
    with pytest.raises(ConfigError, match=r"api_key: trtllm; expected an engine that checks a key itself"):
        container(tensorrt, params)


def test_a_plan_that_no_pod_can_run_is_refused_by_name() -> None:
    for image in (None, "registry.example/vllm:26.08"):
        with pytest.raises(ConfigError, match="image of the engine: "):
            image_of(serve_plan(image=image))
    wide = serve_plan(
        argv=["bash", "-c", '"$0" --nnodes "$SLURM_NNODES"', "vllm"],
        limits=Limits(context=128, slots=1, tensor_parallel=16),
    )
    with pytest.raises(ConfigError, match="16 ranks on several nodes"):
        container(kubernetes_release(plan=wide), kubernetes_params())


def test_a_nim_gets_the_model_as_a_fine_tuned_one() -> None:
    engine = container(kubernetes_release(), kubernetes_params(nim=NIM))
    values = variables(engine)
    assert engine["image"] == NIM["image"]
    assert "command" not in engine  # its entrypoint chooses
    assert values["NIM_FT_MODEL"] == "/mnt/models/engine/model"
    assert values["NIM_USE_TRTLLM_LEGACY_BACKEND"] == "1"
    assert values["NGC_API_KEY"] == {"secretKeyRef": {"name": "ngc", "key": "key"}}
    assert engine["readinessProbe"]["httpGet"]["path"] == "/v1/health/ready"
    with pytest.raises(ConfigError, match="api_key: NIM"):
        container(kubernetes_release(), kubernetes_params(nim=NIM, api_key=SECRET))


def test_an_engine_of_a_cpu_asks_for_no_gpu() -> None:
    plan = serve_plan(kind="llama.cpp", limits=Limits(context=128, slots=1))
    spec = pod(kubernetes_release(plan=plan), kubernetes_params(), "x")
    assert "tolerations" not in spec
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]
