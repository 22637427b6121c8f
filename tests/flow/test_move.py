"""A clone is renamed: what was made in it is reused, opens and goes on, under the new name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.pipeline.ensure import Made, ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.stages import fetch, merge, prepare, quantize, train_cpu
from slipway.store.artifacts import Artifact
from slipway.store.lineage import lineage
from slipway.store.store import Store
from slipway.weights.checkpoint import is_virtual, open_checkpoint
from tests.support.world import small_config


def chain(config: Config, folder: Path) -> dict[str, Made]:
    """The stages from the base to the quantized model, each in its own process."""
    made: dict[str, Made] = {}

    def make(call: StageCall) -> Artifact:
        made[call.stage] = ensure(call, Store(folder / "store"), folder / "cache", LocalRunner(), lambda event: None)
        return made[call.stage].artifact

    base = make(StageCall("fetch", {}, fetch.params_of(config), extra=fetch.key_extra(config)))
    data = make(StageCall("prepare", {"base": base}, prepare.params_of(config, folder)))
    adapter = make(StageCall("train_cpu", {"base": base, "data": data}, train_cpu.params_of(config)))
    merged = make(StageCall("merge", {"base": base, "adapter": adapter}, merge.params_of(config)))
    make(StageCall("quantize", {"checkpoint": merged, "data": data}, quantize.params_of(config)))
    return made


@pytest.mark.timeout(1200)
def test_a_renamed_clone_reuses_everything_and_goes_on(tmp_path: Path) -> None:
    small = {"train.max_steps": 1, "quantize.method": "max"}
    first = chain(small_config(tmp_path / "clone", "sqlite:///none.db", 1, **small), tmp_path / "clone")
    assert not any(made.reused for made in first.values())
    assert is_virtual(first["merge"].artifact)

    (tmp_path / "clone").rename(tmp_path / "renamed clone")
    folder = tmp_path / "renamed clone"
    config = small_config(folder, "sqlite:///none.db", 1, **small)
    again = chain(config, folder)
    assert {stage: made.why.split(" (")[0] for stage, made in again.items()} == dict.fromkeys(
        first, "same inputs, params and code"
    )
    assert {s: m.artifact.digest for s, m in again.items()} == {s: m.artifact.digest for s, m in first.items()}
    merged = again["merge"].artifact
    source = open_checkpoint(merged)
    assert all(source.read(name).isfinite().all() for name in source.names()[:3])
    quantized = again["quantize"].artifact
    assert [a.stage for a in lineage(quantized)][:2] == ["quantize", "merge"]
    assert {a.stage for a in lineage(quantized)} == {"quantize", "merge", "fetch", "prepare", "train_cpu"}

    # Another stage on what has moved really reads it: the virtual checkpoint, its base by reference, its adapter.
    params = config.quantize.model_copy(update={"format": "fp8-dynamic"})
    call = StageCall("quantize", {"checkpoint": merged, "data": None}, params)
    other = ensure(call, Store(folder / "store"), folder / "cache", LocalRunner(), lambda event: None)
    assert not other.reused
    assert other.artifact.summary["format"] == "fp8-dynamic"
    texts = [p.read_text() for p in (folder / "store").rglob("*.json")]
    assert [t for t in texts if str(tmp_path / "clone") in t and '"virtual' in t] == []
    assert json.loads((merged.path / "virtual.json").read_text())["base"]["uri"].startswith("checkpoint/")
