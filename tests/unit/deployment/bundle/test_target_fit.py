"""An engine's needs against probes of machines: what does not fit is refused by name, what is not known is not."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.target import TargetConfig
from slipway.deployment.bundle.target_fit import require_fit
from slipway.errors import ConfigError, ResourceError
from tests.support.shippable import PLAN

GB = 10**9
SPARK = TargetConfig(
    name="spark", arch="arm64", gpus=1, gpu_memory_gb=128, unified_memory=True, compute_capability="sm_121"
)
GB10 = {"name": "NVIDIA GB10", "driver_version": "580.95", "compute_cap": "12.1", "memory.total": "[N/A]"}
H100 = {"name": "NVIDIA H100", "driver_version": "570.1", "compute_cap": "9.0", "memory.total": "81559 MiB"}
IMAGE = {"id": "sha256:1", "digests": [PLAN.image], "architecture": "arm64"}
BUNDLE = PLAN.model_copy(update={"weights": "nvfp4", "computes": "W4A4 NVFP4"})


def fit(planned_gb: float = 40, row: TargetConfig = SPARK, way: str = "held", **probed: Any) -> list[str]:
    """Notes on a plan of so many GB for a Spark of whose probe some facts are others."""
    probe = {
        "gpus": [GB10],
        "memory": {"total": 121 * GB, "available": 100 * GB, "free": 30 * GB},
        "containers": {"program": "docker", "version": "28", "images": {PLAN.image: IMAGE}},
        **probed,
    }
    notes: list[str] = []
    params = DeployConfig.model_validate({"target": "s", "way": way, "reserve_gb": 8})
    plan = BUNDLE.model_copy(update={"memory": {"weights": planned_gb * GB}})
    require_fit(plan, row, "arm64", probe, params, notes.append)
    return notes


def test_what_fits_passes_without_a_word() -> None:
    assert fit() == [] and fit(planned_gb=0, memory={}) == []


@pytest.mark.parametrize(
    ("probed", "words"),
    [
        ({"gpus": [H100]}, r"GPU of target s: 1 of sm_90; expected 1 of sm_121, .*nvfp4 weights in W4A4 NVFP4"),
        ({"gpus": []}, "GPU of target s: none that a driver lists"),
        ({"containers": None}, "containers of target s: none for image"),
        (
            {"containers": {"program": "docker", "images": {PLAN.image: {**IMAGE, "architecture": "amd64"}}}},
            "for amd64; expected for arm64",
        ),
    ],
)
def test_a_machine_of_another_kind_is_refused(probed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(**probed)


def test_more_than_the_machine_has_is_refused_whatever_the_way() -> None:
    with pytest.raises(ResourceError, match=r"memory of target s: 121\.0 GB; expected 114\.0 GB planned"):
        fit(planned_gb=114)
    eight = TargetConfig(name="dgx", gpus=1, compute_capability="sm_90")
    with pytest.raises(ResourceError, match=r"GPU memory of target s: 85\.5 GB"):
        fit(planned_gb=80, row=eight, gpus=[H100])
    assert fit(planned_gb=70, row=eight, gpus=[H100]) == []


def test_a_second_engine_needs_what_is_available_and_a_driver_may_want_it_free() -> None:
    with pytest.raises(ResourceError, match=r"second engine: 100\.0 GB available .*30\.0 MemFree.*deploy\.way=held"):
        fit(planned_gb=95, way="beside")
    assert fit(planned_gb=95) == []
    (note,) = fit(planned_gb=40, way="beside")
    assert "page cache" in note


def test_a_machine_without_gpu_keeps_no_reserve() -> None:
    small = {"total": 8 * GB, "available": 3 * GB, "free": GB}
    assert fit(planned_gb=2, row=TargetConfig(), way="beside", gpus=[], memory=small) == []
    with pytest.raises(ResourceError, match=r"4\.0 GB planned for the engine and 0 kept free"):
        fit(planned_gb=4, row=TargetConfig(), way="beside", gpus=[], memory=small)


def test_an_image_that_is_not_there_and_memory_that_is_not_known_are_noted() -> None:
    (note,) = fit(containers={"program": "podman", "images": {}})
    assert f"podman pull {PLAN.image}" in note
    (note,) = fit(memory={})
    assert "does not say how much memory" in note
