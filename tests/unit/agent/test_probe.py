"""A probe says what this machine is, and null for what it has not."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.probe import disk, gpus, memory, probe
from slipway.errors import StateError


def _program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_machine_with_nothing_installed_is_still_described(programs: Path, tmp_path: Path) -> None:
    seen = probe(Agent(tmp_path / "root"), {}, print)
    assert seen["architecture"] in ("amd64", "arm64")
    assert seen["python"] == platform.python_version()
    assert abs(seen["time"] - time.time()) < 3600
    assert 0 < seen["disk"]["free"] <= seen["disk"]["total"]
    assert 0 < seen["memory"]["free"] <= seen["memory"]["total"]
    assert (seen["gpus"], seen["containers"], seen["haproxy"], seen["rsync"]) == ([], None, None, None)
    assert not (tmp_path / "root").exists()


def test_programs_are_asked_for_their_versions(programs: Path, tmp_path: Path) -> None:
    _program(programs, "haproxy", 'echo "HAProxy version 2.6.12-1+deb12u2 2025/04/19"')
    _program(programs, "nvidia-smi", 'echo "NVIDIA GB10, 580.95.05, 12.1, [N/A], [N/A]"; echo "half a line"')
    environment = '"Config": {"Env": ["A=b", "CUDA_VERSION=13.0.1"]}'
    described = f'[{{"Id": "sha256:1", "RepoDigests": ["r@sha256:2"], "Architecture": "arm64", {environment}}}]'
    _program(programs, "podman", f"[ $1 = version ] && echo 4.3.1 && exit; [ $4 = here:1 ] && echo '{described}'")
    seen = probe(Agent(tmp_path), {"images": ["here:1", "away:1", "-x; rm", "$(x)"]}, print)
    assert seen["haproxy"] == "2.6.12"
    assert seen["gpus"] == [
        {
            "name": "NVIDIA GB10",
            "driver_version": "580.95.05",
            "compute_cap": "12.1",
            "memory.total": "[N/A]",
            "memory.free": "[N/A]",
        }
    ]
    here = {"id": "sha256:1", "digests": ["r@sha256:2"], "architecture": "arm64", "cuda": "13.0.1"}
    assert seen["containers"] == {
        "program": "podman",
        "version": "4.3.1",
        "images": {"here:1": here, "away:1": None, "-x; rm": None, "$(x)": None},
    }


def test_a_driver_that_fails_or_prints_rubbish_is_no_gpu(programs: Path) -> None:
    _program(programs, "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert gpus() == []
    _program(programs, "nvidia-smi", "head -c 1000 /dev/urandom")
    assert gpus() == []


def test_images_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="images"):
        probe(Agent(tmp_path), {"images": [1]}, print)


def test_disk_is_of_the_file_system_that_will_hold_the_root(tmp_path: Path) -> None:
    assert disk(tmp_path / "not" / "yet")["total"] == disk(tmp_path)["total"]
    assert disk(Path("/proc/self"))["total"] == 0


def test_a_kernel_that_does_not_say_is_minus_one(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  2 kB\nMemFree:  x kB\n")
    assert memory(tmp_path / "meminfo") == {"total": 2048, "available": -1, "free": -1}
    assert memory(tmp_path / "absent") == {"total": -1, "available": -1, "free": -1}
    assert os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") == memory()["total"]
