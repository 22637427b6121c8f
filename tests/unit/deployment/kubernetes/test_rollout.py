"""What tells that waiting is in vain, and where a release alone answers."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.deployment.kubernetes.rollout import DeploymentRollout, KServeRollout, require_hope, rollout_for
from slipway.deployment.kubernetes.target import render
from slipway.errors import EngineError
from tests.support.kubernetes_releases import kubernetes_params, kubernetes_release


class Pods:
    """An API that lists one pod with this status."""

    def __init__(self, **status: Any) -> None:
        self._status = {"name": "engine", "restartCount": 0, "state": {"running": {}}, **status}

    def list(self, kind: str, labels: object) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "pod-1"}, "status": {"containerStatuses": [self._status]}}]

    def log(self, pod: str, container: str) -> str:
        return f"the end of {pod}/{container}"


DEAD = {"restartCount": 1, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (DEAD, r"died with exit code 137 \(OOMKilled\)"),
        ({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}, "no such image"),
        ({"state": {"waiting": {"reason": "CreateContainerConfigError"}}}, "CreateContainerConfigError"),
    ],
)
def test_a_pod_that_will_never_start_ends_the_wait_with_its_log(status: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as err:
        require_hope(Pods(**status), kubernetes_params(), "0001-00000000")  # type: ignore[arg-type]
    assert "the end of pod-1/engine" in str(err.value)


@pytest.mark.parametrize(
    "status",
    [{}, {"state": {"waiting": {"reason": "ContainerCreating"}}}, {"state": {"waiting": {"reason": "ErrImagePull"}}}],
)
def test_a_pod_that_may_still_start_is_waited_for(status: dict[str, Any]) -> None:
    require_hope(Pods(**status), kubernetes_params(), "0001-00000000")  # type: ignore[arg-type]


def test_restarts_may_be_let_pass() -> None:
    require_hope(Pods(**DEAD), kubernetes_params(), "0001-00000000", restarts=1)  # type: ignore[arg-type]


def test_a_flavor_names_its_service() -> None:
    for flavor, kind, name in (
        ("deployment", DeploymentRollout, "chat-0007-3fa9c1d2"),
        ("kserve", KServeRollout, "chat-r0007-3fa9c1d2-predictor"),
    ):
        params = kubernetes_params(flavor=flavor)
        rollout = rollout_for(None, params)  # type: ignore[arg-type]
        assert isinstance(rollout, kind)
        assert rollout.service_name(render(kubernetes_release(), params)) == name
