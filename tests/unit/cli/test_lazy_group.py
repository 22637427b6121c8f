"""Commands that are imported when they are asked for."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from slipway.cli.lazy_group import CommandPlace, lazy_group

PLACES = (
    CommandPlace("verify_command:verify", "`made verify here`"),
    CommandPlace("machine_commands:build_engine", "`made build-engine`"),
    CommandPlace("no_such_module:lost", "`made lost`"),
)


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer(name="made", cls=lazy_group(PLACES), add_completion=False)
    made.callback()(lambda: None)
    return made


def ran(app: typer.Typer, *words: str) -> Any:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def test_a_command_is_named_after_its_function() -> None:
    assert [row.name for row in PLACES] == ["verify", "build-engine", "lost"]
    assert PLACES[1].function().__name__ == "build_engine"


def test_one_command_is_imported_and_its_help_ends_with_its_example(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "slipway.cli.verify_command", raising=False)
    monkeypatch.delitem(sys.modules, "slipway.cli.machine_commands", raising=False)
    shown = ran(app, "build-engine", "--help")
    assert shown.exit_code == 0
    assert shown.output.rstrip().endswith("Example: made build-engine")
    assert "slipway.cli.machine_commands" in sys.modules
    assert "slipway.cli.verify_command" not in sys.modules


def test_an_unknown_command_is_answered_with_the_nearest_and_imports_none(app: typer.Typer) -> None:
    shown = ran(app, "verifi")
    assert shown.exit_code == 2
    assert "Did you mean 'verify'?" in shown.output


def test_a_place_that_is_not_there_is_an_error_of_its_name(app: typer.Typer) -> None:
    assert isinstance(ran(app, "lost").exception, ModuleNotFoundError)
