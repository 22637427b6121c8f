"""An engine of a Spark does not go to an H100, and nothing is asked of the target for that to be known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.layers import read_mapping
from slipway.config.load import section
from slipway.config.target import TargetConfig
from slipway.deployment.engine_row import require_row, source_row
from slipway.errors import ConfigError, StateError
from slipway.store.artifacts import Engine
from slipway.store.store import Store, load
from tests.support.shippable import PLAN

SLURM = DeployConfig.model_validate({"target": "dgx-slurm", "kind": "slurm", "slurm": {}})


def row(name: str) -> TargetConfig:
    """A row of conf/targets/."""
    target: TargetConfig = section("serving", read_mapping(Path(f"conf/targets/{name}.yaml")), ())
    return target


def engine(tmp_path: Path, serving: object) -> Engine:
    """A vLLM engine made for a Spark, as its stage recorded it."""
    store = Store(tmp_path / "store")
    provenance = {"stage": "engine", "inputs": {}, "params": {"serving": serving}}
    with store.create(Engine, "k", provenance) as out:
        plan = PLAN.model_copy(update={"weights": "nvfp4", "computes": "W4A4 NVFP4"})
        (out / "serve.json").write_text(json.dumps(plan.model_dump(mode="json")))
    return load(Engine, store.dir("engine", "k"))


def test_what_was_made_for_a_spark_stays_on_sparks(tmp_path: Path) -> None:
    made = engine(tmp_path, row("spark").model_dump(mode="json"))
    require_row(made, row("spark"), SLURM)
    with pytest.raises(ConfigError, match=r"run again quantize, engine, evaluate, gate: `slipway run .*formats/fp8`"):
        require_row(made, row("dgx-h100"), SLURM)
    require_row(made, row("dgx-h100"), DeployConfig())  # on this machine its own checks decide
    require_row(made, row("local"), SLURM)  # nobody chose a row


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert source_row(engine(tmp_path / "a", "spark"), row("spark")) == row("spark")
    with pytest.raises(StateError, match="serving"):
        source_row(engine(tmp_path / "b", {"gpus": -1}), row("spark"))
