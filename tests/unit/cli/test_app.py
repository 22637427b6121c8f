"""The commands that there are, their order and their examples."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from slipway import __version__
from slipway.cli import app as cli
from slipway.cli.app import COMMANDS, app

ORDER = [
    "run",
    "stage",
    "quantize",
    "merge",
    "tune",
    "config",
    "recipe",
    "status",
    "promote",
    "rollback",
    "stop",
    "gc",
    "doctor",
    "build-engine",
    "pin",
]


def test_help_lists_the_commands_in_their_order() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    positions = [shown.index(f"│ {name} ") for name in ORDER]
    assert positions == sorted(positions)
    assert len(COMMANDS) == len(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_every_command_says_what_it_does_and_gives_an_example(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert f"Usage: slipway {name}" in shown
    assert f"Example: slipway {name}" in shown


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"{__version__}\n"


def test_a_bug_is_shown_whole_and_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    assert cli._run() == 1
    assert "ZeroDivisionError: a bug" in (shown := capsys.readouterr().err) and "please report it" in shown


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert cli._run() == 130


def test_an_error_on_purpose_is_one_message_with_its_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipway", "config", "--conf", "nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "config layer: nowhere/base.yaml",
        "  expected  an existing YAML file",
        "  next      run from the project's root, or pass --conf",
    ]
