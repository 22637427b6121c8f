"""What a machine says against what a run needs of it: pure rules over the document of `agent/probe.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slipway.agent.probe import look
from slipway.config.load import load_config
from slipway.errors import ConfigError, ResourceError
from slipway.ops.preflight.machine_checks import Needs, gpu_memory, machine_checks
from slipway.planning.fit import cannot_tell, fit

NOW = 1_800_000_000.0
SPARK = load_config(overrides=["layers.target=targets/spark"]).target
GPU = {"name": "NVIDIA GB10", "driver_version": "580.95", "compute_cap": "12.1", "memory.total": "[N/A]"}
WELL = {
    "architecture": "arm64",
    "time": NOW + 2,
    "disk": {"free": 500e9, "total": 4000e9},
    "memory": {"total": 130e9, "available": 120e9, "free": 110e9},
    "gpus": [GPU],
    "containers": {"program": "docker", "images": {"v@sha256:1": {"id": "i", "digests": [], "architecture": "arm64"}}},
}
NEEDS = Needs(disk=40e9, memory=90e9, memory_by="train", architecture="arm64", row=SPARK, images=("v@sha256:1",))


def unanswered(image: str, arch: str) -> str:
    raise ResourceError(f"image {image}", f"nobody answers for {arch}", "a registry", "look")


def rows(answer=WELL, needs=NEEDS, pullable=unanswered):
    return {row.name: row for row in machine_checks("spark", answer, needs, NOW, pullable)}


def test_a_machine_that_has_everything_is_well() -> None:
    assert {row.status for row in rows().values()} == {"ok"}
    assert rows()["GPU"].finding == "1 x NVIDIA GB10, sm_121, driver 580.95"
    assert rows()["disk"].finding == "500.0 GB free, 44.0 GB to write"


@pytest.mark.parametrize(
    ("name", "change", "status", "finding"),
    [
        ("architecture", {"architecture": "amd64"}, "fail", "amd64; arm64 is asked for"),
        ("GPU", {"gpus": []}, "fail", "none that a driver lists; 1 of sm_121 (spark)"),
        ("GPU", {"gpus": [GPU | {"compute_cap": "9.0"}]}, "fail", "sm_90"),
        ("disk", {"disk": {"free": 43e9}}, "fail", "43.0 GB free, 44.0 GB to write"),
        ("memory", {"memory": {"total": 80e9, "available": 80e9, "free": 80e9}}, "fail", "train takes 90.0 GB"),
        ("memory", {"memory": {"total": 130e9, "available": 80e9, "free": 70e9}}, "warn", "80.0 GB available"),
        ("memory", {"memory": {"total": 130e9, "available": 120e9, "free": 60e9}}, "warn", "60.0 free (MemFree)"),
        ("memory", {"memory": {"total": -1, "available": -1, "free": -1}}, "warn", "the kernel does not say"),
        ("clock", {"time": NOW - 4000}, "warn", "4000 s behind this machine's"),
        ("image v", {"containers": None}, "fail", "neither docker nor podman answers"),
        ("image v", {"containers": {"program": "docker", "images": {}}}, "warn", "its registry says: nobody answers"),
    ],
)
def test_what_it_lacks_is_a_row(name: str, change: dict, status: str, finding: str) -> None:
    changed = rows(WELL | change)
    assert changed[name].status == status and finding in changed[name].finding
    assert changed[name].advice
    assert {row.status for other, row in changed.items() if other != name} == {"ok"}


def test_an_image_of_another_architecture_there_or_in_its_registry_fails() -> None:
    other = {"program": "docker", "images": {"v@sha256:1": {"id": "i", "digests": [], "architecture": "amd64"}}}
    row = rows(WELL | {"containers": other})["image v"]
    assert row.status == "fail" and "docker image rm" in row.advice

    def another(image: str, arch: str) -> str:
        raise ConfigError(f"image {image}", "amd64 in the registry", arch, "`slipway pin`")

    absent = WELL | {"containers": {"program": "docker", "images": {}}}
    assert rows(absent, pullable=another)["image v"].status == "fail"
    assert rows(absent, pullable=lambda *_: "")["image v"].finding == "not there yet, and its registry has it"


def test_stages_without_a_figure_are_judged_as_doctor_judges() -> None:
    needs = Needs(unmeasured=("train", "merge"))
    low = WELL | {"disk": {"free": 3e9}, "memory": {"total": 2e9, "available": 2e9, "free": 1e9}}
    assert {rows(low, needs)[name].status for name in ("disk", "memory")} == {"fail"}
    assert "2 stages without a figure" in rows(WELL, needs)["disk"].finding
    assert rows(WELL | {"disk": {"free": 6e9}}, needs)["disk"].status == "warn"


def test_memory_of_a_gpu_is_fits_does_not_fit_or_cannot_tell() -> None:
    assert gpu_memory("t", "qlora", fit(1e9, 2e9)).status == "ok"
    short = gpu_memory("t", "qlora", fit(3e9, 2e9, way_out="smaller"))
    assert (short.status, short.finding, short.advice) == ("fail", "3.0 of 2.0 GB: does not fit", "smaller")
    unknown = gpu_memory("t", "qlora", cannot_tell("model_type 'mamba'", "probe it"))
    assert (unknown.status, unknown.finding) == ("warn", "cannot tell: model_type 'mamba'")


def test_this_machine_answers_what_the_rules_read(tmp_path) -> None:
    answer = look(tmp_path / "not" / "there", ())
    machine = {row.name: row for row in machine_checks("here", answer, Needs(), answer["time"], unanswered)}
    assert machine["clock"].status == "ok" and machine["architecture"].status == "ok"
    assert "MemFree" in machine["memory"].finding


@pytest.mark.parametrize(
    ("there", "cuda", "least", "status", "finding"),
    [
        ("580.95.05", "13.0.1", "", "ok", "580.95.5; the image has CUDA 13.0.1; 580 or newer is asked for"),
        ("570.133.20", "13.0.1", "", "warn", "570.133.20; the image has CUDA 13.0.1; 580 or newer"),
        ("570.133.20", "12.8", "", "ok", "525 or newer"),
        ("570.133.20", "12.8", "575.51", "fail", "575.51 or newer"),
        ("575.51.03", "", "575.51", "ok", "575.51 or newer"),
        ("575.9", "", "575.51", "fail", "575.51 or newer"),
        ("600.1", "14.0", "", "warn", "nobody here knows what that takes"),
    ],
)
def test_the_driver_is_held_against_what_the_image_takes(
    there: str, cuda: str, least: str, status: str, finding: str
) -> None:
    described = {"id": "i", "digests": [], "architecture": "arm64", "cuda": cuda}
    answer = WELL | {
        "gpus": [GPU | {"driver_version": there}],
        "containers": {"program": "docker", "images": {"v@sha256:1": described}},
    }
    row = rows(answer, replace(NEEDS, driver=least))["driver for v"]
    assert row.status == status and finding in row.finding
    assert bool(row.advice) == (status != "ok")


def test_of_an_image_that_is_not_there_its_registry_says_the_cuda_version() -> None:
    absent = WELL | {"containers": {"program": "docker", "images": {}}}
    assert rows(absent, pullable=lambda *_: "13.1")["driver for v"].status == "ok"
    assert "driver for v" not in rows(absent, pullable=lambda *_: ""), "it states none"
    assert "driver for v" not in rows(absent), "nobody answers"


def test_the_oldest_driver_of_several_gpus_counts_and_one_that_says_nothing_does_not() -> None:
    several = WELL | {"gpus": [GPU, GPU | {"driver_version": "470.1"}, GPU | {"driver_version": "[N/A]"}]}
    assert rows(several, replace(NEEDS, driver="535"))["driver for v"].finding.startswith("470.1;")
    silent = WELL | {"gpus": [GPU | {"driver_version": "[N/A]"}]}
    assert "driver for v" not in rows(silent, replace(NEEDS, driver="535"))
