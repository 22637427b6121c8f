"""The probe as it is run: a program without this package, which prints one line and leaves out what it cannot read."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.agent import machine_probe
from slipway.engines.machine_facts import probe_argv
from slipway.system.files import sha256_bytes
from slipway.system.processor import cpu_digest

SMI = """#!/bin/sh
echo 'NVIDIA GB10, 12.1, 580.95.05, [N/A]'
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_program_runs_without_this_package(tmp_path: Path) -> None:
    argv = probe_argv("vllm", sys.executable)
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path, encoding="utf-8")
    (line,) = done.stdout.splitlines()
    assert {"arch", "python", "cpu_words", "versions", "gpus", "errors"} <= json.loads(line)["machine_probe"].keys()


def test_the_cpu_is_the_one_that_bundles_are_compiled_for() -> None:
    words = " ".join(machine_probe.cpu_words())
    assert sha256_bytes(f"{platform.machine()} {words}".encode())[:12] == cpu_digest()


def test_versions_are_of_what_is_installed() -> None:
    assert set(machine_probe.installed(["pydantic", "no-such-package-at-all"])) == {"pydantic"}


def test_cuda_of_torch_is_read_without_importing_it() -> None:
    assert importlib.util.find_spec("torch") is not None
    assert machine_probe.torch_cuda() is not None


def test_a_gpu_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "nvidia-smi", SMI)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert machine_probe.gpus() == [
        {"name": "NVIDIA GB10", "compute_cap": "12.1", "driver_version": "580.95.05", "memory.total": "[N/A]"}
    ]


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'No devices were found'\n"])
def test_a_gpu_that_does_not_answer_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    executable(tmp_path / "nvidia-smi", text)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    document = machine_probe.main([])
    assert "gpus" not in document
    assert isinstance(document["errors"], dict)
    assert set(document["errors"]) == {"gpus"}
