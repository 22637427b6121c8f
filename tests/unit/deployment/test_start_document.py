"""A bundle's start plan as its target's agent takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.agent.start_plan import parse_start
from slipway.deployment.start_document import start_document
from slipway.errors import EngineError, StateError
from slipway.store.artifacts import Checkpoint, Engine
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from tests.support.scripted_server import bundle
from tests.support.target import make_engine


def test_a_bundle_of_before_there_was_a_plan_is_started_too(store: Store) -> None:
    engine = make_engine(store, {"answer": "x"})
    assert "argv" not in json.loads((engine.path / "serve.json").read_text())
    start = parse_start(start_document(engine.path), "start")
    assert start.argv[0] == "{bundle}/server"
    assert start.key_variables == ("LLAMA_API_KEY",)
    assert start.environment["GOMP_SPINCOUNT"] == "1000"
    assert (start.model, start.image) == ("", "")


def test_a_checkpoint_outside_of_the_bundle_is_named_where_the_bundle_stays(store: Store) -> None:
    with store.create(Checkpoint, "c", {}) as out:
        (out / "model.safetensors").write_text("w")
    checkpoint = load(Checkpoint, store.dir("checkpoint", "c"))
    source = make_engine(store, {"answer": "x"}).path
    with store.create(Engine, "e", {"inputs": {"checkpoint": reference_to(checkpoint, store.root)}}) as out:
        for file in ("model.gguf", "server", "serve.json"):
            (out / file).write_bytes((source / file).read_bytes())
    folder = store.dir("engine", "e")
    assert start_document(folder)["model"] == str(checkpoint.path)
    assert "model" not in start_document(folder, here=False)


def test_a_bundle_for_another_cpu_is_refused_here_and_not_elsewhere(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b")
    plan = json.loads((folder / "serve.json").read_text())
    (folder / "serve.json").write_text(json.dumps({**plan, "cpu": "another"}))
    with pytest.raises(EngineError, match="compiled for CPU another"):
        start_document(folder)
    assert parse_start(start_document(folder, here=False), "start").argv


def test_the_longest_measured_start_bounds_the_next_one(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b")
    assert "measured_start_s" not in start_document(folder)
    boots = [
        {"start": start, "ready_s": seconds, "steps": {}, "first_answer_s": 1, "tokens_per_s": 1}
        for start, seconds in (("cold", 480.0), ("warm", 60.0))
    ]
    (folder / "boots.json").write_text(json.dumps(boots))
    assert parse_start(start_document(folder), "start").limit_s(None) == 1440
    (folder / "boots.json").write_text("{}")
    with pytest.raises(StateError, match=r"boots\.json"):
        start_document(folder)
