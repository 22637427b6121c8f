"""`slipway stop` on a target where nothing runs; test_promotion stops engines, test_flows starts promotions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError


def test_stop_says_that_nothing_ran(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{root: '{tmp_path}/target'}}\n")
    done = CliRunner().invoke(app, ["stop", "--conf", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "nothing ran on target local\n")


def test_stop_as_json_has_empty_lists_and_no_error_where_nothing_ran(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{root: '{tmp_path}/target'}}\nstore: {{root: '{tmp_path}/store'}}\n")
    done = CliRunner().invoke(app, ["stop", "--conf", str(tmp_path), "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document == {"engines": [], "stages": [], "runs_at_work": []}


def test_a_key_that_no_section_knows_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{roots: '{tmp_path}/target'}}\n")
    with pytest.raises(ConfigError, match=r"config key deploy.roots: unknown.*did you mean root\?"):
        CliRunner().invoke(app, ["stop", "--conf", str(tmp_path)], catch_exceptions=False)
