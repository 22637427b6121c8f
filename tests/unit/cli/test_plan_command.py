"""`slipway plan`: its table, its exit codes, and a run of a saved plan."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError, DataError
from slipway.pipeline.measurements import Figures, add_measurement
from tests.support.world import ROOT, small_settings


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [f"{key}={value}" for key, value in small_settings(tmp_path, "sqlite:///planned.db", 1).items()]


def called(*words: str, fails: bool = False) -> Result:
    conf = ["--conf", str(ROOT / "conf")]
    return CliRunner().invoke(app, [*words, *conf], catch_exceptions=fails, env={"COLUMNS": "200"})


def test_a_table_of_stages_with_reasons_the_total_and_the_target(words: list[str]) -> None:
    shown = called("plan", *words).stdout
    assert "pico qlora nvfp4a16 -> local" in shown
    assert "fetch" in shown and "never made here" in shown and "made anew: base, data" in shown
    assert "by formula" in shown and "; without a figure: fetch, prepare, train, merge" in shown
    assert "target    local: nothing serves; a passing candidate serves" in shown


def test_terraforms_exit_codes_for_this_command_alone(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert called("plan", *words).exit_code == 0
    assert called("plan", *words, "--detailed-exitcode").exit_code == 2
    refused = called("plan", *words, "data.raw=nowhere.jsonl", "model.directory=/nowhere", "--detailed-exitcode")
    assert refused.exit_code == 1 and "model.directory: /nowhere does not exist" in refused.stderr
    monkeypatch.setattr("slipway.ops.chain.plan.Plan.nothing_to_do", True)
    assert called("plan", *words, "--detailed-exitcode").exit_code == 0


def test_without_that_option_an_error_is_everybodys(words: list[str]) -> None:
    with pytest.raises(DataError):
        called("plan", *words, "model.source=embedded", "data.raw=nowhere.jsonl")


def test_json_is_the_document(words: list[str]) -> None:
    document = json.loads(called("plan", *words, "--json").stdout)
    assert document["stages"][0]["title"] == "fetch" and document["target"]["target"] == "local"


def test_errors_of_earlier_predictions(words: list[str], tmp_path: Path) -> None:
    assert "no stage has run here" in called("plan", "--errors", *words).stdout
    store = tmp_path / "store"
    store.mkdir()
    figures = {"measured": Figures(seconds=10, peak_bytes=0, disk_bytes=1)}
    forecast = {"predicted": Figures(seconds=9, peak_bytes=0, disk_bytes=1)}
    add_measurement(store, {"title": "merge", "key": "k", "group": "merge", "amount": 1, **figures, **forecast})
    shown = called("plan", "--errors", *words).stdout
    assert "merge" in shown and "10.0%" in shown and "0.0%" in shown
    (row, _) = json.loads(called("plan", "--errors", "--json", *words).stdout)["errors"]
    assert (row["quantity"], row["runs"], round(row["p50"], 3)) == ("seconds", 1, 0.1)


@pytest.mark.parametrize(
    ("name", "value"), [("folder", "is a folder"), ("pipe", "is no regular file"), ("x", "no such")]
)
def test_a_word_that_is_neither_a_plan_nor_an_override_is_named(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=rf"plan .*{name}: {value}.*or overrides key=value"):
        called("run", str(tmp_path / name))


def test_run_takes_a_saved_plan_with_its_overrides_and_no_others(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr("slipway.cli.flows.run_flow", lambda conf, overrides, _: runs.append((conf, overrides)))
    file = str(tmp_path / "night=1.json")
    assert "slipway run" in called("plan", *words, "--out", file).stdout
    called("run", file)
    assert runs == [(ROOT / "conf", words)]
    with pytest.raises(ConfigError, match="none beside the plan"):
        called("run", file, "train.lr=1.0e-5")
    (tmp_path / "rows.jsonl").write_text("changed\n")
    with pytest.raises(ConfigError, match="the world moved"):
        called("run", file)
    assert len(runs) == 1
