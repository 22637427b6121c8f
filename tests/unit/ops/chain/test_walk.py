"""Which stages a run would reuse and make, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.errors import DataError
from slipway.ops.chain.walk import PlannedStage, walk
from slipway.pipeline.ensure import work_folder
from slipway.store.artifacts import Engine
from slipway.store.store import Store
from tests.support.made_chain import make_chain, sealed

TITLES = ["fetch", "prepare", "train", "merge", "quantize", "engine candidate", "engine base", "evaluate base"]
TITLES += ["engine merged", "evaluate merged", "evaluate candidate", "gate"]


def walked(config: Config, root: Path, **rivals: Engine) -> dict[str, PlannedStage]:
    return {stage.title: stage for stage in walk(config, root, lambda _: rivals, []).stages}


def changed(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_before_the_first_run_what_has_inputs_runs_and_the_rest_follows(config: Config, tmp_path: Path) -> None:
    stages = walked(config, tmp_path)
    assert list(stages) == TITLES
    assert (stages["fetch"].state, stages["fetch"].why) == ("runs", "never made here")
    assert {stage.state for title, stage in stages.items() if title != "fetch"} == {"follows"}
    assert stages["train"].why == "made anew: base, data"
    by = {title: stage.estimate.by for title, stage in stages.items() if stage.estimate}
    assert by["merge"] == "formula" and "gate" not in by and set(by.values()) == {"formula"}


def test_a_whole_chain_is_reused_with_its_engine(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    chain = walk(config, tmp_path, lambda _: {}, [])
    assert [stage.title for stage in chain.stages] == TITLES
    assert {stage.state for stage in chain.stages} == {"reused"}
    assert chain.candidate == made["engine"]


def test_a_changed_param_is_named_with_both_values_and_what_follows_runs(config: Config, tmp_path: Path) -> None:
    make_chain(config, tmp_path)
    stages = walked(changed(config, "quantize", exclude=["lm_head", "x"]), tmp_path)
    assert [str(change) for change in stages["quantize"].changes] == ['exclude: ["lm_head"] -> ["lm_head", "x"]']
    assert stages["quantize"].state == "runs" and stages["merge"].state == "reused"
    assert stages["engine candidate"].state == "follows" and stages["engine base"].state == "reused"
    assert stages["gate"].state == "follows"


def test_a_param_that_another_stage_reads_too_is_named_where_it_acts_first(config: Config, tmp_path: Path) -> None:
    """Without GPTQ nothing is calibrated, and prepare has no such need to check."""
    make_chain(config, tmp_path)
    stages = walked(changed(config, "quantize", method="max"), tmp_path)
    assert [str(change) for change in stages["prepare"].changes] == ["needs.calibration: [16, 512] -> null"]
    assert stages["quantize"].state == "follows"


def test_the_nearest_artifact_explains(config: Config, tmp_path: Path) -> None:
    """Two earlier ones: the one that differs in a field explains, not the one that differs in two."""
    make_chain(config, tmp_path)
    make_chain(changed(config, "train", lr=1e-5, rank=2), tmp_path)
    stages = walked(changed(config, "train", lr=2e-5), tmp_path)
    (change,) = stages["train"].changes
    assert (change.field, change.now) == ("lr", "2e-05")


def test_an_artifact_that_lost_bytes_is_made_again(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    (made["quantized"].path / "quantized").write_text("cut")
    stages = walked(config, tmp_path)
    assert (stages["quantize"].state, stages["quantize"].why) == ("runs", "damaged or removed")
    assert stages["quantize"].changes == ()


def test_a_killed_attempt_is_said_to_go_on(config: Config, tmp_path: Path) -> None:
    first = walked(config, tmp_path)["fetch"]
    assert not first.resumes
    work_folder(Store(Path(config.store.root)), "fetch", first.key).mkdir(parents=True)
    assert walked(config, tmp_path)["fetch"].resumes


def test_what_serves_is_evaluated_too(config: Config, tmp_path: Path) -> None:
    make_chain(config, tmp_path)
    stages = walked(config, tmp_path, champion=Engine(uri=str(tmp_path), digest="c" * 64))
    assert list(stages)[-2:] == ["evaluate champion", "gate"]
    assert stages["evaluate champion"].state == "runs" and stages["gate"].state == "follows"


def test_data_that_dvc_makes_again_comes_first(config: Config, tmp_path: Path, monkeypatch) -> None:
    make_chain(config, tmp_path)
    monkeypatch.setattr("slipway.data.dvc_changes.changes_since_lock", lambda *_: ["raw: a.py changed", "splits: x"])
    stages = walked(config, tmp_path)
    assert (stages["prepare"].state, stages["prepare"].why) == ("runs", "dvc repro: raw: a.py changed, and 1 more")
    assert stages["train"].state == "follows"


def test_what_refuses_the_run_refuses_the_plan(config: Config, tmp_path: Path) -> None:
    make_chain(config, tmp_path)
    with pytest.raises(DataError, match="an existing file"):
        walked(changed(config, "data", raw=str(tmp_path / "nowhere.jsonl")), tmp_path)


def test_an_artifact_of_an_older_version_is_compared_as_it_was_written(config: Config, tmp_path: Path) -> None:
    from slipway.ops.chain import calls

    store = Store(Path(config.store.root))
    call = calls.fetch(config)
    made = sealed(store, call, {"summary.json": "{}"})
    manifest = made.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"source": "directory"', '"source": "carrier pigeon"'))
    made.path.rename(made.path.with_name("0" * 64))
    changes = {change.field: change.before for change in walked(config, tmp_path)["fetch"].changes}
    assert changes["source"] == '"carrier pigeon"'
