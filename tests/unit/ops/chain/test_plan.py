"""A plan as a document, saved, and held against the world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.errors import ConfigError, StateError
from slipway.ops.chain import calls
from slipway.ops.chain.plan import FORMAT, Plan, plan, read_plan, require_unmoved, save
from slipway.ops.chain.replaced import AtTarget
from slipway.ops.chain.walk import PlannedStage
from slipway.pipeline.measurements import Figures, add_measurement
from tests.support.made_chain import PARAMETERS, make_chain


def changed(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_figures_of_earlier_runs_stand_in_the_plan_and_add_up(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    store = Path(config.store.root)
    work = calls.quantize(config, made["merged"], made["data"]).work
    assert work and work.amount == PARAMETERS
    took = {"measured": Figures(seconds=30, peak_bytes=5e8, disk_bytes=2e6)}
    about = {"title": "quantize", "key": "k", "group": work.group}
    add_measurement(store, {**about, "amount": PARAMETERS / 2, **took})
    document = plan(changed(config, "quantize", exclude=["lm_head", "x"]), tmp_path).to_json()
    row = next(stage for stage in document["stages"] if stage["title"] == "quantize")
    assert row["estimate"]["figures"] == {"seconds": 60, "peak_bytes": 5e8, "disk_bytes": 4e6}
    total = document["total"]
    assert total["seconds"] == pytest.approx(60, abs=2) and total["longest"] == "quantize"
    assert "engine candidate" in total["by_formula"] and "quantize" not in total["by_formula"]
    assert total["without_figure"] == ["engine candidate", "evaluate candidate", "gate"], "too small to compare"
    assert not document["nothing_to_do"] and json.loads(json.dumps(document)) == document


def test_a_plan_is_nothing_to_do_only_where_the_engine_serves_already() -> None:
    stages = [PlannedStage("gate", "reused", "")]
    assert Plan("n", stages, AtTarget("local", engine="e"), "e", "", 0).nothing_to_do
    assert not Plan("n", stages, AtTarget("local", engine="another"), "e", "", 0).nothing_to_do
    assert not Plan("n", stages, AtTarget("local"), "", "", 0).nothing_to_do
    assert not Plan("n", stages, AtTarget("local", engine="e", index="i"), "e", "", 0, index="j").nothing_to_do
    assert not Plan("n", [PlannedStage("gate", "runs", "")], AtTarget("local", engine="e"), "e", "", 0).nothing_to_do


def test_margins_that_the_test_rows_cannot_settle_are_said_where_the_data_is(config: Config, tmp_path: Path) -> None:
    rule = {"against": "merged", "metric": "json_exact", "margin": 0.02}
    gate = config.gate.model_validate({**config.gate.model_dump(), "non_inferiority": [rule]})
    config = config.model_copy(update={"gate": gate})
    assert plan(config, tmp_path).warnings == ()
    make_chain(config, tmp_path)
    (warning,) = plan(config, tmp_path).to_json()["warnings"]
    assert "2 test rows are few for a margin of 2 points of json_exact" in warning


def saved_plan(config: Config, tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    save(plan(config, tmp_path), config, tmp_path, Path("conf"), ["train.epochs=2"], file)
    return file


def test_a_saved_plan_holds_while_nothing_moves(config: Config, tmp_path: Path) -> None:
    file = saved_plan(config, tmp_path)
    saved = read_plan(file)
    assert (saved.conf, saved.overrides) == ("conf", ["train.epochs=2"])
    require_unmoved(saved, plan(config, tmp_path).world(config, tmp_path), file)


def test_what_moved_is_named(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_chain(config, tmp_path)
    file = saved_plan(config, tmp_path)
    later = changed(config, "train", lr=1e-6)
    with pytest.raises(ConfigError, match=r"the world moved: config train: \w+ -> \w+; expected"):
        require_unmoved(read_plan(file), plan(later, tmp_path).world(later, tmp_path), file)
    rows = Path(config.data.raw)
    own = tmp_path / "own.jsonl"
    own.write_text(rows.read_text())
    mine = changed(config, "data", raw=str(own))
    file = saved_plan(mine, tmp_path)
    own.write_text(rows.read_text() + rows.read_text().splitlines()[0] + "\n")
    with pytest.raises(ConfigError, match=r"the world moved: data: \w+ -> \w+;"):
        require_unmoved(read_plan(file), plan(mine, tmp_path).world(mine, tmp_path), file)
    monkeypatch.setattr(
        "slipway.ops.chain.plan.at_target", lambda *_, **__: AtTarget("local", release="v2", engine="e" * 64)
    )
    with pytest.raises(ConfigError, match="champion at local: nothing -> v2 eeeeeeeeeeee"):
        require_unmoved(read_plan(file), plan(mine, tmp_path).world(mine, tmp_path), file)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"slipway_plan": 1}', '{"slipway_plan": "x"}'])
def test_a_file_that_is_no_plan_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(StateError, match="plan"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_of_another_version_is_refused(config: Config, tmp_path: Path) -> None:
    file = saved_plan(config, tmp_path)
    file.write_text(file.read_text().replace(f'"slipway_plan": {FORMAT}', '"slipway_plan": 99'))
    with pytest.raises(ConfigError, match="format 99"):
        read_plan(file)
