"""Releases as the tests of Kubernetes render them."""

from __future__ import annotations

from typing import Any

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.pod import KubernetesRelease
from slipway.engines.driver import Limits, ServePlan

IMAGE = "registry.example/vllm@sha256:" + "a" * 64


def serve_plan(**more: Any) -> ServePlan:
    """A vLLM plan with a container image, an environment and a drain of 30 s."""
    values: dict[str, Any] = {
        "kind": "vllm",
        "target": "dgx-h100",
        "image": IMAGE,
        "argv": ["vllm", "serve", "{model}", "--host", "{host}", "--port", "{port}", "--max-num-seqs", "8"],
        "environment": {"VLLM_CACHE_ROOT": "{cache}/vllm", "HF_HUB_OFFLINE": "1"},
        "limits": Limits(context=4096, slots=8, tensor_parallel=2),
        "start_s": 900.0,
        "stop_s": 40.0,
    }
    return ServePlan(**{**values, **more})


def kubernetes_release(name: str = "0007-3fa9c1d2", **more: Any) -> KubernetesRelease:
    """A release of that plan."""
    values: dict[str, Any] = {"digest": "sha256:" + "b" * 64, "plan": serve_plan(), "arch": "amd64"}
    return KubernetesRelease(name, **{**values, "digests": {"engine": "e" * 64}, **more})


def kubernetes_params(**more: Any) -> KubernetesConfig:
    """The config of a cluster."""
    return KubernetesConfig(**{"name": "chat", "repository": "registry.example/team/chat", **more})
