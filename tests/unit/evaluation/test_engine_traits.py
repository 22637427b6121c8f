"""Traits of an evaluated engine, out of manifests."""

from __future__ import annotations

import shutil
from pathlib import Path

from slipway.evaluation.engine_traits import engine_digest, traits_of
from slipway.store.artifacts import Adapter, Checkpoint, Dataset, Engine, Evaluation, Quantized
from slipway.store.store import Store
from tests.support.record import put, speed


def evaluation(store: Store, *, timed: bool = True) -> tuple[Evaluation, Dataset, Engine]:
    """Trained on one data version, tested on a newer one."""
    old = put(store, Dataset, "prepare", "old", {"card.md": "old"})
    new = put(store, Dataset, "prepare", "new", {"card.md": "new"})
    adapter = put(store, Adapter, "train", "a", {"summary.json": {}}, data=old)
    merged = put(store, Checkpoint, "merge", "m", {"summary.json": {}}, adapter=adapter)
    quantized = put(store, Quantized, "quantize", "q", {"summary.json": {}}, merged=merged)
    files = {"model.gguf": "x" * 1000, "summary.json": {"boot_speed_spread": 0.04}}
    engine = put(store, Engine, "engine", "e", files, checkpoint=quantized)
    files = {"metrics.json": {}, **({"speed.json": speed(70.0)} if timed else {})}
    return put(store, Evaluation, "evaluate", "v", files, engine=engine, data=new), old, engine


def test_training_data_bytes_and_speed_are_those_of_the_engine(tmp_path: Path) -> None:
    measured, data, engine = evaluation(Store(tmp_path))
    traits = traits_of(measured)
    assert traits.data == data.digest
    assert engine_digest(measured) == engine.digest
    assert traits.size == sum(p.stat().st_size for p in engine.path.iterdir() if p.name != "manifest.json")
    assert sorted(traits.speed.runs) == [1, 4] and traits.speed.spread == 0.04


def test_what_was_deleted_or_not_measured_is_unknown(tmp_path: Path) -> None:
    measured, _, engine = evaluation(Store(tmp_path), timed=False)
    shutil.rmtree(engine.path)
    traits = traits_of(measured)
    assert (traits.data, traits.size, traits.speed.runs, traits.speed.spread) == (None, None, {}, None)
