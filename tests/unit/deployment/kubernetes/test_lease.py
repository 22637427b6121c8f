"""The lock of a cluster's target: one holder, named to the next; free when it has stood still; lost when taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.deployment.kubernetes.api import KubernetesAPI
from slipway.deployment.kubernetes.lease import TargetLease
from slipway.errors import ResourceError
from tests.support.kubernetes_releases import kubernetes_params
from tests.support.kubernetes_server import Cluster, kubernetes_server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Cluster, Path]]:
    with kubernetes_server(tmp_path) as running:
        yield running


def lease_of(config: Path, step_s: float = 0.0) -> TargetLease:
    """A lease of 10 s, whose clock goes `step_s` further at each look."""
    params, now = kubernetes_params(kubeconfig=str(config), lease_s=10), [0.0]

    def clock() -> float:
        now[0] += step_s
        return now[0]

    return TargetLease(KubernetesAPI(params), params, clock)


def test_one_holder_at_a_time_and_the_second_hears_who(cluster: tuple[Cluster, Path]) -> None:
    lease = lease_of(cluster[1])
    assert lease.holder() is None
    with lease.held("me", "promote", 0) as still_held:
        still_held()
        holder = lease.holder()
        assert holder is not None
        assert holder["action"] == "promote"
        with pytest.raises(ResourceError, match=r"busy: promote by me \w+, since "):
            lease_of(cluster[1])._take("you", "rollback", 0)
    assert lease.holder() is None


def test_a_lease_that_stood_still_is_taken_by_the_takers_own_clock(cluster: tuple[Cluster, Path]) -> None:
    lease_of(cluster[1])._take("dead", "promote", 0)
    taker = lease_of(cluster[1], step_s=6.0)  # two looks make more than 10 s
    with taker.held("me", "rollback", 100):
        holder = taker.holder()
        assert holder is not None
        assert holder["owner"].startswith("me ")


def test_a_holder_that_lost_it_hears_it(cluster: tuple[Cluster, Path]) -> None:
    import time

    params = kubernetes_params(kubeconfig=str(cluster[1]), lease_s=10)
    lease = TargetLease(KubernetesAPI(params), params)
    lease._seconds = 1  # so that it is renewed soon
    with pytest.raises(ResourceError, match="lost"), lease.held("me", "promote", 0) as still_held:
        stored = cluster[0].objects["Lease", "chat"]
        stored["spec"]["holderIdentity"] = "another"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            still_held()
            time.sleep(0.02)
    holder = lease.holder()
    assert holder is not None
    assert holder["owner"] == "another"  # and it is not given back in the other's name
