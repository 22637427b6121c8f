"""Section deploy.kubernetes: what no cluster could run is refused when the config is parsed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from slipway.config.kubernetes import CanaryConfig, KubernetesConfig

NIM = {"image": "nvcr.io/nim/llm@sha256:" + "c" * 64, "key": {"name": "ngc"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "1.32"}, "image volumes with subPath came in 1.33"),
        ({"version": "1.32", "flavor": "kserve"}, "image volumes with subPath came in 1.33"),
        ({"flavor": "kserve", "claim": "bundles"}, "mounts the bundle's image itself"),
        ({"flavor": "kserve", "nim": NIM}, "a NIM is a Deployment here"),
        ({"memory_gb": 8, "shared_memory_gb": 8}, "leaves nothing"),
        ({"version": "1.28"}, "pattern"),
        ({"name": "Chat"}, "pattern"),
        ({"name": "a" * 41}, "at most 40"),
        ({"user": 0}, "greater than or equal to 1"),
        ({"repository": "chat"}, "pattern"),
        ({"nim": {**NIM, "image": "nvcr.io/nim/llm:latest"}}, "pattern"),
    ],
)
def test_what_no_cluster_could_run_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KubernetesConfig(**values)


def test_a_claim_serves_any_version() -> None:
    assert KubernetesConfig(version="1.29", claim="bundles").minor == (1, 29)


@pytest.mark.parametrize("percent", [[0], [100], [50, 10], [10, 10]])
def test_canary_steps_rise_from_1(percent: list[int]) -> None:
    with pytest.raises(ValidationError):
        CanaryConfig(percent=percent)
    assert CanaryConfig(percent=[]).percent == []
