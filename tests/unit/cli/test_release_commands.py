"""`slipway promote` starts a flow; what it hands over is in test_flows."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError


def test_outside_of_a_project_there_is_no_flow_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="the project's root, which holds"):
        CliRunner().invoke(app, ["promote"], catch_exceptions=False)
