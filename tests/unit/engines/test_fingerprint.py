"""What the stage's key knows of the machine: the CPU of what is compiled, the facts of a Python, nothing of another."""

from __future__ import annotations

import sys

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.engines.fingerprint import engine_fingerprint
from slipway.errors import EngineError

HERE = TargetConfig()
PYTHON = EngineConfig(kind="vllm", python=sys.executable)


def test_the_embedded_engine_is_the_hardware_and_the_package() -> None:
    fingerprint = engine_fingerprint(EngineConfig(), HERE)
    assert fingerprint == engine_fingerprint(EngineConfig(slots=7), HERE)
    assert fingerprint != engine_fingerprint(EngineConfig(version="0.0.1"), HERE)
    assert set(fingerprint) == {"arch", "cpu", "engine"}
    assert len(fingerprint["cpu"]) == 12


def test_an_engine_in_a_python_of_this_machine_is_what_the_probe_says() -> None:
    fingerprint = engine_fingerprint(PYTHON, HERE)
    assert {"machine_gpu", "machine_driver", "machine_torch", "machine_cuda"} <= set(fingerprint)
    assert fingerprint["machine_python"] == ".".join(map(str, sys.version_info[:3]))


def test_another_machine_is_not_asked() -> None:
    there = TargetConfig(runner=SlurmConfig(kind="slurm"))
    assert engine_fingerprint(PYTHON, there) == {"engine": "vllm"}


def test_a_python_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="probe of the machine"):
        engine_fingerprint(EngineConfig(kind="vllm", python="/no/such/python"), HERE)
