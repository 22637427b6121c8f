"""The parts of a target: whose engines they are, by its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.agent.engines import Engines
from slipway.agent.parts import parts_of
from slipway.agent.paths import TargetPaths
from slipway.agent.settings import Settings
from slipway.agent.slurm.engines import SlurmEngines
from slipway.errors import ConfigError


def test_engines_are_this_machines_or_slurms(tmp_path: Path) -> None:
    paths = TargetPaths(tmp_path)
    assert type(parts_of(paths).engines) is Engines
    slurm = replace(Settings(), slurm={"partition": "gpu"})
    assert isinstance(parts_of(paths, slurm).engines, SlurmEngines)


def test_an_unknown_key_of_slurm_is_refused_and_a_proxy_only_when_it_is_needed(tmp_path: Path) -> None:
    paths = TargetPaths(tmp_path)
    with pytest.raises(ConfigError, match="partitoin"):
        parts_of(paths, replace(Settings(), slurm={"partitoin": "gpu"}))
    assert parts_of(paths).switcher.describe()["address"] is None
