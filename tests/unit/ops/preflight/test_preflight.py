"""The table of a whole run: which machine is asked what, and that a silent one is a row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.agent.probe import look
from slipway.config.load import load_config
from slipway.errors import ResourceError
from slipway.ops.chain.estimates import Estimate
from slipway.ops.chain.walk import PlannedStage
from slipway.ops.preflight.finding import HERE
from slipway.ops.preflight.preflight import needs_of, preflight
from slipway.pipeline.measurements import Figures

THERE = "ssh://me@box"
TRAIN = PlannedStage("train", "runs", "", estimate=Estimate(Figures(9, 5e9, 2e9), None, 1), machine=THERE)
MERGE = PlannedStage("merge", "follows", "", estimate=Estimate(Figures(9, 7e9, 3e9), None, 1), machine=THERE)
ENGINE = PlannedStage("engine candidate", "runs", "")
REUSED = PlannedStage("quantize", "reused", "")


@pytest.fixture
def config(tmp_path: Path) -> Any:
    folders = (f"store.root={tmp_path}/store", f"store.cache={tmp_path}/cache", f"deploy.root={tmp_path}/target")
    return load_config(overrides=[*folders, "deploy.ports=[8391,8399]"])


def test_needs_are_the_sum_of_disk_and_the_largest_memory_of_each_machine(config: Any) -> None:
    there = needs_of([TRAIN, MERGE, ENGINE], THERE, config)
    assert (there.disk, there.memory, there.memory_by, there.unmeasured) == (5e9, 7e9, "merge", ())
    here = needs_of([TRAIN, MERGE, ENGINE], "", config)
    assert (here.disk, here.memory, here.unmeasured) == (0, 0, ("engine candidate",))


def test_both_machines_stand_in_one_table(config: Any, tmp_path: Path) -> None:
    machine: Any = SimpleNamespace(address=THERE, look=lambda: look(tmp_path, ()))
    rows = preflight(config, [TRAIN, MERGE, ENGINE, REUSED], None, machine)
    named = {(row.machine, row.name) for row in rows}
    assert {(HERE, "disk"), (HERE, "deploy ports"), (HERE, "row lengths"), (HERE, "engine tools")} <= named
    assert {(THERE, "disk"), (THERE, "memory"), (THERE, "clock"), (THERE, "login, host key and Python")} <= named
    memory = next(row for row in rows if (row.machine, row.name) == (THERE, "memory"))
    assert memory.finding.startswith("merge takes 7.0 GB")


def test_a_machine_that_does_not_answer_is_a_row_beside_the_others(config: Any) -> None:
    def silent() -> None:
        raise ResourceError(f"login at {THERE}", "Host key verification failed.", "ssh that logs in", "`ssh box true`")

    machine: Any = SimpleNamespace(address=THERE, look=silent)
    rows = preflight(config, [TRAIN], None, machine)
    (row,) = [row for row in rows if row.machine == THERE]
    assert row.status == "fail" and "Host key verification failed" in row.finding and "ssh box true" in row.advice
    assert any(row.machine == HERE for row in rows)


def test_what_is_reused_needs_nothing(config: Any) -> None:
    rows = {row.name: row for row in preflight(config, [REUSED], None, None)}
    assert rows["disk"].finding.endswith("0.0 GB to write") and "engine tools" not in rows


def test_a_release_is_the_weights_and_one_index(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[float] = []

    def asked(_: Any, size: float) -> list[Any]:
        sizes.append(size)
        return []

    monkeypatch.setattr("slipway.ops.preflight.preflight.target_checks", asked)
    made = {"index window": 3e6, "index fixed-256": 2e6, "quantize": 1e9, "search_eval window": 5e6, "merge": 2e9}
    stages = [PlannedStage(one, "runs", "", estimate=Estimate(Figures(1, 1, n), None, 1)) for one, n in made.items()]
    preflight(config, stages, None, None)
    assert sizes == [1e9 + 3e6]
