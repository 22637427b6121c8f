"""Which data decides what the next run of a line is tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.config.load import Config
from slipway.deployment.releases import Release
from slipway.errors import SlipwayError
from slipway.ops.chain import calls
from slipway.ops.chain.earlier_data import champions_data, champions_data_or_none, dataset_of, earlier_data, rivals_data
from slipway.ops.chain.plan import plan
from slipway.ops.chain.walk import walk
from slipway.stages.prepare import params_of
from slipway.store.artifacts import Dataset, Engine
from slipway.store.key import key_of
from slipway.store.store import Store
from tests.support.made_chain import DATA, make_chain, sealed


def changed(config: Config, **values: object) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=values)})


def made(config: Config, root: Path, champions: Dataset | None = None) -> Dataset:
    """The data of this config as its stage would leave it."""
    store = Store(Path(config.store.root))
    base = sealed(store, calls.fetch(config), {"summary.json": "{}"})
    files = {**DATA, "name": f"{config.data.seed} {champions.digest if champions else ''}"}
    return sealed(store, calls.prepare(config, root, base, champions), files)


def test_the_first_of_a_line_draws_its_split_and_its_key_is_what_it_was(config: Config, tmp_path: Path) -> None:
    data = made(config, tmp_path)
    assert earlier_data(params_of(config, tmp_path), None) is None
    assert "earlier" not in params_of(config, tmp_path).key_document()
    assert earlier_data(params_of(config, tmp_path), data) is None, "the champion's own version of the data"


def test_other_rows_or_another_split_keep_the_champions_test_rows(config: Config, tmp_path: Path) -> None:
    champions = made(config, tmp_path)
    rows = tmp_path / "more.jsonl"
    rows.write_text(Path(config.data.raw).read_text() + "\n")
    for other in (changed(config, raw=str(rows)), changed(config, seed=3), changed(config, test_fraction=0.3)):
        params = params_of(other, tmp_path)
        earlier = earlier_data(params, champions)
        assert earlier and (earlier.path, earlier.digest) == (str(champions.path), champions.digest)
        document = params.model_copy(update={"earlier": earlier}).key_document()
        assert document["earlier"] == {"digest": champions.digest}, "a store may move"


def test_what_asks_more_of_the_rows_splits_the_same_rows(config: Config, tmp_path: Path) -> None:
    champions = made(config, tmp_path)
    longer = config.model_copy(update={"train": config.train.model_copy(update={"pack_length": 2048})})
    assert params_of(longer, tmp_path) != params_of(config, tmp_path)
    assert earlier_data(params_of(longer, tmp_path), champions) is None


def test_another_draw_asks_for_a_fresh_test_set(config: Config, tmp_path: Path) -> None:
    champions = made(config, tmp_path)
    assert earlier_data(params_of(changed(config, draw=2), tmp_path), champions) is None


def test_a_run_on_the_champions_version_has_its_key_also_where_that_kept_rows(config: Config, tmp_path: Path) -> None:
    first = made(config, tmp_path)
    other = changed(config, seed=3)
    second = made(other, tmp_path, first)
    earlier = earlier_data(params_of(other, tmp_path), second)
    assert earlier and earlier.digest == first.digest
    again = params_of(other, tmp_path).model_copy(update={"earlier": earlier})
    assert again.key_document() == {
        **params_of(other, tmp_path).key_document(),
        "earlier": {"digest": first.digest},
    }
    (first.path / "manifest.json").unlink()
    gone = earlier_data(params_of(other, tmp_path), second)
    assert gone and gone.digest == second.digest, "its own test rows are the same"


@pytest.fixture
def served(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A whole run whose engine serves at the target, by the target's own record of it."""
    chain = make_chain(config, tmp_path)
    agent = Agent(Path(config.deploy.root))
    digests = {"engine": chain["engine"].digest, "dataset": chain["data"].digest, "verdict": chain["verdict"].digest}
    release = {"name": "0001-aaaaaaaa", "path": str(tmp_path), "model": config.line, "created": "", "digests": digests}
    record = Release.model_validate({**release, "outcome": "pass"})
    monkeypatch.setattr("slipway.deployment.state.champion", lambda _: record)
    monkeypatch.setattr("slipway.deployment.state.rival", lambda *_: record)
    return {**chain, "agent": agent, "record": record}


def test_the_champions_data_are_those_that_its_release_names(config: Config, served: dict[str, Any]) -> None:
    assert champions_data(config) == (served["data"], "")
    assert champions_data(changed(config, name="another line")) == (None, "")
    auto = config.model_copy(update={"deploy": config.deploy.model_copy(update={"target": "auto"})})
    assert champions_data(auto) == (None, "")
    (served["data"].path / "manifest.json").unlink()
    data, warning = champions_data(config)
    assert data is None and "drawn anew" in warning and served["data"].digest[:12] in warning


def test_a_damaged_dataset_beside_it_hides_nothing(config: Config, served: dict[str, Any]) -> None:
    broken = Path(config.store.root) / "dataset" / "0"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    assert dataset_of(Path(config.store.root), served["data"].digest) == served["data"]
    assert dataset_of(Path(config.store.root), "") is None


def test_the_gate_reads_them_where_a_rule_is_on_some_rows(
    config: Config, served: dict[str, Any], tmp_path: Path
) -> None:
    engine = Engine(uri=str(tmp_path), digest="e" * 64)
    assert rivals_data(config, engine) is None, "no such rule"
    row = {"rule": "non_inferiority", "metric": "primary", "against": "champion", "margin": 0.1, "rows": "new"}
    gate = type(config.gate).model_validate({**config.gate.model_dump(), "rules": [row]})
    ruled = config.model_copy(update={"gate": gate})
    assert rivals_data(ruled, engine) == served["data"]
    inputs = dict.fromkeys(("candidate", "merged", "champion"), served["verdict"])
    plain = calls.gate(config, inputs, served["quantized"], engine, served["data"])
    with_rows = calls.gate(ruled, inputs, served["quantized"], engine, served["data"], champions=served["data"])
    assert set(with_rows.inputs) - set(plain.inputs) == {"data", "champion_data"}


def test_an_unchanged_run_is_planned_as_it_was_made_and_new_rows_keep_the_old_tests(
    config: Config, served: dict[str, Any], tmp_path: Path
) -> None:
    champions, _ = champions_data(config)
    stages = walk(config, tmp_path, lambda _: {}, [], champions=champions).stages
    assert {stage.state for stage in stages} == {"reused"}
    more = tmp_path / "more.jsonl"
    more.write_text(Path(config.data.raw).read_text() + "\n")
    grown = changed(config, raw=str(more), name="rows")
    planned = {one.title: one for one in plan(grown, tmp_path).stages}
    assert planned["prepare"].state == "runs"
    assert [change.field for change in planned["prepare"].changes if "earlier" in change.field]
    call = calls.prepare(grown, tmp_path, served["base"], champions)
    assert planned["prepare"].key == key_of(call.key_document())


def test_a_target_that_does_not_answer_stops_a_run_and_no_plan(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: object) -> None:
        raise SlipwayError("target", "silent", "an answer", "wake it")

    monkeypatch.setattr("slipway.deployment.state.champion", silent)
    with pytest.raises(SlipwayError, match="silent"):
        champions_data(config)
    assert champions_data_or_none(config) is None
