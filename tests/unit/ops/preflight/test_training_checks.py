"""Memory of a GPU, and the docker engine that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import Config, load_config
from slipway.ops.preflight.training_checks import training_checks

SPARK = ("layers.train=train/nemo-qlora", "layers.target=targets/spark", "layers.model=models/llama-3.3-70b")
PINNED = f"images.nemo-automodel.digests.arm64=sha256:{'2' * 64}"


def config(*overrides: str) -> Config:
    return load_config(overrides=[*SPARK, PINNED, *overrides])


def test_the_embedded_trainer_has_no_rows_of_its_own() -> None:
    assert list(training_checks(load_config())) == []


def test_memory_of_a_gpu_and_an_engine_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    memory, engine = training_checks(config())
    assert memory.status == "ok" and "of 108.0 GB: fits" in memory.finding
    assert engine.status == "fail" and "none.sock" in engine.finding + engine.machine


def test_an_architecture_that_the_formulas_do_not_know_is_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (tmp_path / "config.json").write_text('{"model_type": "mamba2"}')
    memory, _ = training_checks(config(f"model.directory={tmp_path}"))
    assert memory.status == "warn" and memory.finding.startswith("cannot tell: model_type 'mamba2'")
    assert "slipway tune" in memory.advice and "--assume" in memory.advice
    assumed, _ = training_checks(config(f"model.directory={tmp_path}", "model.assume=llama"))
    assert assumed.status == "ok"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a docker engine would answer; its client is the real one's shape (tests/lab/runners asks a real one)."""
    answers: dict[str, Any] = {"Architecture": "aarch64"}
    monkeypatch.setattr("slipway.containers.docker_client.DockerClient.ask", lambda self, call: call(_Client(answers)))
    return answers


class _Client:
    def __init__(self, answers: dict[str, Any]) -> None:
        self.api, self._answers = self, answers

    def info(self) -> dict[str, Any]:
        return self._answers

    def inspect_image(self, _: str) -> dict[str, Any]:
        return {"Architecture": self._answers["image"]}


def test_architectures_of_the_engines_machine_and_of_the_image_there(answering: dict[str, Any]) -> None:
    answering["image"] = "arm64"
    _, machine, image = training_checks(config())
    assert (machine.status, image.status, image.finding) == ("ok", "ok", "there, for arm64")
    answering |= {"Architecture": "x86_64", "image": "amd64"}
    _, machine, image = training_checks(config())
    assert (machine.status, image.status) == ("fail", "fail") and "amd64; arm64 is asked for" in machine.finding
