from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.engines.bundle import SERVE, model_of, read_plan
from slipway.errors import EngineError
from slipway.store.artifacts import Engine
from slipway.store.placed import PLACED, Placed
from slipway.store.store import seal
from tests.support.scripted_server import bundle


def test_a_bundle_is_read_as_it_was_planned(tmp_path: Path) -> None:
    plan = read_plan(bundle(tmp_path / "b", slots=4))
    assert (plan.kind, plan.limits.slots, plan.limits.context) == ("llama.cpp", 4, 512)


def test_the_model_is_the_bundles_own_or_what_it_was_made_from(tmp_path: Path) -> None:
    made = bundle(tmp_path / "store" / "engine" / "b")
    assert model_of(made) == made
    seal(
        made, Engine.kind, "k", {"inputs": {"checkpoint": {"uri": "checkpoint/c", "kind": "checkpoint", "digest": "d"}}}
    )
    (tmp_path / "store" / "checkpoint" / "c").mkdir(parents=True)
    assert model_of(made) == tmp_path / "store" / "checkpoint" / "c"
    (made / "model").mkdir()
    assert model_of(made) == made / "model"


def test_a_config_file_of_the_plan_need_not_be_in_the_bundle(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    plan = read_plan(made)
    argv = [*plan.argv, "{bundle}/serve.yaml"]
    (made / SERVE).write_text(plan.model_copy(update={"argv": argv, "files": {"serve.yaml": "a: 1"}}).model_dump_json())
    assert read_plan(made).argv == argv
    (made / SERVE).write_text(plan.model_copy(update={"argv": argv}).model_dump_json())
    with pytest.raises(EngineError, match=r"serve\.yaml is missing"):
        read_plan(made)


@pytest.mark.parametrize("name", ["serve.json", "model.gguf", "llama-server"])
def test_an_incomplete_bundle_names_what_is_missing(tmp_path: Path, name: str) -> None:
    made = bundle(tmp_path / "b")
    (made / name).unlink()
    with pytest.raises(EngineError, match=name):
        read_plan(made)


def test_a_bundle_for_another_cpu_is_refused_before_it_crashes(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    doc = json.loads((made / "serve.json").read_text())
    (made / "serve.json").write_text(json.dumps({**doc, "cpu": "0123456789ab"}))
    with pytest.raises(EngineError, match="0123456789ab"):
        read_plan(made)
    assert read_plan(made, here=False).cpu == "0123456789ab"


@pytest.mark.parametrize("text", ["{", '{"model": "m"}', "[]", "null", '{"server": 1}', "[" * 100000])
def test_a_damaged_serve_config_is_named(tmp_path: Path, text: str) -> None:
    made = bundle(tmp_path / "b")
    (made / "serve.json").write_text(text)
    with pytest.raises(EngineError, match=r"serve\.json"):
        read_plan(made)


def test_a_file_that_lies_on_another_machine_is_named_by_who_serves_here(tmp_path: Path) -> None:
    whole = bundle(tmp_path / "b")
    plan = json.loads((whole / SERVE).read_text())
    plan["argv"] = [*plan["argv"], "{bundle}/weights.gguf"]
    (whole / SERVE).write_text(json.dumps(plan))
    record = Placed(address="ssh://me@spark", folder="/x/y", python="/x/python", files=("weights.gguf",))
    (whole / PLACED).write_text(record.model_dump_json())
    assert "{bundle}/weights.gguf" in read_plan(whole, here=False).argv
    with pytest.raises(EngineError, match=r"weights.gguf lies on ssh://me@spark only"):
        read_plan(whole)
