"""Which decision `slipway explain` means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.canary.check_words import check_pairs
from slipway.deployment.decision.incumbent import decide
from slipway.deployment.decision.policy import Asked
from slipway.deployment.decision.record import FILE, Decision
from slipway.deployment.promotion import promote
from slipway.deployment.state import stop
from slipway.errors import ConfigError, StateError
from slipway.ops.explain import explained
from slipway.store.store import Store
from tests.support.target import make_data, make_engine, make_verdict, target_params


@pytest.fixture
def params(tmp_path: Path) -> Iterator[DeployConfig]:
    params = target_params(str(tmp_path / "target"))
    yield params
    stop(params)


@pytest.fixture
def conf(tmp_path: Path, params: DeployConfig) -> Path:
    """A folder of config with a target `spark`, which is the config's own too."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "spark.yaml").write_text(f"target: spark\nroot: {params.root}\n")
    (tmp_path / "base.yaml").write_text(f"layers: {{deploy: deploy/spark}}\nstore: {{root: '{tmp_path}/store'}}\n")
    return tmp_path


def ship(params: DeployConfig, store: Store, version: int, *, decided: bool = True) -> Decision:
    """Promote an engine, with or without its decision."""
    engine = make_engine(store, {"answer": "x", "v": version})
    verdict = make_verdict(store, engine)
    decision = decide(engine, verdict, "home", Asked(by="schedule", user="weekly"), params)
    promote(engine, verdict, make_data(store), {FILE: decision.text()} if decided else {}, params, model="home")
    return decision


def test_a_release_a_target_and_the_last_run(tmp_path: Path, params: DeployConfig, conf: Path) -> None:
    store = Store(tmp_path / "store")
    first, second = ship(params, store, 1), ship(params, store, 2)
    assert explained("1", conf, []) == explained(f"0001-{first.engine[:8]}", conf, [])
    assert explained("1", conf, []).decision == first
    assert explained("spark", conf, []).decision == explained(None, conf, []).decision == second
    assert explained("spark", conf, []).signature == "not signed"
    asked, agreement = check_pairs(explained("2", conf, []).checks)
    assert asked[0] == "recorded answers at the target" and "not checked, " in agreement[1]
    (tmp_path / "store" / "last-run.json").write_text(json.dumps({"decision": first.document()}))
    assert explained(None, conf, []).decision == first and explained(None, conf, []).checks == {}


def test_the_decision_s_digest_stands_in_the_release(tmp_path: Path, params: DeployConfig) -> None:
    decision = ship(params, Store(tmp_path / "store"), 1)
    (record,) = (tmp_path / "target").glob("releases/*/release.json")
    assert json.loads(record.read_text())["digests"]["decision"] == decision.digest


def test_what_there_is_no_decision_of_is_named(tmp_path: Path, params: DeployConfig, conf: Path) -> None:
    with pytest.raises(StateError, match="nothing serves"):
        explained("spark", conf, [])
    with pytest.raises(ConfigError, match="spark"):
        explained("sparkle", conf, [])
    with pytest.raises(StateError, match="0007"):
        explained("7", conf, [])
    ship(params, Store(tmp_path / "store"), 1, decided=False)
    with pytest.raises(StateError, match="holds no decision"):
        explained("1", conf, [])


def test_a_damaged_last_run_is_named(tmp_path: Path, conf: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "last-run.json").write_text('{"decision": {"schema": 1}}')
    with pytest.raises(StateError, match="decision of the last run"):
        explained(None, conf, [])
