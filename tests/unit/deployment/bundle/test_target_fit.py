"""An engine's needs against probes of machines: what does not fit is refused by name, what is not known is not."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.target import GuardConfig, TargetConfig
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


def test_more_than_row_or_machine_give_is_refused_whatever_the_way() -> None:
    """The row: 128 GB less 20. The machine says 121 or, of another kit, 112: less the same reserve."""
    row = SPARK.model_copy(update={"reserve_gb": 20.0})
    with pytest.raises(ResourceError, match=r"memory of target s: 102\.0 of 101\.0 GB: does not fit; .*less 20 GB"):
        fit(planned_gb=102, row=row)
    assert fit(planned_gb=100, row=row) == []
    with pytest.raises(ResourceError, match=r"100\.0 of 92\.0 GB"):
        fit(planned_gb=100, row=row, memory={"total": 112 * GB})


def test_what_was_probed_is_the_room() -> None:
    """A plan that was made with the measured figure passes, one above it does not, whatever all memory less a reserve
    is."""
    probed = SPARK.model_copy(update={"usable_gb": 113.5, "reserve_gb": 20.0})
    assert fit(planned_gb=113, row=probed) == []
    with pytest.raises(ResourceError, match=r"114\.0 of 113\.5 GB: does not fit; .*113\.5 GB usable, as"):
        fit(planned_gb=114, row=probed)
    with pytest.raises(ResourceError, match=r"113\.0 of 96\.0 GB"):  # another machine than the one that was measured
        fit(planned_gb=113, row=probed, memory={"total": 96 * GB})


def test_a_plan_is_of_one_gpu_and_so_is_what_it_is_held_to() -> None:
    dgx = TargetConfig(name="dgx", gpus=2, compute_capability="sm_90", gpu_memory_gb=80, reserve_gb=6)
    with pytest.raises(ResourceError, match=r"GPU memory of target s: 75\.0 of 74\.0 GB"):
        fit(planned_gb=75, row=dgx, gpus=[H100, H100])
    assert fit(planned_gb=74, row=dgx, gpus=[H100, H100]) == []
    least = [H100, H100 | {"memory.free": "61036 MiB"}]  # 64 GB
    for gpus in (least, [one | {"memory.free": "61036 MiB"} for one in least]):
        if gpus is least:  # an agent of before does not say what is free
            assert fit(planned_gb=70, row=dgx, way="beside", gpus=gpus) == []
            continue
        with pytest.raises(ResourceError, match=r"second engine: 64\.0 GB of the fullest GPU free; .*57\.0 GB planned"):
            fit(planned_gb=57, row=dgx, way="beside", gpus=gpus)
        assert fit(planned_gb=55, row=dgx, way="beside", gpus=gpus) == []


def test_a_second_engine_needs_what_is_available_and_a_driver_may_want_it_free() -> None:
    with pytest.raises(ResourceError, match=r"second engine: 100\.0 GB available .*30\.0 MemFree.*deploy\.way=held"):
        fit(planned_gb=95, way="beside")
    assert fit(planned_gb=95) == []
    (note,) = fit(planned_gb=40, way="beside")
    assert "page cache" in note
    guarded = SPARK.model_copy(update={"guard": GuardConfig(available_gb=30)})
    with pytest.raises(ResourceError, match=r"75\.0 GB planned for it, 30 kept free"):
        fit(planned_gb=75, row=guarded, way="beside")


def test_a_machine_without_gpu_keeps_no_reserve_for_a_driver() -> None:
    small = {"total": 8 * GB, "available": 8 * GB, "free": GB}
    row = TargetConfig()
    assert fit(planned_gb=7.5, row=row, gpus=[], memory=small) == []
    with pytest.raises(ResourceError, match=r"9\.0 of 8\.0 GB: does not fit; .*what is there"):
        fit(planned_gb=9, row=row, gpus=[], memory=small)


def test_an_image_that_is_not_there_and_memory_that_is_not_known_are_noted() -> None:
    (note,) = fit(containers={"program": "podman", "images": {}})
    assert f"podman pull {PLAN.image}" in note
    (note,) = fit(memory={})
    assert "does not say how much memory" in note
