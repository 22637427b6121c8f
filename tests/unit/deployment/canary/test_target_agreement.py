"""When kernel agreement at a target is judged at all. With a real engine: tests/lab/deployment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.probe import ProbeConfig, TargetAgreementConfig
from slipway.deployment.canary.target_agreement import OFF, judge, weights_of
from slipway.deployment.promotion import promote
from slipway.deployment.state import status
from slipway.errors import EngineError, StateError
from slipway.store.artifacts import Dataset, Quantized
from slipway.store.store import Store, load
from tests.support.shippable import gpu_engine
from tests.support.target import make_engine, make_verdict, running


def with_check(params: DeployConfig, check: str) -> DeployConfig:
    agreement = TargetAgreementConfig.model_validate({"check": check})
    return params.model_copy(update={"probe": ProbeConfig(agreement=agreement)})


def test_required_and_impossible_promotes_nothing(store: Store, data: Dataset, params: DeployConfig) -> None:
    engine, required = make_engine(store, {"answer": "x"}), with_check(params, "required")
    with pytest.raises(EngineError, match=r"kernel agreement at the target.*names none.*required"):
        promote(engine, make_verdict(store, engine), data, {}, required, model="m")
    assert status(params).release is None and running(params) == []


def test_off_and_impossible_are_told_apart(store: Store, params: DeployConfig) -> None:
    engine, url = make_engine(store, {"answer": "x"}), "http://127.0.0.1:1/v1"
    assert judge(engine, url, with_check(params, "off"), print) == {"refused": OFF}
    assert TargetAgreementConfig.model_validate({"check": False}).check == "off"  # as YAML reads it
    assert "names none" in judge(engine, url, params, print)["refused"]


def test_the_weights_are_those_that_the_engine_was_built_from(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.create(Quantized, "q", {}) as out:
        (out / "config.json").write_text("{}")
    weights = load(Quantized, store.dir("quantized", "q"))
    engine = gpu_engine(store, "e", weights)
    assert weights_of(engine).digest == weights.digest
    shutil.rmtree(weights.path)
    with pytest.raises(StateError, match="not in this store"):
        weights_of(engine)
    with store.create(Quantized, "q", {}) as out:
        (out / "config.json").write_text('{"other": 1}')
    with pytest.raises(StateError, match="other ones at"):
        weights_of(engine)
