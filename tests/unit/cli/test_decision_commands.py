"""`slipway explain`, `hold` and `unhold`: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError, StateError
from tests.unit.deployment.decision.test_explanation import DECISION, YES


@pytest.fixture
def conf(tmp_path: Path) -> str:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "spark.yaml").write_text(f"target: spark\nroot: {tmp_path}/target\n")
    (tmp_path / "base.yaml").write_text(f"layers: {{deploy: deploy/spark}}\nstore: {{root: '{tmp_path}/store'}}\n")
    return str(tmp_path)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_a_hold_is_shown_by_hold_and_status_and_taken_off(conf: str) -> None:
    held = invoke("hold", "spark", "--reason", "trade fair", "--conf", conf)
    assert (held.exit_code, "the whole target" in held.stdout, "trade fair" in held.stdout) == (0, True, True)
    assert "held target spark by" in invoke("status", "--conf", conf).stdout
    (row,) = json.loads(invoke("status", "--conf", conf, "--json").stdout)["holds"]
    assert row["reason"] == "trade fair"
    assert invoke("unhold", "spark", "--conf", conf).stdout == "took off 1 hold(s)\nnobody holds target spark\n"
    document = json.loads(invoke("unhold", "spark", "--conf", conf, "--json").stdout)
    assert document == {"removed": [], "holds": []}


def test_a_target_that_is_no_row_and_a_hold_without_a_reason_are_refused(conf: str) -> None:
    with pytest.raises(ConfigError, match="sparkle"):
        invoke("hold", "sparkle", "--reason", "x", "--conf", conf)
    assert invoke("hold", "spark", "--conf", conf).exit_code == 2
    assert not (Path(conf) / "target").exists()


def test_explain_prints_rules_figures_and_whose_word(conf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    store = Path(conf) / "store"
    store.mkdir()
    decided = DECISION.model_copy(update={"approval": YES})
    (store / "last-run.json").write_text(json.dumps({"decision": decided.document()}))
    shown = invoke("explain", "--conf", conf).stdout
    for words in ("promoted, approved by a person", "schedule ann", "-0.05 to 0.01", "412 more items would settle it"):
        assert words in shown
    assert json.loads(invoke("explain", "--conf", conf, "--json").stdout) == decided.document()


def test_explain_where_nothing_was_decided(conf: str) -> None:
    with pytest.raises(StateError, match="nothing serves"):
        invoke("explain", "--conf", conf)
