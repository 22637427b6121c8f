"""Manifests that others have damaged: whoever reads one names it; the store makes the artifact anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.errors import StateError
from slipway.store.artifacts import MANIFEST, Engine, Evaluation
from slipway.store.lineage import lineage
from slipway.store.manifest import read_manifest
from slipway.store.store import Store, load, verify
from tests.support.garbage import GARBAGE, Garbage
from tests.support.record import put


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    return Store(tmp_path / "store")


@pytest.fixture
def engine(store: Store) -> Engine:
    return put(store, Engine, "engine", "e", {"model.gguf": "weights"})


def test_a_manifest_is_read_whole(engine: Engine) -> None:
    manifest = read_manifest(engine.path)
    assert manifest["schema"] == 1
    assert [entry["path"] for entry in manifest["files"]] == ["model.gguf"]
    assert manifest["provenance"]["stage"] == "engine"


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
def test_a_damaged_manifest_is_one_error_that_names_it(store: Store, engine: Engine, garbage: Garbage) -> None:
    evaluation = put(store, Evaluation, "evaluate", "v", {"items.jsonl": ""}, engine=engine)
    garbage.put(engine.path / MANIFEST)
    with garbage.around():
        for read in (
            lambda: load(Engine, engine.path),
            lambda: engine.manifest,
            lambda: lineage(evaluation),
        ):
            with pytest.raises(StateError, match=MANIFEST) as caught:
                read()
            assert caught.value.exit_code == 2
            assert "run again" in caught.value.next_step
        assert "manifest unreadable" in (verify(engine.path) or "")


@pytest.mark.parametrize("garbage", [g for g in GARBAGE if g.name != "no permission"], ids=lambda g: g.name)
def test_an_artifact_with_a_damaged_manifest_is_made_anew(store: Store, engine: Engine, garbage: Garbage) -> None:
    garbage.put(engine.path / MANIFEST)
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.find(Engine, "e") is None
    assert put(store, Engine, "engine", "e", {"model.gguf": "weights"}).digest == engine.digest


def test_an_input_without_a_digest_is_no_provenance(engine: Engine) -> None:
    file = engine.path / MANIFEST
    document = json.loads(file.read_text())
    document["provenance"]["inputs"] = {"checkpoint": {"uri": "x"}}
    file.write_text(json.dumps(document))
    with pytest.raises(StateError, match=r"provenance\.inputs\.checkpoint"):
        load(Engine, engine.path)
