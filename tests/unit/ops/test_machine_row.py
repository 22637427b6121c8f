"""`slipway probe`: a row of conf/targets gets what its machine was measured to give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from slipway.agent import probe as machine
from slipway.agent.gpu_limits import BLOCK
from slipway.config.load import load_config
from slipway.errors import ConfigError
from slipway.ops.machine_row import probe_machine, written
from slipway.planning.fit import gpu_room
from tests.support.libcuda import compiled_driver
from tests.support.world import ROOT

GPU = {"name": "NVIDIA H100", "driver_version": "580.95", "compute_cap": "9.0", "memory.total": "81559 MiB"}
ROW = """description: One H100 of this machine
name: here
gpus: 1
gpu_memory_gb: 80
reserve_gb: 6  # the driver's
compute_capability: sm_90
formats: [fp8]
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/targets/here.yaml").write_text(ROW)
    return tmp_path / "conf"


def test_the_row_is_written_and_then_counts(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled_driver(tmp_path / "driver", blocks=280)))
    monkeypatch.setattr(machine, "gpus", lambda: [GPU])
    probed = probe_machine(conf, "here", [f"deploy.root={tmp_path}/target"])
    assert (probed.usable_gb, probed.before_gb) == (75.1, 74) and pytest.approx(75.16e9, rel=1e-3) == 280 * BLOCK
    text = (conf / "targets/here.yaml").read_text()
    assert "reserve_gb: 6  # the driver's\nusable_gb: 75.1  # measured by `slipway probe` on 2" in text
    target = load_config(conf, ["layers.target=targets/here"]).target
    assert gpu_room(target) == 75.1e9
    assert written(text, 70.5).count("usable_gb") == 1


def test_another_machine_a_row_without_a_gpu_and_no_row_are_refused(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = [f"deploy.root={tmp_path}/target"]
    monkeypatch.setattr(machine, "gpus", lambda: [GPU | {"compute_cap": "12.1"}])
    with pytest.raises(ConfigError, match=r"machine of target here: 1 x NVIDIA H100, sm_121"):
        probe_machine(conf, "here", root)
    with pytest.raises(ConfigError, match="target local: no GPU"):
        probe_machine(conf, "local", root)
    with pytest.raises(ConfigError, match="row of conf/targets: moon; expected one of dgx-b200"):
        probe_machine(conf, "moon", root)
    assert yaml.safe_load((conf / "targets/here.yaml").read_text()).get("usable_gb") is None


def test_a_row_that_is_not_one_key_a_line_is_left_alone() -> None:
    with pytest.raises(ConfigError, match="one key a line"):
        written("{name: x, reserve_gb: 6}\n", 3.0)
