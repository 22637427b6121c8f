"""Kernel agreement by the real llama-server: planted faults of each kind are caught, healthy engines pass, and a wrong
engine does not leave its stage. `benchmarks/kernel_agreement.py` is the whole series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kernel_agreement import FAULTS, engines, letters_model
from slipway.config.engine import AgreementConfig
from slipway.config.store import StoreConfig
from slipway.engines.llamacpp import driver
from slipway.errors import EngineError
from slipway.evaluation.kernel_agreement import GROWTH, Agreement
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import AGREEMENT, EngineParams, engine
from slipway.store.artifacts import Checkpoint
from slipway.store.store import load, seal
from slipway.system.progress import Progress

SEEDS = (900, 901)  # bf16 and NVFP4


@pytest.fixture(scope="module", params=SEEDS)
def verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Agreement]:
    return engines(request.param, ["healthy", *FAULTS], tmp_path_factory.mktemp("agreement"))


def test_healthy_engines_pass_and_every_fault_is_caught(verdicts: dict[str, Agreement]) -> None:
    outcomes = {fault: one.outcome for fault, one in verdicts.items()}
    assert outcomes == {"healthy": "pass", **dict.fromkeys(FAULTS, "fail")}
    assert verdicts["healthy"].tokens == 4096 and verdicts["healthy"].without_probability == 0
    assert verdicts["length"].growth > GROWTH.limit  # both seeds: the cache that drops what is old
    first = verdicts["length"].first_position
    assert first is not None and first > 100


def test_an_engine_that_is_wrong_does_not_leave_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = letters_model(tmp_path / "model", 7)
    seal(model, Checkpoint.kind, "k", {})
    params = EngineParams(context=512, slots=2, threads=1, agreement=AgreementConfig(check="on", prompts=2, tokens=60))

    def build(name: str) -> Path:
        out, work = tmp_path / name, tmp_path / f"{name}-work"
        out.mkdir()
        work.mkdir()
        cache = Path(StoreConfig().cache).expanduser()
        engine(load(Checkpoint, model), params, Workspace(out, work, cache, Progress()))
        return out

    out = build("healthy")
    verdict = json.loads((out / AGREEMENT).read_text())
    summary = json.loads((out / "summary.json").read_text())
    assert verdict["outcome"] == summary["agreement"] == "pass"
    assert summary["agreement_ratio"] == verdict["ratio"] < verdict["ratio_limit"]

    convert = driver.convert

    def converting_another(build_: object, _model: Path, *more: object) -> None:
        convert(build_, letters_model(tmp_path / "another", 8), *more)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "convert", converting_another)
    with pytest.raises(EngineError, match=r"kernel agreement: ratio.*--flash-attn off it is off as well, ratio"):
        build("wrong")
    assert not (tmp_path / "wrong" / "summary.json").exists()


def test_the_other_attention_kernel_says_whether_the_weights_are_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = letters_model(tmp_path / "model", 7)
    seal(model, Checkpoint.kind, "k", {})
    cache = Path(StoreConfig().cache).expanduser()

    def build(name: str, second: str) -> dict[str, Any]:
        out, work = tmp_path / name, tmp_path / f"{name}-work"
        out.mkdir()
        work.mkdir()
        agreement = {"check": "on", "prompts": 2, "tokens": 60, "second": second}
        params = EngineParams.model_validate({"context": 512, "slots": 2, "threads": 1, "agreement": agreement})
        engine(load(Checkpoint, model), params, Workspace(out, work, cache, Progress()))
        return dict(json.loads((out / AGREEMENT).read_text()))

    both = build("healthy", "always")
    assert both["outcome"] == both["second_backend"]["outcome"] == "pass"
    assert both["second_backend"]["setting"] == "llama-server --flash-attn off"
    assert both["second_backend"]["ratio"] != both["ratio"]  # another kernel did answer

    convert = driver.convert

    def converting_both(build_: driver.Build, _model: Path, out: Path, *more: object) -> None:
        """The right file, another model's beside it, and a server that reads the wrong one in its fused kernel."""
        convert(build_, _model, out, *more)  # type: ignore[arg-type]
        convert(build_, letters_model(tmp_path / "another", 8), out.with_name("another.gguf"), *more)  # type: ignore[arg-type]

    copied = driver.shutil.copy2

    def copying_broken(server: Path, out: Path) -> None:
        copied(server, out.with_name("sound"))
        lines = ["#!/bin/bash", f'case "$*" in *"--flash-attn off"*) exec {out.with_name("sound")} "$@";; esac']
        out.write_text("\n".join([*lines, f'exec {out.with_name("sound")} "${{@/model.gguf/another.gguf}}"', ""]))
        out.chmod(0o755)

    monkeypatch.setattr(driver, "convert", converting_both)
    monkeypatch.setattr(driver.shutil, "copy2", copying_broken)
    with pytest.raises(EngineError, match="the weights are right: with llama-server --flash-attn off"):
        build("broken", "failed")
    with pytest.raises(EngineError, match="try another linear backend"):
        build("unasked", "off")
