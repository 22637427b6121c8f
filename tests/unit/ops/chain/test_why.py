"""What differs between a stage's key and the nearest artifact's."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.config.load import Config
from slipway.ops.chain import calls
from slipway.ops.chain.why import Shelf, changes
from slipway.pipeline.stage import stage_spec
from slipway.store.store import Store
from tests.support.made_chain import sealed


def test_none_where_there_is_nothing_to_compare_with(config: Config, tmp_path: Path) -> None:
    assert changes(calls.fetch(config), Shelf(tmp_path)) is None


def test_a_damaged_manifest_is_passed_over(config: Config, tmp_path: Path) -> None:
    call = calls.fetch(config)
    made = sealed(Store(tmp_path), call, {})
    assert changes(call, Shelf(tmp_path)) == []
    (made.path / "manifest.json").write_text("{")
    assert changes(call, Shelf(tmp_path)) is None


def test_a_field_that_an_older_version_did_not_know_is_no_change(config: Config, tmp_path: Path) -> None:
    """Its birth value is what that version did."""
    call = calls.train(config, *_inputs(config, tmp_path))
    made = sealed(Store(tmp_path), call, {})
    manifest = made.path / "manifest.json"
    text = manifest.read_text()
    assert '"upper_layers"' in text
    born = [line for line in text.splitlines() if '"schedule"' in line or '"compile"' in line]
    for line in born:
        text = text.replace(f"{line}\n", "")
    manifest.write_text(text)
    assert changes(call, Shelf(tmp_path)) == []


def test_changed_code_is_named_by_its_modules(config: Config, tmp_path: Path) -> None:
    call = calls.fetch(config)
    made = sealed(Store(tmp_path), call, {})
    manifest = made.path / "manifest.json"
    document = json.loads(manifest.read_text())
    modules = stage_spec("fetch").module_digests()
    assert "stages.fetch" in modules and len(modules) > 10
    document["provenance"] |= {"code": "0" * 64, "modules": {**modules, "stages.fetch": "0" * 12, "weights.gone": "1"}}
    manifest.write_text(json.dumps(document))
    (change,) = changes(call, Shelf(tmp_path)) or []
    assert (change.field, change.before) == ("code of stages.fetch, weights.gone", "0" * 12)
    del document["provenance"]["modules"]
    manifest.write_text(json.dumps(document))
    assert [one.field for one in changes(call, Shelf(tmp_path)) or []] == ["code"], "of an older version: no names"


def test_long_values_are_cut(config: Config, tmp_path: Path) -> None:
    sealed(Store(tmp_path), calls.fetch(config), {})
    other = config.model_copy(update={"model": config.model.model_copy(update={"name": "n" * 500})})
    (change,) = changes(calls.fetch(other), Shelf(tmp_path)) or []
    assert change.field == "name" and len(change.now) == 60 and change.now.endswith("...")


def _inputs(config: Config, tmp_path: Path):
    from slipway.store.artifacts import Checkpoint, Dataset

    base = sealed(Store(tmp_path), calls.fetch(config), {"summary.json": "{}"})
    data = sealed(Store(tmp_path), calls.prepare(config, tmp_path, base), {"summary.json": "{}"})
    assert isinstance(base, Checkpoint) and isinstance(data, Dataset)
    return base, data
