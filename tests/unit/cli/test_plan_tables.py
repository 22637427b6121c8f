"""A plan as people read it: durations, reasons, and rows that a run fills."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.plan_tables import MOST_CHANGES, followed_rows, show_plan, why_of
from slipway.cli.progress import duration
from slipway.ops.chain.placement import Move
from slipway.ops.chain.plan import Plan
from slipway.ops.chain.replaced import AtTarget
from slipway.ops.chain.walk import PlannedStage
from slipway.ops.preflight.retrieval_checks import RetrievalForecast
from slipway.pipeline.ensure import Made
from slipway.planning.retrieval_memory import retrieval_memory
from slipway.store.artifacts import Artifact

FIGURES = {"figures": {"seconds": 61, "peak_bytes": 5e8, "disk_bytes": 2e6}, "bound": None, "runs": 3}

V1 = {"release": "v1", "line": "l", "requests": "none waits"}


def stage(title: str, state: str, **more: Any) -> dict[str, Any]:
    planned = PlannedStage(title, "runs", "")
    return {**asdict(planned), "state": state, **more}


def made(*, reused: bool = False) -> Made:
    return Made(Artifact(uri=str(Path("x")), digest="d"), reused, "", 65.2, 400_000_000)


def test_reasons_are_bounded_and_a_killed_attempt_is_named() -> None:
    changes = [{"field": f"f{n}", "before": "1", "now": "2"} for n in range(MOST_CHANGES + 2)]
    text = why_of(stage("train", "runs", changes=changes, resumes=True))
    assert text.startswith("f0: 1 -> 2; f1") and text.endswith("and 2 more; goes on from a killed attempt")


def test_rows_are_filled_as_stages_end_and_one_that_nobody_planned_comes_last() -> None:
    document = {
        "stages": [stage("fetch", "reused"), stage("train", "runs", estimate=FIGURES), stage("gate", "follows")]
    }
    rows = followed_rows(document, {"fetch": made(reused=True), "train": made(), "evaluate best": made()})
    assert [row["stage"] for row in rows] == ["fetch", "train", "gate", "evaluate best"]
    assert [row["actual"] for row in rows] == ["reused", "1 min 5 s, 400.0 MB memory", "", "1 min 5 s, 400.0 MB memory"]
    assert [row["planned"] for row in rows] == ["", "1 min 1 s, 500.0 MB memory", "no figure", ""]
    assert rows[-1]["plan"] == "not planned"


@pytest.mark.parametrize(
    ("target", "nothing", "text"),
    [
        ({"unasked": "no route"}, False, "t: not asked: no route"),
        ({"release": "v1"}, True, "t: v1 serves this engine already: nothing to do"),
        ({}, False, "t: nothing serves; a passing candidate serves (r)"),
        (V1, False, "v1 (l) serves; a passing candidate replaces it (r); none waits"),
        ({**V1, "action": "keep"}, False, "v1 (l) serves; it stays (r)"),
    ],
)
def test_the_target_in_a_sentence(
    target: dict[str, str], nothing: bool, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at = AtTarget(**{"target": "t", "action": "replace", "reason": "r", **target})
    document = {**Plan("n", [], at, "", "", 0, ["the gate"]).to_json(), "nothing_to_do": nothing}
    show_plan(document, [])
    shown = capsys.readouterr().out
    assert text in shown and shown.endswith("the gate\n")


def test_machines_and_what_crosses_the_link_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    moves = (Move("base", "there", 3_000_000),)
    stages = [PlannedStage("train", "runs", "new", machine="spark", moves=moves), PlannedStage("gate", "runs", "new")]
    show_plan(Plan("n", stages, AtTarget("t"), "", "", 0).to_json(), [])
    shown = capsys.readouterr().out
    assert "on spark; new; sends base, 3.0 MB" in shown and "on this machine; new" in shown
    assert "3.0 MB over the link" in shown


def test_what_retrieval_takes_is_a_line_and_so_is_that_nobody_can_tell(capsys: pytest.CaptureFixture[str]) -> None:
    memory = retrieval_memory(parameters=109_482_240, dimension=768, chunks=2_000, text_bytes=5e5)
    for forecast in (RetrievalForecast(memory, 17.5e9), RetrievalForecast(None, unknown="no corpus")):
        show_plan(Plan("n", [], AtTarget("t"), "", "", 0, retrieval=forecast).to_json(), [])
    shown = capsys.readouterr().out
    assert "embedder 469.9 MB, index of about 2,000 chunks 13.2 MB, program 300.0 MB: 783.2 MB" in shown
    assert "; with the engine 18.3 GB" in shown and "no figure: no corpus" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (451, "7 min 31 s"), (11100, "3 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
