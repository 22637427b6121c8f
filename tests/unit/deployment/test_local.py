"""The target `local`: the agent in this process."""

from __future__ import annotations

from pathlib import Path

from slipway.config.deploy import DeployConfig
from slipway.deployment.local import LocalTarget
from slipway.store.store import Store
from tests.support.target import make_engine


def test_an_engine_is_a_signed_bundle_and_reached_at_its_own_address(tmp_path: Path, store: Store) -> None:
    target, notes = LocalTarget(DeployConfig(root=str(tmp_path / "target"))), list[str]()
    engine = make_engine(store, {"answer": "x"})
    named = target.deliver(engine, {}, "m", notes.append)
    assert sorted(named) == ["files_signature", "manifest", "signature"]
    assert any(note.startswith("signed by") for note in notes)
    assert list((tmp_path / "target/incoming").iterdir()) == []
    assert target.start_plan(engine.path)["plan"]["argv"]
    assert target.restart_plan(str(tmp_path / "gone")) == {}
    with target.reach({"url": "http://127.0.0.1:1/v1"}) as url:
        assert url == "http://127.0.0.1:1/v1"
    assert target.call("status", {})["current"] is None
    target.close()
