"""The event of a data version: what prefect.yaml matches, and that nothing is recorded where no server took it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.errors import ResourceError
from slipway.ops import data_events
from slipway.ops.credentials import ensure_credentials
from slipway.ops.data_versions import DataVersion, last_seen
from slipway.ops.services import Services
from slipway.system.ports import any_port
from tests.support.world import ROOT, small_config

VERSION = DataVersion("data/x.jsonl", "0a", "c1")


def test_the_trigger_of_prefect_yaml_matches_the_event_and_fills_its_parameters_from_it() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (trigger,) = next(one for one in deployments if one["name"] == "retrain-on-data")["triggers"]
    assert trigger["expect"] == [data_events.PUBLISHED]
    prefix = trigger["match"]["prefect.resource.id"].removesuffix("*")
    assert data_events.resource_of(VERSION)["prefect.resource.id"].startswith(prefix)
    payload = data_events.payload_of(VERSION)
    assert trigger["parameters"] == {name: f"{{{{ event.payload.{name} }}}}" for name in payload}
    assert datetime.fromisoformat(payload["announced"]).tzinfo


def test_a_server_that_is_away_leaves_the_version_pushed_and_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[Any] = []

    def publish(*arguments: Any) -> DataVersion:
        pushed.append(arguments)
        return VERSION

    monkeypatch.setattr(data_events, "publish", publish)

    ensure_credentials(tmp_path)
    config = small_config(tmp_path, "sqlite:///x.db", any_port())
    with pytest.raises(ResourceError, match=r"is pushed; Prefect at .* did not take the event.*`make up`"):
        data_events.publish_and_announce(config, Services(ROOT, tmp_path, any_port(), any_port()))
    assert len(pushed) == 1 and last_seen(Path(config.store.root), VERSION.path) is None
