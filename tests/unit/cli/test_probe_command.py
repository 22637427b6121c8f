"""`slipway probe`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.ops.machine_row import Probed

FOUND = Probed("spark", 112.3, "the driver gives no more", 108.0, {"total": 1}, "conf/targets/spark.yaml")


def test_it_shows_what_it_measured_and_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.ops.machine_row.probe_machine", lambda *_: FOUND)
    shown = CliRunner().invoke(app, ["probe", "spark"], catch_exceptions=False).output
    assert "112.3 GB of a GPU (the driver gives no more); 108 were planned with" in shown and "commit it" in shown
    document = json.loads(CliRunner().invoke(app, ["probe", "spark", "--json"], catch_exceptions=False).output)
    assert document["usable_gb"] == 112.3
