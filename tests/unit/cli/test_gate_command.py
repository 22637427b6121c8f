"""`slipway gate`: the rules of a config, from its rows; the kinds in --help."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.config.gate_kinds import KINDS


def test_rules_are_shown_with_the_key_that_set_them() -> None:
    given = "gate.rules=[{rule: floor, metric: json_exact, limit: 0.5}, {rule: memory, limit: 8, context: 512}]"
    shown = CliRunner().invoke(app, ["gate", given, "--json"])
    rules = json.loads(shown.output)["rules"]
    floors = {row["metric"]: (row["limit"], row["key"]) for row in rules if row["rule"] == "floor"}
    assert floors == {"json_exact": (0.5, "gate.rules.0"), "label_accuracy": (0.88, "gate.floors.label_accuracy")}
    assert [row["context"] for row in rules if row["rule"] == "memory"] == [512]
    assert "gate.floors.label_accuracy" in CliRunner().invoke(app, ["gate"], env={"COLUMNS": "200"}).output


def test_help_names_every_kind() -> None:
    text = CliRunner().invoke(app, ["gate", "--help"]).output
    assert all(name in text for name in KINDS)
