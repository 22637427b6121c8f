"""The unit of a target: its names are checked, and what the target replaces is left for it."""

from __future__ import annotations

import pytest

from slipway.agent.set_up import _UNIT
from slipway.agent.units import PYTHON, ROOT, units
from slipway.errors import ConfigError


def test_a_unit_runs_the_watch_and_leaves_the_engine_alone() -> None:
    ((name, text),) = units("spark-1").items()
    assert _UNIT.fullmatch(name)
    assert f"ExecStart={PYTHON} -I -S {ROOT}/slipway-target --root {ROOT} watch\n" in text
    assert "KillMode=process\n" in text
    assert "spark-1" in text


@pytest.mark.parametrize("name", ["", "Spark", "a b", "x\nExecStart=/bin/sh", "-a", "a" * 42])
def test_a_name_that_no_unit_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="small letters"):
        units(name)
