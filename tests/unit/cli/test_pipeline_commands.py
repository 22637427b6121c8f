"""`slipway config` and `slipway stage`; test_flows has `slipway run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError


def test_config_prints_every_key_as_json() -> None:
    done = CliRunner().invoke(app, ["config", "train.epochs=2", "--json"], catch_exceptions=False)
    assert json.loads(done.output)["train"]["epochs"] == 2


def test_config_shows_an_override_in_its_table() -> None:
    done = CliRunner().invoke(app, ["config", "train.epochs=2"], catch_exceptions=False)
    (row,) = [line for line in done.output.splitlines() if line.startswith("train.epochs ")]
    assert row.split()[1] == "2.0"


def test_a_stage_without_its_stage_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage file: .*/stage.json; expected an existing stage.json"):
        CliRunner().invoke(app, ["stage", "merge", str(tmp_path / "stage.json")], catch_exceptions=False)
