"""`slipway stop` on a target where nothing runs; test_promotion stops engines, test_flows starts promotions."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from slipway.cli.app import app


def test_stop_says_that_nothing_ran(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{root: '{tmp_path}/target'}}\n")
    done = CliRunner().invoke(app, ["stop", "--conf", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "nothing ran on target local\n")
