"""Options that several commands have mean, and are called, the same everywhere."""

from __future__ import annotations

from typer.main import get_command

from slipway.cli.app import app

HELP = {
    "conf": "Folder with base.yaml and its layers.",
    "as_json": "Print JSON for programs.",
    "overrides": "Config overrides, `section.key=value`; `layers=NAME` is a preset of conf/presets.",
}


def test_shared_options_have_one_meaning() -> None:
    commands = get_command(app).commands
    uses = {
        name: {getattr(p, "help", None) for command in commands.values() for p in command.params if p.name == name}
        for name in HELP
    }
    assert uses == {name: {text} for name, text in HELP.items()}


def test_who_takes_a_config_takes_its_folder() -> None:
    for name, command in get_command(app).commands.items():
        names = {p.name for p in command.params}
        assert "overrides" not in names or "conf" in names, name
