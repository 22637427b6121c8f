"""The workspace is all that a stage knows of the pipeline."""

from __future__ import annotations

import pytest

from slipway.pipeline.stage import STAGES
from slipway.store.code_version import reached


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reaches_its_workspace_and_nothing_that_runs_stages(stage: str) -> None:
    modules = reached(f"stages.{stage}")
    assert [m for m in modules if m.startswith("pipeline")] == ["pipeline", "pipeline.workspace"]
    assert [m for m in modules if m.startswith("stages.")] == [f"stages.{stage}"]
