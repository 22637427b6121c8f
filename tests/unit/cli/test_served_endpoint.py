"""Which endpoint a command asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.cli.served_endpoint import served_endpoint
from slipway.config.load import parse
from slipway.errors import ConfigError


def test_a_named_endpoint_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse({"deploy": {"root": str(tmp_path)}}, "a test")
    monkeypatch.setenv("MY_KEY", "secret")
    assert served_endpoint(config, "http://127.0.0.1:9", "m", 1, "MY_KEY") == ("http://127.0.0.1:9/v1", "m", "secret")
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ConfigError, match="--key-variable: MY_KEY; expected a variable that is set"):
        served_endpoint(config, "http://127.0.0.1:9", "m", 1, "MY_KEY")


def test_what_the_local_target_serves(tmp_path: Path) -> None:
    config = parse({"deploy": {"root": str(tmp_path)}}, "a test")
    with pytest.raises(ConfigError, match="nothing serves at"):
        served_endpoint(config, None, "m", 1, None)
    (tmp_path / "current").mkdir()
    (tmp_path / "current/endpoint.json").write_text(json.dumps({"url": "http://127.0.0.1:7/v1"}))
    assert served_endpoint(config, None, "m", 1, None) == ("http://127.0.0.1:7/v1", "m", None)
