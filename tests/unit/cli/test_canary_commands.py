from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.agent.canary.captured import CapturedPrompts
from slipway.cli.app import app
from slipway.cli.canary_commands import seconds_of, sentence
from slipway.errors import ConfigError

RUNNER = CliRunner()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129600)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0s", "2 h", "2w", "1e9h", "9" * 50 + "s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--for"):
        seconds_of(text)


@pytest.mark.parametrize("options", [[], ["--mirror", "--replay"], ["--mirror", "--weight", "5"]])
def test_a_canary_has_one_way(options: list[str]) -> None:
    result = RUNNER.invoke(app, ["canary", "local", *options])
    assert isinstance(result.exception, ConfigError) and "choose one" in str(result.exception)


def test_captured_prompts_are_shown_where_they_lie(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path / "capture")
    prompts.turn_on(7, 50, "jo")
    prompts.keep({"messages": [{"role": "user", "content": "hello"}]})
    override = ["--set", f"deploy.root={tmp_path}"]
    shown = RUNNER.invoke(app, ["capture", "show", "local", *override])
    assert shown.exit_code == 0, shown.output
    assert "hello" in shown.output and "captured since" in shown.output and "by jo" in shown.output
    status = RUNNER.invoke(app, ["capture", "status", "local", *override, "--json"])
    assert json.loads(status.output)["status"]["files"] == 1


def test_off_is_said() -> None:
    assert sentence("spark", {"on": False, "files": 0, "bytes": 0}) == "spark: capture is off; 0 files, 0.00 MB"
